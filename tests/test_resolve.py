"""A whole spec to its lock, with Debian given and a real Python index on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.cache import Cache, fingerprint
from launcher.digest import sha256_bytes
from launcher.errors import FetchError, IntegrityError, ResolveError
from launcher.lock import Deb, dumps, loads
from launcher.lock.check import problems
from launcher.resolve import Upgrade, resolve
from launcher.resolve.debian import DebianSet
from launcher.spec.model import CodeSpec, DataSpec, ImageSpec, Pip, Spec
from tests.index_server import Index, serve


class Base:
    """Stands in for the Debian resolver; its one .deb is in the cache already."""

    def __init__(self, cache: Cache) -> None:
        path = cache.root / "x.deb"
        path.write_bytes(b"deb")
        sha256 = sha256_bytes(b"deb")
        cache.adopt("artifacts", sha256, path)
        deb = Deb(
            name="jq", version="1", filename="jq_1_amd64.deb", size=3, sha256=sha256,
            architecture="amd64", group="apt", pool="pool/main/j/jq/jq_1_amd64.deb",
        )  # fmt: skip
        self.set = DebianSet(suite="bookworm", debs=(deb,), python="3.11.2", libc="glibc 2.36")
        self.asked: list[dict[str, Any]] = []

    def __call__(self, **asked: Any) -> DebianSet:
        self.asked.append(asked)
        return self.set


@pytest.fixture
def index() -> Iterator[Index]:
    with serve() as running:
        yield running


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Index, cache: Cache) -> Base:
    made = Base(cache)
    monkeypatch.setattr("launcher.resolve.debian.resolve_debian", made)
    for key in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(key, raising=False)
    settings = {
        "PIP_CONFIG_FILE": "/dev/null",
        "UV_NO_CONFIG": "1",
        "PIP_INDEX_URL": index.url,
        "NO_PROXY": "127.0.0.1",
    }
    for key, value in {**settings, "UV_CACHE_DIR": str(tmp_path / "uv"), "UV_HTTP_RETRIES": "0"}.items():
        monkeypatch.setenv(key, value)
    return made


def spec(folder: Path, *requirements: str, **changes: Any) -> Spec:
    image = ImageSpec(pip=Pip(requirements=requirements), env={"B": "2", "A": "1"}, apt=("jq",))
    made = Spec(name="x", image=image, code=CodeSpec(root=folder), run="true", file=folder / "experiment.yaml")
    return replace(made, **changes)


def test_a_spec_becomes_a_lock(index: Index, cache: Cache, tmp_path: Path, base: Base) -> None:
    file = index.add("a", requires=("b",))
    index.add("b")
    (tmp_path / "data").write_text("x")
    asked = spec(tmp_path, "a", data=(DataSpec(name="d", path=tmp_path / "data"),))
    lock = resolve(asked, cache=cache)
    assert [wheel.name for wheel in lock.wheels] == ["a", "b"]
    assert lock.wheels[0].size == len(file.data)
    assert (lock.python, lock.libc, lock.suite, lock.debs) == ("3.11.2", "glibc 2.36", "bookworm", base.set.debs)
    assert all(cache.find("artifacts", artifact.sha256) for artifact in lock.artifacts)
    assert loads(dumps(lock)) == lock
    assert problems(lock, asked) == ()
    assert "127.0.0.1" not in dumps(lock) and str(tmp_path) not in dumps(lock)


def test_html_and_json_indexes_give_the_same_bytes(index: Index, cache: Cache, tmp_path: Path) -> None:
    index.add("a")
    asked = spec(tmp_path, "a")
    first = dumps(resolve(asked, cache=cache))
    index.as_json = True
    assert dumps(resolve(asked, cache=cache)) == first


def test_a_second_lock_changes_nothing_and_fetches_nothing(
    index: Index, cache: Cache, tmp_path: Path, base: Base
) -> None:
    index.add("a")
    asked = spec(tmp_path, "a")
    lock = resolve(asked, cache=cache)
    index.add("a", "2.0")
    before = fingerprint(cache.path("artifacts", lock.wheels[0].sha256))
    assert resolve(asked, cache=cache, previous=lock) == lock
    assert fingerprint(cache.path("artifacts", lock.wheels[0].sha256)) == before
    assert base.asked[-1]["previous"] == lock.debs
    assert resolve(asked, cache=cache, previous=lock, upgrade=Upgrade(all=True)).wheels[0].version == "2.0"


def test_a_guess_that_was_wrong_does_no_harm(index: Index, cache: Cache, tmp_path: Path, base: Base) -> None:
    index.add("a", tag="cp311-cp311-manylinux_2_17_x86_64")
    index.add("a", tag="cp313-cp313-manylinux_2_17_x86_64")
    asked = spec(tmp_path, "a")
    lock = resolve(asked, cache=cache)
    base.set = replace(base.set, python="3.13.5", libc="glibc 2.41")
    assert (
        resolve(asked, cache=cache, previous=lock).wheels[0].filename == "a-1.0-cp313-cp313-manylinux_2_17_x86_64.whl"
    )


def test_a_lying_index_is_found_out_when_locking(index: Index, cache: Cache, tmp_path: Path) -> None:
    index.add("a").sha256 = "0" * 64
    with pytest.raises(IntegrityError, match=r"gave a wrong a-1\.0"):
        resolve(spec(tmp_path, "a"), cache=cache)


def test_a_wheel_without_sha256_is_refused_when_locking(index: Index, cache: Cache, tmp_path: Path) -> None:
    index.add("a").sha256 = None
    with pytest.raises(FetchError, match=r"gives no sha256 for a-1\.0"):
        resolve(spec(tmp_path, "a"), cache=cache)


def test_hashes_of_a_requirements_file_bind(index: Index, cache: Cache, tmp_path: Path) -> None:
    file = index.add("a")
    path = tmp_path / "requirements.txt"
    path.write_text(f"a==1.0 --hash=sha256:{file.sha256}\n")
    asked = spec(tmp_path)
    asked = replace(asked, image=replace(asked.image, pip=Pip(file=path)))
    assert resolve(asked, cache=cache).wheels
    path.write_text(f"a==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(IntegrityError, match=r"a: the requirements file doesn't allow a-1\.0-py3-none-any\.whl"):
        resolve(asked, cache=cache)


def test_the_options_of_a_requirements_file_are_used_and_not_recorded(
    index: Index, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    index.login = ("me", "s3cret")
    index.add("a")
    path = tmp_path / "requirements.txt"
    path.write_text(f"--index-url {index.url.replace('//', '//me:${WORD}@')}\na\n")
    monkeypatch.setenv("WORD", "s3cret")
    asked = spec(tmp_path)
    lock = resolve(replace(asked, image=replace(asked.image, pip=Pip(file=path))), cache=cache)
    assert lock.wheels[0].name == "a"
    assert "s3cret" not in dumps(lock) and "127.0.0.1" not in dumps(lock)


def test_requires_python_of_a_project_is_held(cache: Cache, tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\nname = "x"\nrequires-python = ">=3.12"\n')
    asked = spec(tmp_path)
    with pytest.raises(ResolveError, match=r"requires Python >=3\.12, and the image has 3\.11\.2"):
        resolve(replace(asked, image=replace(asked.image, pip=Pip(file=path))), cache=cache)


def test_a_platform_that_is_not_known(cache: Cache, tmp_path: Path) -> None:
    asked = spec(tmp_path)
    with pytest.raises(ResolveError, match="no image can be made for `windows/amd64`"):
        resolve(replace(asked, image=replace(asked.image, platform="windows/amd64")), cache=cache)
