"""Pushing: only what is missing, layers compressed once, uploads that outlast cuts, and the manifest last."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard

from launcher.cache import Cache
from launcher.errors import IntegrityError, TargetError, UsageError
from launcher.lock.model import Artifact, Base, Blob
from launcher.registry import packing, session, upload
from launcher.registry.push import Pushed, push
from launcher.registry.reference import Reference, parse
from tests.registry_server import Registry, serve, sha

LOGIN = ("ada", "c4n4ry-s3cret")


@dataclass(frozen=True)
class Layer:
    name: str
    diff_id: str
    size: int
    path: Path


@dataclass(frozen=True)
class Image:
    id: str
    config: bytes
    layers: tuple[Layer, ...]


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


BIG, SMALL = noise(1, 6_000_000), b"small" * 1000


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FIRST_PAUSE_S", 0.0)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve() as running:
        yield running


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "registries.conf").touch()
    return {"HOME": str(tmp_path), "CONTAINERS_REGISTRIES_CONF": str(tmp_path / "registries.conf")}


@pytest.fixture
def image(cache: Cache) -> Image:
    return make(cache, BIG, SMALL)


def make(cache: Cache, *contents: bytes) -> Image:
    layers = tuple(keep(cache, f"layer {number}", content) for number, content in enumerate(contents))
    told = {"rootfs": {"diff_ids": [layer.diff_id for layer in layers]}, "os": "linux"}
    config = json.dumps(told).encode()
    return Image(id=sha(config), config=config, layers=layers)


def keep(cache: Cache, name: str, content: bytes) -> Layer:
    with cache.scratch() as scratch:
        (scratch / "x").write_bytes(content)
        return Layer(name, sha(content), len(content), cache.adopt("blobs", sha(content), scratch / "x"))


def target(registry: Registry, name: str = "team/x:1") -> Reference:
    return parse(f"{registry.host}/{name}")


def manifest(registry: Registry, tag: str = "1") -> dict[str, list[dict[str, str]]]:
    return dict(json.loads(registry.manifests[tag][1]))


def fates(pushed: Pushed) -> list[str]:
    return [blob.fate for blob in pushed.blobs]


@pytest.mark.parametrize(
    ("compression", "kind", "unpack"),
    [
        ("auto", "+gzip", gzip.decompress),
        ("gzip", "+gzip", gzip.decompress),
        ("zstd", "+zstd", lambda data: zstandard.ZstdDecompressor().decompress(data)),
        ("none", "", lambda data: data),
    ],
)
def test_pushes_an_image(
    registry: Registry,
    cache: Cache,
    env: dict[str, str],
    image: Image,
    compression: packing.Compression,
    kind: str,
    unpack: Callable[[bytes], bytes],
) -> None:
    pushed = push(image, target(registry), cache, compression=compression, environ=env)
    told = manifest(registry)
    assert registry.blobs[image.id] == image.config
    assert {layer["mediaType"] for layer in told["layers"]} == {f"application/vnd.oci.image.layer.v1.tar{kind}"}
    digests = [layer["digest"].removeprefix("sha256:") for layer in told["layers"]]
    assert [unpack(registry.blobs[digest]) for digest in digests] == [BIG, SMALL]
    assert pushed.sent_bytes == registry.received == sum(len(blob) for blob in registry.blobs.values())
    assert (fates(pushed), pushed.manifest_sent) == (["sent", "sent", "sent"], True)


def test_compressed_bytes_hold_no_time_and_no_name(
    cache: Cache, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 1952: MTIME is 0, FLG names nothing."""
    from launcher.progress import SilentTask

    found = [packing.pack(image.layers[1], "gzip", one, SilentTask()) for one in (cache, Cache(tmp_path / "other"))]
    assert found[0].digest == found[1].digest
    assert found[0].path and found[0].path.read_bytes()[:9] in (
        b"\x1f\x8b\x08\x00" + bytes(4) + xfl for xfl in (b"\0", b"\2", b"\4")
    )


