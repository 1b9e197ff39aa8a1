"""A base from a registry: pinned, looked into, kept while its tag moves, and built upon without a network."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.cache import Cache
from launcher.digest import sha256_bytes
from launcher.errors import ImageError, IntegrityError, ResolveError
from launcher.image import Image, build
from launcher.lock import Lock, dumps, loads
from launcher.resolve import Upgrade, resolve
from launcher.spec.model import CodeSpec, ImageSpec, Pip, Spec
from tests import bases, index_server
from tests.bases import Content, Registry
from tests.conftest import Notes

SITE = "usr/local/lib/python3.12/site-packages"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with bases.serve() as running:
        yield running


@pytest.fixture
def index() -> Iterator[index_server.Index]:
    with index_server.serve() as running:
        yield running


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: index_server.Index) -> None:
    for key in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(key, raising=False)
    values = {"PIP_CONFIG_FILE": "/dev/null", "UV_NO_CONFIG": "1", "PIP_INDEX_URL": index.url, "UV_HTTP_RETRIES": "0"}
    for key, value in {**values, "NO_PROXY": "127.0.0.1", "UV_CACHE_DIR": str(tmp_path / "uv")}.items():
        monkeypatch.setenv(key, value)


def spec(folder: Path, base: str, *requirements: str, **image: Any) -> Spec:
    asked = ImageSpec(base=base, pip=Pip(requirements=requirements), **image)
    return Spec(name="x", image=asked, code=CodeSpec(root=folder), run="true", file=folder / "experiment.yaml")


def with_python(**more: Content) -> bases.Made:
    return bases.made(bases.system(), {**bases.python(), **more}, how=("gzip", "zstd"))


def test_a_base_is_pinned_and_looked_into(registry: Registry, cache: Cache, tmp_path: Path) -> None:
    image = with_python()
    reference = registry.push("1", image)
    lock = resolve(spec(tmp_path, reference, python="3.12"), cache=cache)
    assert lock.base is not None
    assert (lock.base.manifest, lock.base.system, lock.base.kind) == (image.digest, "debian", "registry")
    assert [f"sha256:{x.diff_id}" for x in lock.base.layers] == json.loads(image.config)["rootfs"]["diff_ids"]
    assert all(sha256_bytes(image.blobs[x.sha256]) == x.sha256 for x in lock.base.layers)
    assert (lock.suite, lock.libc, lock.python) == ("bookworm", "glibc 2.36", "3.12.4")
    assert lock.interpreter == "/usr/local/bin/python3.12"
    assert loads(dumps(lock)) == lock
    assert registry.host not in dumps(lock).replace(reference, "")


def test_a_base_without_pip_is_left_alone(registry: Registry, cache: Cache, tmp_path: Path) -> None:
    lock = resolve(spec(tmp_path, registry.push("1", with_python())), cache=cache)
    assert (lock.python, lock.interpreter) == (None, None)
    env = settings_of(build(lock, cache))["Env"]
    assert "PATH=/usr/local/bin:/usr/bin:/bin" in env
    assert not [line for line in env if line.startswith("VIRTUAL_ENV")]


def test_the_pin_stays_when_the_tag_moves(registry: Registry, cache: Cache, tmp_path: Path) -> None:
    reference = registry.push("1", with_python())
    asked = spec(tmp_path, reference, python="3.12")
    first = resolve(asked, cache=cache)
    registry.push("1", with_python(**{"etc/new": b"new"}))
    registry.asked.clear()
    assert resolve(asked, cache=cache, previous=first) == first
    assert registry.asked == []
    cold = Cache(tmp_path / "cold")
    assert resolve(asked, cache=cold, previous=first) == first
    moved = resolve(asked, cache=cache, previous=first, upgrade=Upgrade(all=True))
    assert moved.base != first.base


def test_a_digest_is_honoured(registry: Registry, cache: Cache, tmp_path: Path) -> None:
    old = with_python()
    reference = registry.push("1", old)
    registry.push("1", with_python(**{"etc/new": b"new"}))
    lock = resolve(spec(tmp_path, f"{reference}@sha256:{old.digest}"), cache=cache)
    assert lock.base
    assert lock.base.manifest == old.digest


def test_a_layer_that_is_not_what_the_config_says_is_refused(registry: Registry, cache: Cache, tmp_path: Path) -> None:
    lie = bases.made(bases.system(), diff_ids=["0" * 64])
    with pytest.raises(IntegrityError, match=r"layer 1 .* the image's config says sha256:0000"):
        resolve(spec(tmp_path, registry.push("1", lie)), cache=cache)


def test_a_registry_that_lies_about_a_blob_is_refused(registry: Registry, cache: Cache, tmp_path: Path) -> None:
    image = with_python()
    reference = registry.push("1", image)
    victim = next(sha256 for sha256, data in image.blobs.items() if data != image.config)
    registry.blobs[victim] = bytes(len(registry.blobs[victim]))
    with pytest.raises(IntegrityError, match=victim):
        resolve(spec(tmp_path, reference), cache=cache)


def test_another_architecture_in_the_config_is_refused(registry: Registry, cache: Cache, tmp_path: Path) -> None:
    image = bases.made(bases.system(), architecture="arm64")
    with pytest.raises(ResolveError, match="is an image for linux/arm64, and linux/amd64 is wanted"):
        resolve(spec(tmp_path, registry.push("1", image)), cache=cache)


@pytest.mark.parametrize(
    ("files", "asked", "words"),
    [
        ({"usr/lib/os-release": b"ID=alpine\n", "lib/ld-musl-x86_64.so.1": b""}, {}, "musl 1.2, and image.pip needs"),
        ({"etc/os-release": b"ID=rocky\n", "lib64/libc.so.6": bases.GLIBC}, {}, r"\(rocky\) has no Python"),
        ({"etc/hostname": b""}, {}, "has no C library"),
        ({**bases.system(), **bases.python(version="3.9.2")}, {}, "3.10 is the oldest"),
        ({**bases.system(), **bases.python()}, {"python": "3.11"}, "python 3.11 was asked for, and .* has 3.12.4"),
    ],
)
def test_bases_that_will_not_do(
    registry: Registry, cache: Cache, tmp_path: Path, files: dict[str, Content], asked: dict[str, str], words: str
) -> None:
    reference = registry.push("1", bases.made(files))
    with pytest.raises(ResolveError, match=words):
        resolve(spec(tmp_path, reference, "a", **asked), cache=cache)


def settings_of(image: Image) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(image.config)["config"]
    return found


def locked(registry: Registry, cache: Cache, folder: Path, image: bases.Made, *pip: str, **more: Any) -> Lock:
    return resolve(spec(folder, registry.push("1", image), *pip, **more), cache=cache)


def test_base_layers_lie_verbatim_below_ours(
    registry: Registry, index: index_server.Index, cache: Cache, tmp_path: Path
) -> None:
    index.add("a")
    base = bases.made(
        bases.system(), bases.python(), how=("zstd", "plain"), env=["PATH=/x/bin:/usr/local/bin", "OF=base", "A=base"]
    )
    lock = locked(registry, cache, tmp_path, base, "a", env={"A": "spec"})
    registry.blobs.clear()
    image = build(lock, cache)
    config = json.loads(image.config)
    assert config["rootfs"]["diff_ids"][:2] == json.loads(base.config)["rootfs"]["diff_ids"]
    assert [layer.name for layer in image.layers[:2]] == ["base layer 1 of 2", "base layer 2 of 2"]
    env = dict(line.split("=", 1) for line in config["config"]["Env"])
    assert (env["PATH"], env["OF"], env["A"]) == ("/opt/env/bin:/x/bin:/usr/local/bin", "base", "spec")
    assert not {"Entrypoint", "User", "Volumes"} & set(config["config"])
    again = Cache(tmp_path / "again")
    for artifact in lock.artifacts:
        copy = tmp_path / "copy"
        copy.write_bytes(cache.path("artifacts", artifact.sha256).read_bytes())
        again.adopt("artifacts", artifact.sha256, copy)
    assert build(lock, again).id == image.id


def merged(image: Image) -> Any:
    from launcher.image.base import read_tree

    return read_tree([layer.path for layer in image.layers])


def test_the_environment_sees_the_packages_of_the_base(
    registry: Registry, index: index_server.Index, cache: Cache, tmp_path: Path
) -> None:
    """The base's torch stays: neither it nor what it would need comes from the index."""
    index.add("a", requires=("torch>=2",))
    index.add("torch", "2.9", requires=("nvidia-huge",))
    index.add("nvidia-huge")
    ours = bases.distribution(SITE, "torch", "2.7.0a0+ecb3bae.nv25.3", "Requires-Dist: nvidia-huge")
    lock = locked(registry, cache, tmp_path, with_python(**ours), "a", "torch")
    assert [wheel.name for wheel in lock.wheels] == ["a"]
    tree = merged(build(lock, cache))
    assert "include-system-site-packages = true" in tree.text("opt/env/pyvenv.cfg")
    assert "home = /usr/local/bin\n" in tree.text("opt/env/pyvenv.cfg")
    assert tree.real("opt/env/bin/python") == "usr/local/bin/python3.12"


