"""Layers, ids and archives: the same lock gives the same bytes, whatever the machine is like."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import FetchError, ImageError, IntegrityError
from launcher.image import Image, build, layers
from launcher.image.export import checked_chunks, write_archive
from launcher.image.listing import differences
from launcher.lock import Deb, Inputs, Lock, Wheel, dumps
from launcher.progress import Silent, SilentTask
from tests.debs import Package, file, folder, hardlink, symlink
from tests.identity import facts
from tests.wheels import cached, pinned, wheel_bytes

INPUTS = Inputs(base="debian:bookworm", platform="linux/amd64", python=None)


def lock_of(*wheels: Wheel, env: dict[str, str] | None = None) -> Lock:
    return Lock(
        inputs=INPUTS,
        suite="bookworm",
        architecture="amd64",
        python="3.11.2",
        libc="glibc 2.36",
        wheels=wheels,
        env=env or {},
    )


NAMESPACE = {"shared/__init__.py": b"# same\n"}


@functools.cache
def big_wheel() -> bytes:
    return wheel_bytes("big", files={"big/data.bin": bytes(20_000_000), **NAMESPACE})


@pytest.fixture
def lock(cache: Cache, tmp_path: Path) -> Lock:
    return lock_of(
        cached(cache, tmp_path, big_wheel(), "big"),
        cached(cache, tmp_path, wheel_bytes("small", files={"small/ünï.py": b"1", **NAMESPACE}), "small"),
        cached(cache, tmp_path, wheel_bytes("tiny"), "tiny"),
    )


# The id of the image of `lock`, and of that of three tiny packages below it. They change only with the assembler:
# then the changelog says so, and ASSEMBLER (launcher/image/keys.py) is raised.
GOLDEN = "120d09c10667d76aa7a24cd6a98b09d35b3ce2f963d05498b9fb1a0e67eabefb"
GOLDEN_DEBIAN = "3c1942129b6defdd0496872bd88502b06d8dc3e365d928ba4e50f66703381867"


def test_the_id_is_the_golden_one(lock: Lock, cache: Cache) -> None:
    image = build(lock, cache)
    assert image.id == hashlib.sha256(image.config).hexdigest() == GOLDEN


@pytest.fixture
def debian(lock: Lock, cache: Cache, tmp_path: Path) -> Lock:
    """The lock with three packages: one of the base, a big one, and one that adds to what the rules make."""
    base = [file("./etc/tiny", "1"), file("./lib/x", "2"), symlink("./usr/s", "x")]
    big = [file("./usr/lib/big", bytes(20_000_001)), hardlink("./usr/lib/linked", "./usr/lib/big")]
    small = [file("./usr/bin/tool", "#!/bin/sh\n", 0o4755), folder("./var/spool/x", 0o1777)]
    debs = [
        cached_deb(cache, tmp_path, Package(name="base-tiny", items=base), "base"),
        cached_deb(cache, tmp_path, Package(name="big-tool", items=big, fields={"Installed-Size": "20000"}), "apt"),
        cached_deb(cache, tmp_path, Package(name="small-tool", items=small), "apt"),
    ]
    return replace(lock, debs=tuple(debs))


def cached_deb(cache: Cache, folder: Path, package: Package, group: str) -> Deb:
    deb, path = package.write(folder, group)
    cache.adopt("artifacts", deb.sha256, path)
    return deb


def test_the_id_of_a_debian_image_is_the_golden_one(debian: Lock, cache: Cache) -> None:
    image = build(debian, cache)
    assert [layer.name for layer in image.layers][:1] == ["base"]
    assert {layer.name for layer in image.layers} == {
        "base",
        "big 1.0",
        "big-tool 1.0-1",
        "packages",
        "system",
        "python",
        "runtime",
    }
    assert image.id == GOLDEN_DEBIAN


def test_a_new_package_leaves_the_base_and_the_big_ones(debian: Lock, cache: Cache, tmp_path: Path) -> None:
    before = build(replace(debian, debs=debian.debs[:2]), cache)
    after = build(debian, cache)
    assert {x.name for x in after.layers if x not in before.layers} == {"packages", "system"}


def test_big_wheels_lie_alone_and_low(lock: Lock, cache: Cache) -> None:
    names = [layer.name for layer in build(lock, cache).layers]
    assert names[0] == "big 1.0"
    assert names[-2:] == ["python", "runtime"]
    assert len([name for name in names if name != "system"]) == 3


def test_layers_are_whole_tars_with_parents_and_no_path_twice(lock: Lock, cache: Cache) -> None:
    for layer in build(lock, cache).layers:
        assert hashlib.sha256(layer.path.read_bytes()).hexdigest() == layer.diff_id
        with tarfile.open(layer.path) as tar:
            names = tar.getnames()
        assert len(names) == len(set(names))
        assert all(name.rpartition("/")[0] in {"", *names[:at]} for at, name in enumerate(names))
        assert not any("__pycache__" in name or name.endswith(".pyc") for name in names)


def test_config_and_manifest_say_what_the_layers_are(lock: Lock, cache: Cache) -> None:
    image = build(replace(lock, env={"TZ": "UTC", "PATH": "/mine"}), cache)
    config, manifest = json.loads(image.config), json.loads(image.manifest)
    assert config["rootfs"]["diff_ids"] == [f"sha256:{layer.diff_id}" for layer in image.layers]
    assert [x["digest"] for x in manifest["layers"]] == config["rootfs"]["diff_ids"]
    assert [x["size"] for x in manifest["layers"]] == [layer.path.stat().st_size for layer in image.layers]
    assert {"TZ=UTC", "PATH=/mine", "LANG=C.UTF-8"} <= set(config["config"]["Env"])
    assert config["config"]["Env"] == sorted(config["config"]["Env"])


def test_a_second_build_writes_nothing(lock: Lock, cache: Cache) -> None:
    first = build(lock, cache)
    before = {path: path.stat().st_mtime_ns for path in cache.root.rglob("*") if path.is_file()}
    assert build(lock, cache) == first
    assert {path: path.stat().st_mtime_ns for path in cache.root.rglob("*") if path.is_file()} == before


def test_a_changed_small_wheel_leaves_the_other_layers(lock: Lock, cache: Cache, tmp_path: Path) -> None:
    before = build(lock, cache)
    other = cached(cache, tmp_path, wheel_bytes("tiny", files={"tiny/__init__.py": b"x = 2\n"}), "tiny")
    after = build(replace(lock, wheels=(*lock.wheels[:2], other)), cache)
    changed = {layer.name for layer in after.layers} - {x.name for x in after.layers if x in before.layers}
    assert changed == {"python"}


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_workers_and_order_change_nothing(workers: int, debian: Lock, cache: Cache, tmp_path: Path) -> None:
    fresh = Cache(tmp_path / f"other-{workers}")
    shuffled = list(debian.debs)
    random.Random(workers).shuffle(shuffled)
    for artifact in debian.artifacts:
        copy = tmp_path / "copy"
        copy.write_bytes(cache.path("artifacts", artifact.sha256).read_bytes())
        fresh.adopt("artifacts", artifact.sha256, copy)
    ours = build(replace(debian, debs=tuple(shuffled)), fresh, workers=workers)
    assert facts(ours, fresh) == facts(build(debian, cache), cache)


SURROUNDINGS: dict[str, dict[str, str]] = {
    "plain": {},
    "tokyo": {"TZ": "Asia/Tokyo"},
    "turkish": {"LC_ALL": "tr_TR.UTF-8"},
    "c-locale": {"LC_ALL": "C", "PYTHONUTF8": "0"},
    "hash-seed": {"PYTHONHASHSEED": "1"},
    "epoch": {"SOURCE_DATE_EPOCH": "1700000000"},
    "umask": {"UMASK": "077"},
    "home": {"HOME": "/nonexistent", "USER": "somebody"},
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_surroundings_change_nothing(name: str, debian: Lock, cache: Cache, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1]), **SURROUNDINGS[name]}
    (tmp_path / "an.lock").write_text(dumps(debian))
    files = [str(cache.path("artifacts", artifact.sha256)) for artifact in debian.artifacts]
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.identity", str(tmp_path / "an.lock"), str(tmp_path / "cache 2"), *files],
        env=env,
        cwd=elsewhere,
        umask=int(env.get("UMASK", "022"), 8),
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout.split()[1:] == facts(build(debian, cache), cache)


def test_two_builds_at_once_agree(lock: Lock, cache: Cache) -> None:
    found: list[Image] = []
    threads = [threading.Thread(target=lambda: found.append(build(lock, cache))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({tuple(facts(image)) for image in found}) == 1


def test_a_damaged_layer_is_noticed_and_made_again(lock: Lock, cache: Cache) -> None:
    image = build(lock, cache)
    victim = image.layers[0].path
    damaged = bytearray(victim.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    victim.write_bytes(damaged)
    again = build(lock, cache)
    assert again == image
    assert hashlib.sha256(victim.read_bytes()).hexdigest() == image.layers[0].diff_id


def test_damaged_notes_are_ignored(lock: Lock, cache: Cache) -> None:
    image = build(lock, cache)
    for note in (cache.root / "notes").rglob("*.json"):
        note.write_text("{half")
    assert facts(build(lock, cache)) == facts(image)


def test_a_damaged_artifact_is_as_good_as_none(lock: Lock, cache: Cache) -> None:
    cache.path("artifacts", lock.wheels[0].sha256).write_bytes(b"rotten")
    with pytest.raises(FetchError, match=r"big-1\.0-py3-none-any\.whl isn't in the cache"):
        build(lock, cache)


def test_an_archive_with_a_damaged_layer_is_not_written(lock: Lock, cache: Cache, tmp_path: Path) -> None:
    image = build(lock, cache)
    victim = image.layers[0].path
    damaged = bytearray(victim.read_bytes())
    damaged[600] ^= 1
    victim.write_bytes(damaged)
    out = tmp_path / "out" / "image.tar"
    out.parent.mkdir()
    with pytest.raises(IntegrityError, match=r"big 1\.0 was damaged in the cache"):
        write_archive(image, out)
    assert list(out.parent.iterdir()) == []


def test_the_archive_is_an_oci_layout_and_a_docker_archive(lock: Lock, cache: Cache, tmp_path: Path) -> None:
    image = build(lock, cache)
    write_archive(image, tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as tar:
        content = {info.name: tar.extractfile(info).read() for info in tar if info.isfile()}  # type: ignore[union-attr]
    blobs = {name.removeprefix("blobs/sha256/"): data for name, data in content.items() if name.startswith("blobs/")}
    assert all(hashlib.sha256(data).hexdigest() == digest for digest, data in blobs.items())
    manifest = json.loads(content["index.json"])["manifests"][0]["digest"].removeprefix("sha256:")
    assert blobs[manifest] == image.manifest
    docker = json.loads(content["manifest.json"])[0]
    assert content[docker["Config"]] == image.config
    assert docker["RepoTags"] == [f"launcher:{image.id[:12]}"]
    assert json.loads(content["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}


def test_two_contents_for_one_path_are_refused(cache: Cache, tmp_path: Path) -> None:
    one = cached(cache, tmp_path, wheel_bytes("one", files={"shared/a.py": b"1", "x": b""}), "one")
    two = cached(cache, tmp_path, wheel_bytes("two", files={"shared/a.py": b"2", "x/y": b""}), "two")
    with pytest.raises(ImageError) as caught:
        build(lock_of(one, two), cache)
    site = "/opt/env/lib/python3.11/site-packages"
    assert [problem.message for problem in caught.value.problems] == [
        f"two different contents for one path, {site}/{path}: from one-1.0-py3-none-any.whl and from "
        "two-1.0-py3-none-any.whl"
        for path in ("shared/a.py", "x")
    ]


def test_a_wheel_cannot_take_the_interpreters_place(cache: Cache, tmp_path: Path) -> None:
    bad = cached(cache, tmp_path, wheel_bytes(files={"tiny-1.0.data/scripts/python": b"#!/bin/sh\n"}))
    with pytest.raises(ImageError, match=r"for one path, /opt/env/bin/python: from tiny-1\.0.* the environment itself"):
        build(lock_of(bad), cache)


def test_many_big_wheels_stay_below_what_engines_bear(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "BIG_BYTES", 1)
    wheels = [cached(cache, tmp_path, wheel_bytes(f"w{n}"), f"w{n}") for n in range(130)]
    assert len(build(lock_of(*wheels), cache).layers) < 125


def listing(image: Image, name: str) -> str:
    return next(layer.listing for layer in image.layers if layer.name == name)


def test_a_listing_names_the_path_that_differs(lock: Lock, cache: Cache, tmp_path: Path) -> None:
    before = listing(build(lock, cache), "python")
    files = {"tiny/__init__.py": b"x = 2\n", "tiny/new.py": b""}
    other = cached(cache, tmp_path, wheel_bytes("tiny", files=files), "tiny")
    after = listing(build(replace(lock, wheels=(*lock.wheels[:2], other)), cache), "python")
    lines = list(differences(*(cache.path("artifacts", x).read_bytes() for x in (before, after))))
    site = "/opt/env/lib/python3.11/site-packages"
    assert any(line.startswith(f"{site}/tiny/__init__.py: content ") for line in lines)
    assert f"{site}/tiny/new.py: is new" in lines


def test_a_missing_artifact_is_named(cache: Cache, tmp_path: Path) -> None:
    path = tmp_path / "gone-1.0-py3-none-any.whl"
    path.write_bytes(wheel_bytes("gone"))
    with pytest.raises(FetchError, match=r"gone-1\.0-py3-none-any\.whl isn't in the cache"):
        build(lock_of(pinned(path, "gone", "1.0")), cache)


def test_extracting_the_archive_gives_the_files(lock: Lock, cache: Cache) -> None:
    data = b"".join(checked_chunks(build(lock, cache)))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [name for name in tar.getnames() if "/" not in name] == [
            "blobs",
            "index.json",
            "manifest.json",
            "oci-layout",
        ]


def test_progress_comes_to_what_was_told(debian: Lock, cache: Cache) -> None:
    counted: dict[str, list[int]] = {}

    class Counting(SilentTask):
        def __init__(self, label: str, total: int | None) -> None:
            self.steps = counted.setdefault(f"{label} {total}", [])

        def advance(self, amount: int = 1) -> None:
            self.steps.append(amount)

    class Counter(Silent):
        def task(self, label: str, total: int | None = None, unit: str = "bytes") -> SilentTask:
            return Counting(label, total)

    build(debian, cache, progress=Counter())
    [(told, steps)] = counted.items()
    assert told == f"assembling {sum(steps)}"
    assert len(steps) > 40, "a big layer is told of piece by piece"
