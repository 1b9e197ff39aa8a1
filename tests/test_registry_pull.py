"""Pulling: manifests for the platform, ways in, redirects, and blobs that are cut, resumed and lied about."""

from __future__ import annotations

import base64
import json
import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import FetchError, ImageError, IntegrityError, LauncherError, ResolveError
from launcher.fetch import fetch
from launcher.fetch.partial import claimed
from launcher.lock import Artifact, Wheel
from launcher.registry import session
from launcher.registry.pull import PulledManifest, manifest
from launcher.registry.reference import Reference, parse
from launcher.registry.source import RegistrySource
from tests.registry_server import OCI_INDEX, Registry, serve, sha

BIG = random.Random(1).randbytes(3_000_000)
SMALL = b"small layer"
LOGIN = ("ada", "c4n4ry-s3cret")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FIRST_PAUSE_S", 0.0)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve() as running:
        yield running


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A home without logins and settings."""
    (tmp_path / "registries.conf").touch()
    return {"HOME": str(tmp_path), "CONTAINERS_REGISTRIES_CONF": str(tmp_path / "registries.conf")}


def reference(registry: Registry, name: str = "team/x:1") -> Reference:
    return parse(f"docker://{registry.host}/{name}")


def log_in(env: dict[str, str], registry: Registry, login: tuple[str, str] = LOGIN) -> None:
    auth = base64.b64encode(":".join(login).encode()).decode()
    path = Path(env["HOME"]) / ".docker" / "config.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))


def artifacts(found: PulledManifest) -> list[Artifact]:
    return [
        Artifact(name="base", version="", filename=f"layer {one.digest[:12]}", size=one.size, sha256=one.digest)
        for one in (found.config, *found.layers)
    ]


def test_pulls_an_image(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    digest = registry.add_image([BIG, SMALL])
    found = manifest(reference(registry), "linux/amd64", cache, environ=env)
    assert (found.digest, sha(found.raw)) == (digest, digest)
    assert [(one.digest, one.size) for one in found.layers] == [(sha(BIG), len(BIG)), (sha(SMALL), len(SMALL))]
    paths = fetch(artifacts(found), cache, [RegistrySource(reference(registry), environ=env)])
    assert paths[sha(BIG)].read_bytes() == BIG
    assert not list((cache.root / "partial").glob("[0-9a-f]" * 64))


def test_a_digest_that_was_pulled_asks_nobody(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    registry.add_image([SMALL])
    first = manifest(reference(registry), "linux/amd64", cache, environ=env)
    count = len(registry.requests)
    assert manifest(reference(registry).at(first.digest), "linux/amd64", cache, environ=env) == first
    assert len(registry.requests) == count


def entry(digest: str, architecture: str, variant: str | None = None) -> dict[str, object]:
    platform = {"os": "linux", "architecture": architecture, **({"variant": variant} if variant else {})}
    return {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{digest}",
        "size": 1,
        "platform": platform,
    }


def test_an_index_gives_the_platforms_entry(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    made = {name: registry.add_image([name.encode()], tag=name) for name in ("amd64", "v8", "v7", "attestation")}
    entries = [entry(made["attestation"], "unknown"), entry(made["v7"], "arm", "v7"), entry(made["v8"], "arm64", "v8")]
    registry.add_manifest({"schemaVersion": 2, "manifests": [*entries, entry(made["amd64"], "amd64")]}, "1", OCI_INDEX)
    for platform, name in (("linux/amd64", "amd64"), ("linux/arm64", "v8")):
        assert manifest(reference(registry), platform, cache, environ=env).digest == made[name]
    with pytest.raises(
        ResolveError, match=r"isn't there for linux/ppc64le: there is linux/amd64, linux/arm/v7, linux/arm64/v8"
    ):
        manifest(reference(registry), "linux/ppc64le", cache, environ=env)


def test_a_processor_that_not_all_have_is_not_taken(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    digest = registry.add_image([SMALL], tag="v3")
    registry.add_manifest({"schemaVersion": 2, "manifests": [entry(digest, "amd64", "v3")]}, "1", OCI_INDEX)
    with pytest.raises(ResolveError, match="there is linux/amd64/v3"):
        manifest(reference(registry), "linux/amd64", cache, environ=env)


@pytest.mark.parametrize(
    ("told", "kind", "message"),
    [
        ({"schemaVersion": 1}, "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        ({"schemaVersion": 2, "x": 1}, "application/json", "is no image"),
        ({"schemaVersion": 2, "config": {"digest": "sha512:1", "size": 1}, "layers": []}, "", "no sha256 digest"),
        ({"schemaVersion": 2, "config": {}, "layers": {}}, "", "no config and layers"),
    ],
)
def test_what_is_no_image_is_refused(
    registry: Registry, cache: Cache, env: dict[str, str], told: dict[str, object], kind: str, message: str
) -> None:
    registry.add_manifest(told, "1", kind)
    with pytest.raises(ImageError, match=message) as error:
        manifest(reference(registry), "linux/amd64", cache, environ=env)
    assert error.value.problems[0].hint


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "may not be given on"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", "may not be given on"),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "unknown kind"),
    ],
)
def test_layers_that_cannot_be_pinned_are_named(
    registry: Registry, cache: Cache, env: dict[str, str], kind: str, message: str
) -> None:
    registry.add_image([SMALL, BIG], kind=kind)
    with pytest.raises(ImageError, match=message) as error:
        manifest(reference(registry), "linux/amd64", cache, environ=env)
    assert len(error.value.problems) == 2
    assert sha(SMALL) in str(error.value)


def test_a_missing_tag_is_named(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    with pytest.raises(FetchError, match=r"there is no image 127\.0\.0\.1:\d+/team/x:2"):
        manifest(reference(registry, "team/x:2"), "linux/amd64", cache, environ=env)


def test_a_manifest_that_is_another_is_refused(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    registry.add_image([SMALL])
    asked = "b" * 64
    registry.manifests[f"sha256:{asked}"] = registry.manifests["1"]
    with pytest.raises(IntegrityError, match="gave another manifest"):
        manifest(reference(registry).at(asked), "linux/amd64", cache, environ=env)
    assert cache.find("artifacts", asked) is None


def test_a_registry_that_is_busy_is_asked_again(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    registry.add_image([SMALL])
    registry.answers += [(503, {}), (429, {"Retry-After": "0"}), (500, {})]
    assert manifest(reference(registry), "linux/amd64", cache, environ=env).layers
    registry.answers += [(503, {})] * 9
    with pytest.raises(FetchError, match="503"):
        manifest(reference(registry), "linux/amd64", cache, environ=env)
    assert len(registry.answers) == 4


def test_retry_after_may_be_a_date() -> None:
    assert session.seconds("7") == 7.0
    assert session.seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert session.seconds("Wed, 21 Oct 2099 07:28:00 GMT") > 1e6
    assert session.seconds("soon") == 0.0


def test_nobody_there(cache: Cache, env: dict[str, str]) -> None:
    with pytest.raises(FetchError, match="refused") as error:
        manifest(parse("127.0.0.1:1/x"), "linux/amd64", cache, environ=env)
    assert error.value.problems[0].hint


def test_a_password_is_sent_when_it_is_asked_for(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    registry.login = LOGIN
    registry.add_image([SMALL])
    with pytest.raises(FetchError, match="this machine has none") as error:
        manifest(reference(registry), "linux/amd64", cache, environ=env)
    assert f"`docker login {registry.host}`" in str(error.value)
    log_in(env, registry)
    assert manifest(reference(registry), "linux/amd64", cache, environ=env).layers


def test_a_wrong_password_is_told_and_not_shown(
    registry: Registry, cache: Cache, env: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    registry.login = ("ada", "another")
    log_in(env, registry)
    with pytest.raises(FetchError, match=r"refused the login of .*config\.json") as error:
        manifest(reference(registry), "linux/amd64", cache, environ=env)
    shown = f"{error.value} {error.value!r} {caplog.text}"
    assert LOGIN[1] not in shown and base64.b64encode(":".join(LOGIN).encode()).decode() not in shown


def test_tokens_are_fetched_anonymously(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    registry.tokens = True
    registry.add_image([SMALL])
    found = manifest(reference(registry), "linux/amd64", cache, environ=env)
    fetch(artifacts(found), cache, [RegistrySource(reference(registry), environ=env)])
    assert registry.given[0]["scope"] == ["repository:team/x:pull", "repository:x:pull"]
    assert registry.given[0]["service"] == ["tests"]


@pytest.mark.parametrize("identity", [False, True])
def test_tokens_are_fetched_with_a_login(
    registry: Registry, cache: Cache, env: dict[str, str], identity: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    registry.tokens = True
    registry.add_image([SMALL])
    if identity:
        registry.identity = LOGIN[1]
        entry = {registry.host: {"identitytoken": LOGIN[1]}}
        (Path(env["HOME"]) / "auth.json").write_text(json.dumps({"auths": entry}))
        env["REGISTRY_AUTH_FILE"] = str(Path(env["HOME"]) / "auth.json")
    else:
        registry.login = LOGIN
        log_in(env, registry)
    assert manifest(reference(registry), "linux/amd64", cache, environ=env).layers
    assert registry.given[0]["method"] == ("POST" if identity else "GET")
    assert LOGIN[1] not in caplog.text and "token-1" not in caplog.text


def test_a_refused_login_for_a_token_is_told(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    registry.tokens, registry.login = True, ("ada", "another")
    log_in(env, registry)
    with pytest.raises(FetchError, match="refused the login") as error:
        manifest(reference(registry), "linux/amd64", cache, environ=env)
    assert LOGIN[1] not in str(error.value)
    assert len(registry.given) == 1


def test_a_token_that_ran_out_is_renewed(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    registry.tokens = True
    registry.add_image([BIG, SMALL])
    source = RegistrySource(reference(registry), environ=env)
    fetch([Artifact(name="a", version="", filename="a", size=len(SMALL), sha256=sha(SMALL))], cache, [source])
    registry.valid.clear()
    fetch([Artifact(name="b", version="", filename="b", size=len(BIG), sha256=sha(BIG))], cache, [source])
    assert len(registry.given) == 2


def test_a_token_that_is_about_to_end_is_renewed_before_it_is_refused(
    registry: Registry, cache: Cache, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.tokens, registry.life_s = True, 100
    registry.add_image([SMALL, BIG])
    source = RegistrySource(reference(registry), environ=env)
    fetch([blob_artifact(SMALL)], cache, [source])
    registry.valid.clear()
    monkeypatch.setattr(source.sessions[0].entrance, "until", 0.0)
    fetch([blob_artifact(BIG)], cache, [source])
    blobs = [headers.get("authorization") for _, path, headers in registry.requests if "blobs" in path]
    assert blobs == [None, "Bearer token-1", "Bearer token-2"]


def test_no_login_goes_to_a_token_server_in_clear(cache: Cache, env: dict[str, str], tmp_path: Path) -> None:
    """Only loopback and what is configured as insecure may name one."""
    from launcher.registry.challenge import Challenge
    from launcher.registry.entrance import Entrance
    from launcher.registry.settings import Place

    place = Place(reference=parse("registry.example.org/x"), insecure=False)
    asked: list[object] = []
    entrance = Entrance(place, (), lambda *args: asked.append(args), lambda: None, FetchError)  # type: ignore[arg-type,return-value,func-returns-value]
    with pytest.raises(FetchError, match="no login goes there"):
        entrance.renew(Challenge(scheme="bearer", params={"realm": "http://tokens.example.org/t"}))
    assert not asked


def test_the_login_stays_with_the_registry(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    registry.login = LOGIN
    log_in(env, registry)
    with serve(blobs={sha(SMALL): SMALL}) as storage:
        registry.add_image([SMALL])
        registry.elsewhere = f"http://{storage.host}"
        wanted = Artifact(name="a", version="", filename="a", size=len(SMALL), sha256=sha(SMALL))
        fetch([wanted], cache, [RegistrySource(reference(registry), environ=env)])
        [(method, path, headers)] = storage.requests
    assert (method, path.partition("?")[0]) == ("GET", f"/storage/{sha(SMALL)}")
    assert "authorization" not in headers
    assert any("authorization" in headers for _, _, headers in registry.requests)


def blob_artifact(data: bytes) -> Artifact:
    return Artifact(name="base", version="", filename="layer 1 of the base", size=len(data), sha256=sha(data))


def test_a_cut_blob_goes_on_where_it_stopped(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    registry.blobs[sha(BIG)] = BIG
    registry.cuts_down += [1_000_000, 500_000]
    fetch([blob_artifact(BIG)], cache, [RegistrySource(reference(registry), environ=env)])
    ranges = [headers.get("range") for _, path, headers in registry.requests if "blobs" in path]
    assert ranges == [None, "bytes=1000000-", "bytes=1500000-"]


def test_another_command_goes_on_where_the_last_was_stopped(
    registry: Registry, cache: Cache, env: dict[str, str]
) -> None:
    registry.blobs[sha(BIG)] = BIG
    registry.cuts_down += [1_000_000, *[0] * 10]
    with pytest.raises(FetchError, match="cut after 1000000 bytes"):
        fetch([blob_artifact(BIG)], cache, [RegistrySource(reference(registry), environ=env)])
    assert (cache.root / "partial" / sha(BIG)).stat().st_size == 1_000_000
    registry.cuts_down.clear()
    registry.requests.clear()
    paths = fetch([blob_artifact(BIG)], cache, [RegistrySource(reference(registry), environ=env)])
    assert paths[sha(BIG)].read_bytes() == BIG
    assert [headers.get("range") for _, path, headers in registry.requests if "blobs" in path] == ["bytes=1000000-"]
    assert not (cache.root / "partial" / sha(BIG)).exists()


def test_a_part_that_another_process_writes_is_left_alone(
    registry: Registry, cache: Cache, env: dict[str, str]
) -> None:
    registry.blobs[sha(BIG)] = BIG
    with claimed(cache, sha(BIG)) as part:
        assert part
        part.write_bytes(b"theirs")
        paths = fetch([blob_artifact(BIG)], cache, [RegistrySource(reference(registry), environ=env)])
        assert paths[sha(BIG)].read_bytes() == BIG
        assert part.read_bytes() == b"theirs"


def test_parts_that_nobody_went_on_with_are_swept(cache: Cache) -> None:
    with claimed(cache, "a" * 64) as part:
        assert part
        part.write_bytes(b"old")
        os.utime(part, (0, 0))
    with claimed(cache, "b" * 64):
        assert not part.exists()


def test_a_denial_is_told_in_the_registrys_words(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    registry.answers.append((403, {}))
    registry.said = b'{"errors":[{"code":"DENIED","message":"over quota"}]}'
    log_in(env, registry)
    with pytest.raises(FetchError, match=r"refused the login of") as error:
        manifest(reference(registry), "linux/amd64", cache, environ=env)
    assert "(DENIED: over quota)" in str(error.value)


@pytest.mark.parametrize("part", [b"damaged" * 1000, BIG + b"more", BIG, b""])
def test_a_part_is_not_believed(registry: Registry, cache: Cache, env: dict[str, str], part: bytes) -> None:
    registry.blobs[sha(BIG)] = BIG
    (cache.root / "partial").mkdir()
    (cache.root / "partial" / sha(BIG)).write_bytes(part)
    paths = fetch([blob_artifact(BIG)], cache, [RegistrySource(reference(registry), environ=env)])
    assert paths[sha(BIG)].read_bytes() == BIG


def test_a_server_without_ranges_is_read_again(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    registry.blobs[sha(BIG)], registry.ranges = BIG, False
    registry.cuts_down += [1_000_000]
    paths = fetch([blob_artifact(BIG)], cache, [RegistrySource(reference(registry), environ=env)])
    assert paths[sha(BIG)].read_bytes() == BIG


@pytest.mark.parametrize("lie", [BIG[:-1] + b"x", BIG + b"x", b""])
def test_a_registry_that_lies_about_a_blob_is_refused(
    registry: Registry, cache: Cache, env: dict[str, str], lie: bytes
) -> None:
    registry.blobs[sha(BIG)] = lie
    with pytest.raises(LauncherError, match="layer 1 of the base") as error:
        fetch([blob_artifact(BIG)], cache, [RegistrySource(reference(registry), environ=env)])
    assert isinstance(error.value, IntegrityError if lie else FetchError)
    assert sha(BIG) in str(error.value) and f"{registry.host}/team/x" in str(error.value)
    assert cache.find("artifacts", sha(BIG)) is None


def test_wheels_are_not_asked_for(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    wheel = Wheel(name="a", version="1", filename="a-1-py3-none-any.whl", size=1, sha256="a" * 64)
    with pytest.raises(FetchError, match="nowhere"):
        fetch([wheel], cache, [RegistrySource(reference(registry), environ=env)])
    with RegistrySource(reference(registry), ["b" * 64], environ=env).open(blob_artifact(SMALL)) as stream:
        assert stream is None
    assert not registry.requests


def test_a_mirror_goes_first_and_may_fail(registry: Registry, cache: Cache, env: dict[str, str]) -> None:
    with serve() as mirror:
        mirror.blobs[sha(SMALL)] = SMALL
        digest = registry.add_image([SMALL, BIG])
        text = f'[[registry]]\nprefix="{registry.host}"\n[[registry.mirror]]\nlocation="{mirror.host}/proxy"\n'
        Path(env["CONTAINERS_REGISTRIES_CONF"]).write_text(text)
        found = manifest(reference(registry), "linux/amd64", cache, environ=env)
        assert found.digest == digest
        assert mirror.asked("GET")[-1] == "/v2/proxy/team/x/manifests/1"
        fetch(artifacts(found), cache, [RegistrySource(reference(registry), environ=env)])
        assert f"/v2/team/x/blobs/sha256:{sha(SMALL)}" not in registry.asked("GET")
        assert f"/v2/team/x/blobs/sha256:{sha(BIG)}" in registry.asked("GET")