def test_another_version_that_is_asked_for_lies_over_the_bases(
    registry: Registry, index: index_server.Index, cache: Cache, tmp_path: Path
) -> None:
    index.add("b", "2.0")
    reference = registry.push("1", with_python(**bases.distribution(SITE, "b", "1.0")))
    notes = Notes()
    lock = resolve(spec(tmp_path, reference, "b>=2"), cache=cache, progress=notes)
    assert [(wheel.name, wheel.version) for wheel in lock.wheels] == [("b", "2.0")]
    assert any("the base has b 1.0" in note for note in notes.said)


def test_what_contradicts_the_base_unasked_is_refused(
    registry: Registry, index: index_server.Index, cache: Cache, tmp_path: Path
) -> None:
    index.add("a", requires=("b>=2",))
    index.add("b", "2.0")
    reference = registry.push("1", with_python(**bases.distribution(SITE, "b", "1.0")))
    with pytest.raises(ResolveError, match="b==") as caught:
        resolve(spec(tmp_path, reference, "a"), cache=cache)
    assert "the base has it" in str(caught.value)
    lock = resolve(spec(tmp_path, reference, "a", "b>=2"), cache=cache)
    assert [wheel.name for wheel in lock.wheels] == ["a", "b"]


def test_an_extra_of_an_installed_package_is_added(
    registry: Registry, index: index_server.Index, cache: Cache, tmp_path: Path
) -> None:
    index.add("c")
    there = bases.distribution(SITE, "b", "1.0", "Provides-Extra: more", 'Requires-Dist: c; extra == "more"')
    lock = locked(registry, cache, tmp_path, with_python(**there), "b[more]")
    assert [wheel.name for wheel in lock.wheels] == ["c"]