def test_the_second_push_sends_and_compresses_nothing(
    registry: Registry, cache: Cache, env: dict[str, str], image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = push(image, target(registry), cache, environ=env)
    monkeypatch.setattr("launcher.registry.push.pack", None)
    registry.requests.clear()
    again = push(image, target(registry), cache, environ=env)
    assert (again.digest, again.sent_bytes, again.manifest_sent) == (first.digest, 0, False)
    assert [method for method, _, _ in registry.requests if method not in ("GET", "HEAD")] == []
    for layer in first.blobs:  # a machine that has lost the compressed copies still knows them
        cache.path("artifacts", layer.digest).unlink(missing_ok=True)
    other = push(image, target(registry, "team/x:2"), cache, environ=env)
    assert (fates(other), other.manifest_sent, other.sent_bytes) == (["present"] * 3, True, 0)


def test_one_changed_layer_sends_that_layer(
    registry: Registry, cache: Cache, env: dict[str, str], image: Image
) -> None:
    push(image, target(registry), cache, environ=env)
    pushed = push(make(cache, BIG, b"changed"), target(registry), cache, environ=env)
    assert fates(pushed) == ["present", "sent", "sent"]
    assert pushed.sent_bytes < 1000
    assert pushed.skipped_bytes > 5_000_000


def test_blobs_that_were_cleaned_from_the_cache_are_made_again(
    registry: Registry, cache: Cache, env: dict[str, str], image: Image
) -> None:
    first = push(image, target(registry), cache, environ=env)
    for blob in first.blobs:
        cache.path("artifacts", blob.digest).unlink(missing_ok=True)
    registry.blobs.clear()
    assert push(image, target(registry, "y:1"), cache, environ=env).digest == first.digest


def test_equal_layers_are_sent_once(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    pushed = push(make(cache, BIG, BIG, BIG), target(registry), cache, environ=env)
    assert sorted(fates(pushed)) == ["present", "present", "sent", "sent"]


def test_a_cut_upload_goes_on_where_the_registry_stands(
    registry: Registry, cache: Cache, env: dict[str, str], image: Image
) -> None:
    registry.cuts_up += [2_000_000, 1_000_000]
    pushed = push(image, target(registry), cache, compression="none", environ=env)
    sent = [headers.get("content-range") for method, _, headers in registry.requests if method == "PATCH"]
    assert sent == [None, f"2000000-{len(BIG) - 1}", f"3000000-{len(BIG) - 1}"]
    assert registry.received == len(BIG) + len(SMALL) + len(image.config)
    assert registry.blobs[sha(BIG)] == BIG
    assert pushed.blobs[0].fate == "sent"


def test_a_registry_that_forgot_the_upload_gets_the_blob_again(
    registry: Registry, cache: Cache, env: dict[str, str], image: Image
) -> None:
    registry.cuts_up, registry.forgets = [2_000_000], True
    pushed = push(image, target(registry), cache, compression="none", environ=env)
    assert registry.blobs[sha(BIG)] == BIG
    assert pushed.blobs[0].moved > len(BIG)


def test_an_upload_that_is_cut_for_ever_is_told(
    registry: Registry, cache: Cache, env: dict[str, str], image: Image
) -> None:
    registry.cuts_up += [10] * 50
    with pytest.raises(TargetError, match=r"layer 0 .* could not be sent in 5 tries") as error:
        push(image, target(registry), cache, compression="none", environ=env)
    assert "sends only what the registry lacks" in str(error.value)
    assert "_state" not in str(error.value)
    assert "1" not in registry.manifests


def test_a_body_that_is_too_big_goes_in_pieces(
    registry: Registry, cache: Cache, env: dict[str, str], image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PIECE_BYTES", 2_500_000)
    registry.most_body = 2_500_000
    push(image, target(registry), cache, compression="none", environ=env)
    assert registry.blobs[sha(BIG)] == BIG
    sent = [headers.get("content-range") for method, _, headers in registry.requests if method == "PATCH"]
    assert sent[1:] == ["0-2499999", "2500000-4999999", "5000000-5999999"]


def test_a_busy_registry_is_asked_again(registry: Registry, cache: Cache, env: dict[str, str], image: Image) -> None:
    registry.answers += [(503, {"Retry-After": "0"})] * 3
    push(image, target(registry), cache, environ=env, workers=1)
    assert "1" in registry.manifests


def test_a_layer_that_was_damaged_in_the_cache_is_not_sent(
    registry: Registry, cache: Cache, env: dict[str, str], image: Image
) -> None:
    image.layers[0].path.write_bytes(BIG[:-1] + b"!")
    with pytest.raises(IntegrityError, match="layer 0 was damaged"):
        push(image, target(registry), cache, environ=env)
    assert "1" not in registry.manifests
    assert not image.layers[0].path.exists()


def test_a_digest_is_no_target(cache: Cache, image: Image) -> None:
    with pytest.raises(UsageError, match="names a digest"):
        push(image, parse(f"127.0.0.1:1/x@sha256:{'a' * 64}"), cache)


def test_a_registry_that_is_not_there(cache: Cache, env: dict[str, str], image: Image) -> None:
    with pytest.raises(TargetError, match="refused"):
        push(image, parse("127.0.0.1:1/x:1"), cache, environ=env)


def test_a_push_without_a_login_says_how_to_get_one(
    registry: Registry, cache: Cache, env: dict[str, str], image: Image
) -> None:
    registry.tokens = registry.login = LOGIN  # type: ignore[assignment]
    with pytest.raises(TargetError, match=r"wants a login for .*/team/x") as error:
        push(image, target(registry), cache, environ=env)
    assert f"podman login {registry.host}" in str(error.value)


def based(cache: Cache, image: Image) -> tuple[Base, bytes]:
    """Say that the first layer is a base's, which its registry gave compressed in its own way."""
    own = gzip.compress(BIG, 9, mtime=1234)
    with cache.scratch() as scratch:
        (scratch / "x").write_bytes(own)
        cache.adopt("artifacts", sha(own), scratch / "x")
    config = Artifact(name="base", version="", filename="config.json", size=1, sha256="c" * 64)
    kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    blob = Blob(
        name="base", version="", filename="layer", size=len(own), sha256=sha(own), media_type=kind, diff_id=sha(BIG),
        unpacked=len(BIG),
    )  # fmt: skip
    return Base(kind="registry", manifest="d" * 64, system="debian", config=config, layers=(blob,)), own


def test_layers_of_a_base_go_as_they_came(registry: Registry, cache: Cache, env: dict[str, str], image: Image) -> None:
    base, own = based(cache, image)
    origin = parse("registry.example.org/base:1")
    pushed = push(image, target(registry), cache, base=base, base_reference=origin, environ=env)
    assert registry.blobs[sha(own)] == own
    assert manifest(registry)["layers"][0]["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    assert pushed.blobs[0].digest == sha(own)


def test_layers_of_a_base_in_the_same_registry_are_mounted(
    registry: Registry, cache: Cache, env: dict[str, str], image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, own = based(cache, image)
    monkeypatch.setattr("launcher.registry.push.present", lambda *_: False)  # another repository has it, not this one
    registry.blobs[sha(own)] = own
    origin = target(registry, "bases/debian:1")
    pushed = push(image, target(registry), cache, base=base, base_reference=origin, environ=env)
    assert pushed.blobs[0].fate == "mounted"
    assert f"/v2/team/x/blobs/uploads/?mount=sha256:{sha(own)}&from=bases/debian" in registry.asked("POST")
    assert len(own) > registry.received
