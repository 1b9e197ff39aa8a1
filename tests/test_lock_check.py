"""Whether a lock still fits its spec, and the data that it pins; all of it offline."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.digest import sha256_bytes, tree_digest
from launcher.errors import IntegrityError, SpecError
from launcher.lock import Lock
from launcher.lock.check import problems
from launcher.lock.data import pin_data
from launcher.lock.inputs import inputs
from launcher.progress import Silent, SilentTask, Task
from launcher.spec.model import CodeSpec, DataSpec, ImageSpec, Pip, Spec


class Tasks(Silent):
    def __init__(self) -> None:
        self.labels: list[str] = []

    def task(self, label: str, total: int | None = None, unit: str = "bytes") -> Task:
        self.labels.append(label)
        return SilentTask()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    (made / "sub").mkdir(parents=True)
    (made / "a.txt").write_bytes(b"a")
    (made / "sub" / "b.txt").write_bytes(b"bb")
    (made / "sub" / "link").symlink_to("../a.txt")
    return made


@pytest.fixture
def spec(tmp_path: Path, folder: Path) -> Spec:
    image = ImageSpec(apt=("jq",), python="3.11", pip=Pip(requirements=("numpy", "tqdm")), env={"A": "1"})
    data = (DataSpec(name="d", path=folder),)
    return Spec(name="x", image=image, code=CodeSpec(root=tmp_path), run="true", data=data, file=tmp_path / "x.yaml")


@pytest.fixture
def lock(spec: Spec, cache: Cache) -> Lock:
    return Lock(
        inputs=inputs(spec), suite="bookworm", architecture="amd64", python="3.11.2", libc="glibc 2.36",
        env={"A": "1"}, data=(pin_data(spec.data[0], cache),),
    )  # fmt: skip


def said(lock: Lock, spec: Spec, cache: Cache) -> list[tuple[str | None, str]]:
    return [(problem.where and problem.where.key, problem.message) for problem in problems(lock, spec, cache=cache)]


def test_a_lock_fits_its_spec(lock: Lock, spec: Spec, cache: Cache) -> None:
    assert problems(lock, spec, cache=cache) == ()


def test_every_difference_is_told(lock: Lock, spec: Spec, cache: Cache, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.bin"
    other.write_bytes(b"x")
    image = replace(
        spec.image,
        base="debian:trixie",
        python=None,
        apt=(),
        env={"B": "2"},
        pip=Pip(requirements=("numpy>=2", "tqdm")),
    )
    changed = replace(spec, image=image, data=(DataSpec(name="e", path=other),))
    assert said(lock, changed, cache) == [
        ("image.base", "is `debian:trixie` now, and the lock was made for `debian:bookworm`"),
        ("image.python", "is not set now, and the lock was made for `3.11`"),
        ("image.apt", "the request `jq` is in the lock and no longer in the spec"),
        ("image.pip", "the request `numpy>=2` came after the lock was made"),
        ("image.pip", "the request `numpy` is in the lock and no longer in the spec"),
        ("image.env.A", "is not set now, and `1` in the lock"),
        ("image.env.B", "is `2` now, and not set in the lock"),
        ("data.e", "came after the lock was made"),
        ("data.d", "is in the lock and no longer in the spec"),
    ]


def test_changed_data_is_told(lock: Lock, spec: Spec, cache: Cache, folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"b")
    assert [key for key, _ in said(lock, spec, cache)] == ["data.d"]
    (folder / "a.txt").write_bytes(b"a")
    assert said(lock, spec, cache) == []


def test_a_tree_is_known_by_names_contents_and_links(folder: Path, cache: Cache) -> None:
    pin = pin_data(DataSpec(name="d", path=folder), cache)
    entries = [
        ("a.txt", "file", sha256_bytes(b"a")),
        ("sub/b.txt", "file", sha256_bytes(b"bb")),
        ("sub/link", "link", "../a.txt"),
    ]
    assert (pin.kind, pin.size, pin.sha256) == ("tree", 3, tree_digest(entries))
    (folder / "a.txt").chmod(0o600)
    os.utime(folder / "a.txt", (1, 1))
    (folder / "empty").mkdir()
    assert pin_data(DataSpec(name="d", path=folder), cache) == pin


def test_a_file_is_known_by_its_bytes(folder: Path, cache: Cache) -> None:
    pin = pin_data(DataSpec(name="f", path=folder / "sub" / "b.txt"), cache)
    assert (pin.kind, pin.size, pin.sha256) == ("file", 2, sha256_bytes(b"bb"))


def test_what_did_not_change_is_not_read_again(folder: Path, cache: Cache) -> None:
    tasks, data = Tasks(), DataSpec(name="d", path=folder)
    first = pin_data(data, cache, tasks)
    assert pin_data(data, cache, tasks) == first
    assert tasks.labels == ["read data d"]
    (folder / "a.txt").write_bytes(b"c")
    assert pin_data(data, cache, tasks) != first
    assert len(tasks.labels) == 2


def test_data_that_is_not_what_the_spec_says(folder: Path, cache: Cache) -> None:
    with pytest.raises(IntegrityError, match="and the spec says 000"):
        pin_data(DataSpec(name="d", path=folder, sha256="0" * 64), cache)


def test_data_that_a_run_could_not_use(folder: Path, cache: Cache, tmp_path: Path) -> None:
    (folder / "out").symlink_to("../elsewhere")
    (folder / "absolute").symlink_to(folder / "a.txt")
    os.mkfifo(folder / "pipe")
    with pytest.raises(SpecError) as caught:
        pin_data(DataSpec(name="d", path=folder), cache)
    assert len(caught.value.problems) == 3
    with pytest.raises(SpecError, match="there is nothing at"):
        pin_data(DataSpec(name="d", path=tmp_path / "no"), cache)