def test_folders_that_are_links_in_the_base_are_followed(
    registry: Registry, index: index_server.Index, cache: Cache, tmp_path: Path
) -> None:
    index.add("a")
    srv = tarfile.TarInfo("srv")
    srv.type, srv.mode = tarfile.DIRTYPE, 0o711
    odd: dict[str, Content] = {"opt": "srv/opt", "srv/opt/own": b"base", "srv": srv}
    lock = locked(registry, cache, tmp_path, with_python(**odd), "a")
    tree = merged(build(lock, cache))
    assert tree.entries["opt"].kind == "symlink"
    assert tree.read("opt/own") == b"base"
    assert tree.entries["srv"].mode == 0o711
    assert tree.entries["srv/opt/env/lib/python3.12/site-packages/a.py"].kind == "file"


def test_a_file_in_the_way_is_told(registry: Registry, index: index_server.Index, cache: Cache, tmp_path: Path) -> None:
    index.add("a")
    lock = locked(registry, cache, tmp_path, with_python(**{"opt/env": b"a file"}), "a")
    with pytest.raises(ImageError, match="the base has no folder at /opt/env"):
        build(lock, cache)


def test_an_environment_of_the_base_is_hidden(
    registry: Registry, index: index_server.Index, cache: Cache, tmp_path: Path
) -> None:
    index.add("a")
    old: dict[str, Content] = {"opt/env/bin/old!": b"", "opt/env/pyvenv.cfg": b"home = /nowhere\n"}
    lock = locked(registry, cache, tmp_path, with_python(**old), "a")
    tree = merged(build(lock, cache))
    assert not tree.exists("opt/env/bin/old")
    assert tree.exists("opt/env/bin/python3.12")


def test_packages_that_are_hidden_with_the_bases_environment_are_named(
    registry: Registry, index: index_server.Index, cache: Cache, tmp_path: Path
) -> None:
    """As when the base is an image that launcher made: nothing else told that they are gone."""
    index.add("a")
    site = "opt/env/lib/python3.12/site-packages"
    files = {key: data for name in ("a", "b", "c") for key, data in bases.distribution(site, name, "1.0").items()}
    reference = registry.push("1", with_python(**files, **bases.distribution(SITE, "c", "1.0")))
    notes = Notes()
    resolve(spec(tmp_path, reference, "a"), cache=cache, progress=notes)
    (told,) = [note for note in notes.said if "/opt/env" in note]
    assert told.endswith("(b 1.0)"), "a is asked for, c is the base's Python's too"
    resolve(spec(tmp_path, reference), cache=cache, progress=(silent := Notes()))
    assert not any("/opt/env" in note for note in silent.said), "without pip and python the base's stays"


def test_many_layers_leave_fewer_for_big_wheels(registry: Registry, cache: Cache, tmp_path: Path) -> None:
    from launcher.image.layers import refuse_too_many, solo_layers

    assert (solo_layers(0), solo_layers(100), solo_layers(119)) == (50, 7, 0)
    refuse_too_many(125)
    with pytest.raises(ImageError, match="126 layers"):
        refuse_too_many(126)
    members = [{f"f{number}": b""} for number in range(119)]
    image = bases.made(bases.system(), *members)
    assert len(build(locked(registry, cache, tmp_path, image), cache).layers) <= 125
    with pytest.raises(ResolveError, match="has 121 layers"):
        locked(registry, cache, tmp_path, bases.made(bases.system(), *members, {"x": b""}))


def test_locks_that_differ_in_the_base_only_differ_in_their_image(
    registry: Registry, cache: Cache, tmp_path: Path
) -> None:
    one = locked(registry, cache, tmp_path, with_python())
    other = replace(one, base=locked(registry, cache, tmp_path, with_python(x=b"")).base)
    assert build(one, cache).id != build(other, cache).id


def test_a_base_without_python_gets_the_distributions(
    registry: Registry,
    index: index_server.Index,
    cache: Cache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from launcher.image.assemble import base_has_python
    from launcher.lock import Deb
    from launcher.resolve.debian.on_base import Added

    index.add("a")
    (tmp_path / "deb").write_bytes(b"deb")
    cache.adopt("artifacts", sha256_bytes(b"deb"), tmp_path / "deb")
    deb = Deb(
        name="python3.11-minimal",
        version="3.11.2-6",
        filename="python3.11-minimal_3.11.2-6_amd64.deb",
        size=3,
        sha256=sha256_bytes(b"deb"),
        architecture="amd64",
        group="apt",
        pool="pool/main/p/python3.11/python3.11-minimal_3.11.2-6_amd64.deb",
    )
    asked: list[dict[str, Any]] = []

    def added(**told: Any) -> Added:
        asked.append(told)
        return Added(debs=(deb,), python="3.11.2")

    monkeypatch.setattr("launcher.resolve.debian.on_base.resolve_on_base", added)
    lock = locked(registry, cache, tmp_path, bases.made(bases.system()), "a")
    assert (lock.python, lock.interpreter, lock.debs) == ("3.11.2", None, (deb,))
    assert [wheel.name for wheel in lock.wheels] == ["a"]
    assert not base_has_python(lock)
    assert (asked[0]["system"], asked[0]["suite"], asked[0]["with_python"]) == ("debian", "bookworm", True)
