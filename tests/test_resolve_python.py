"""Python requirements to wheels, by uv, against a real index on loopback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.digest import sha256_bytes
from launcher.errors import FetchError, IntegrityError, ResolveError
from launcher.fetch import fetch
from launcher.indexes.settings import Indexes
from launcher.indexes.simple import wheel_sources
from launcher.lock import Wheel
from launcher.resolve.platform import platform
from launcher.resolve.pylock import select
from launcher.resolve.python import resolve_python
from launcher.resolve.upgrade import Upgrade
from launcher.resolve.uv import config, environment
from tests.index_server import Index, make_wheel, serve


@pytest.fixture
def index() -> Iterator[Index]:
    with serve() as running:
        yield running


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


class Lab:
    """Resolves against one index with everything else fixed."""

    def __init__(self, index: Index, folder: Path) -> None:
        self.index, self.cache = index, Cache(folder / "cache")
        self.indexes = Indexes(default=index.url)
        self.libc = "glibc 2.36"

    def __call__(
        self, *requirements: str, previous: tuple[Wheel, ...] = (), upgrade: Upgrade = Upgrade(), constraints: tuple[str, ...] = ()  # noqa: B008, E501
    ) -> tuple[Wheel, ...]:  # fmt: skip
        return resolve_python(
            requirements,
            constraints=constraints,
            python="3.11.2",
            libc=self.libc,
            architecture="amd64",
            previous=previous,
            upgrade=upgrade,
            indexes=self.indexes,
            cache=self.cache,
        )


@pytest.fixture
def lab(index: Index, tmp_path: Path) -> Lab:
    return Lab(index, tmp_path)


def versions(wheels: tuple[Wheel, ...]) -> dict[str, str]:
    return {wheel.name: wheel.version for wheel in wheels}


@pytest.mark.parametrize("as_json", [False, True])
def test_pins_requirements_and_what_they_need(index: Index, lab: Lab, as_json: bool) -> None:
    index.as_json = as_json
    file = index.add("Top.Name", requires=("leaf>=1", "gone; python_version<'3'", "other; sys_platform=='win32'"))
    index.add("leaf", "1.0")
    index.add("leaf", "2.0")
    wheels = lab("top_name")
    assert versions(wheels) == {"leaf": "2.0", "top-name": "1.0"}
    assert wheels[1] == replace(index.pin(file, "top-name"), size=len(file.data) if as_json else 0)


def test_nothing_asked_is_nothing_done(lab: Lab) -> None:
    assert lab() == ()


def test_pins_are_kept_until_they_may_go(index: Index, lab: Lab) -> None:
    for name in ("a", "b"):
        index.add(name, "1.0")
    old = lab("a", "b")
    for name in ("a", "b"):
        index.add(name, "2.0")
    lab.cache = Cache(lab.cache.root.with_name("other"))
    assert lab("a", "b", previous=old) == old
    assert versions(lab("a", "b", previous=old, upgrade=Upgrade(packages=frozenset({"b"})))) == {"a": "1.0", "b": "2.0"}
    assert versions(lab("a", "b", previous=old, upgrade=Upgrade(all=True))) == {"a": "2.0", "b": "2.0"}
    assert versions(lab("a>1", "b", previous=old)) == {"a": "2.0", "b": "1.0"}


def test_constraints_bind_without_asking(index: Index, lab: Lab) -> None:
    index.add("a", "1.0")
    index.add("a", "2.0")
    assert versions(lab("a", constraints=("a<2", "unused==9"))) == {"a": "1.0"}


def test_wheels_are_those_of_the_image(index: Index, lab: Lab) -> None:
    for level in ("2_17", "2_28", "2_36", "2_39"):
        index.add("native", tag=f"cp311-cp311-manylinux_{level}_x86_64")
    index.add("native", tag="cp312-cp312-manylinux_2_17_x86_64")
    index.add("native", tag="cp311-cp311-macosx_11_0_arm64")
    assert lab("native")[0].filename == "native-1.0-cp311-cp311-manylinux_2_36_x86_64.whl"
    lab.libc = "glibc 2.31"
    assert lab("native")[0].filename == "native-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"


def test_the_newest_build_of_a_version_is_taken(index: Index, lab: Lab) -> None:
    index.add("a", content="first")
    index.add("a", build="2", content="third")
    index.add("a", build="1", content="second")
    assert lab("a")[0].filename == "a-1.0-2-py3-none-any.whl"


def test_a_pinned_file_is_kept_when_a_newer_build_appears(index: Index, lab: Lab) -> None:
    index.add("a")
    old = lab("a")
    index.add("a", build="1", content="new")
    assert lab("a", previous=old)[0].sha256 == old[0].sha256


def test_a_yanked_version_is_taken_only_when_it_is_named(index: Index, lab: Lab) -> None:
    index.add("a", "1.0")
    index.add("a", "2.0").yanked = True
    assert versions(lab("a")) == {"a": "1.0"}
    assert versions(lab("a==2.0")) == {"a": "2.0"}


def test_a_pre_release_is_taken_when_it_is_named(index: Index, lab: Lab) -> None:
    index.add("a", "1.0")
    index.add("a", "2.0rc1")
    assert versions(lab("a")) == {"a": "1.0"}
    assert versions(lab("a>=2.0rc1")) == {"a": "2.0rc1"}


def test_only_source_is_refused_with_who_wants_it(index: Index, lab: Lab) -> None:
    index.add("top", requires=("sourced>=1",))
    index.add("sourced", filename="sourced-1.0.tar.gz")
    with pytest.raises(ResolveError) as caught:
        lab("top")
    said = str(caught.value)
    assert "top" in said and "sourced" in said and "no usable wheels" in said
    assert "--no-build" not in said  # uv's own hint: nobody here gave that flag
    assert "find-links" in str(caught.value.problems[0].hint)


def test_unmet_requirements_are_explained(index: Index, lab: Lab) -> None:
    index.add("a", "1.0", requires=("c<2",))
    index.add("b", "1.0", requires=("c>=2",))
    index.add("c", "1.0")
    index.add("c", "2.0")
    with pytest.raises(ResolveError) as caught:
        lab("a", "b")
    said = str(caught.value)
    assert "the Python requirements can't be met:" in said
    assert "c<2" in said and "c>=2" in said
    assert "\u00d7" not in said and "127.0.0.1" not in said


def test_a_wheel_without_sha256_is_refused(index: Index, lab: Lab) -> None:
    index.add("a").sha256 = None
    wheels = lab("a")  # uv hashes what it gets, and doesn't say that it did
    with pytest.raises(FetchError, match=r"gives no sha256 for a-1\.0-py3-none-any\.whl"):
        fetch(wheels, lab.cache, wheel_sources(lab.indexes, strict=True))
    assert fetch(wheels, lab.cache, wheel_sources(lab.indexes)), "with a lock it can be checked"


def test_an_index_that_lies_about_a_hash_is_found_out(index: Index, lab: Lab) -> None:
    index.add("a").sha256 = "0" * 64
    with pytest.raises(IntegrityError, match=r"gave a wrong a-1\.0-py3-none-any\.whl"):
        fetch(lab("a"), lab.cache, wheel_sources(lab.indexes, strict=True))


def test_a_local_wheel_without_sha256_is_hashed(index: Index, lab: Lab, tmp_path: Path) -> None:
    file = index.add("a", "1.0+local")
    index.files.clear()
    index.add("a", "1.0")
    folder = tmp_path / "links here"
    folder.mkdir()
    (folder / file.filename).write_bytes(file.data)
    lab.indexes = replace(lab.indexes, find_links=(str(folder),))
    (wheel,) = lab("a==1.0")
    assert (wheel.version, wheel.sha256) == ("1.0+local", file.sha256)


def test_a_folder_is_hashed_once(index: Index, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, other = index.add("a", "1.0+local"), index.add("a", "0.9")
    index.files.clear()
    index.add("a", "1.0")
    folder = tmp_path / "links & more"
    folder.mkdir()
    for one in (file, other):
        (folder / one.filename).write_bytes(one.data)
    (folder / "no wheel.whl").write_text("x")
    lab.indexes = replace(lab.indexes, find_links=(str(folder),))
    first = lab("a==1.0")
    given: list[Indexes] = []
    monkeypatch.setattr("launcher.resolve.uv.config", lambda indexes: given.append(indexes) or config(indexes))
    assert lab("a==1.0") == first
    assert given[-1].find_links == () and len(given[-1].extra) == 1
    assert versions(lab("a<1")) == {"a": "0.9"}, "the others of the folder are still seen"
    changed = make_wheel("a", "1.0+local", content="changed")
    (folder / file.filename).write_bytes(changed)
    assert lab("a==1.0")[0].sha256 == sha256_bytes(changed)


def test_the_best_version_of_all_indexes_wins_as_with_pip(index: Index, lab: Lab) -> None:
    with serve() as extra:
        index.add("a", "2.0")
        extra.add("a", "1.0")
        lab.indexes = Indexes(default=index.url, extra=(extra.url,))
        assert versions(lab("a")) == {"a": "2.0"}


def test_a_login_reaches_the_index_and_nothing_else(index: Index, lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    index.login = ("me", "s3cret/word")
    index.add("a")
    lab.indexes = Indexes(default=index.url.replace("//", "//me:s3cret%2Fword@"))
    wheels = lab("a")
    with pytest.raises(ResolveError) as unmet:
        lab("a>5")
    lab.indexes = Indexes(default=index.url.replace("//", "//me:wr0ng-word@"))
    with pytest.raises(ResolveError) as refused:
        lab("missing")
    for text in (repr(wheels), str(unmet.value), str(refused.value), caplog.text, repr(lab.indexes)):
        assert "s3cret" not in text and "wr0ng-word" not in text


def test_an_index_that_is_not_there(lab: Lab) -> None:
    lab.indexes = Indexes(default="http://127.0.0.1:9/simple")
    with pytest.raises(ResolveError, match="uv can't resolve"):
        lab("a")


def test_uv_sees_no_settings_that_change_what_is_chosen() -> None:
    given = {
        "UV_PRERELEASE": "allow",
        "UV_CACHE_DIR": "c",
        "PIP_PRE": "1",
        "PATH": "p",
        "UV_INDEX": "x",
        "RUST_LOG": "trace",
    }
    made = environment(given, Indexes(cert=Path("cert.pem")))
    assert not {"UV_PRERELEASE", "PIP_PRE", "UV_INDEX", "RUST_LOG"} & made.keys()
    assert (made["UV_CACHE_DIR"], made["PATH"], made["SSL_CERT_FILE"]) == ("c", "p", "cert.pem")


def test_the_choice_does_not_depend_on_the_order_of_an_answer() -> None:
    target = platform("3.11.2", "glibc 2.36", "amd64")
    files = [
        {"url": f"https://x/a-1-{build}py3-none-{tag}.whl", "hashes": {"sha256": f"{number:064x}"}}
        for number, (build, tag) in enumerate(
            [("", "any"), ("1-", "any"), ("", "manylinux1_x86_64"), ("", "manylinux_2_5_x86_64")]
        )
    ]
    answer = {"lock-version": "1.0", "created-by": "uv"}
    orders = (files, files[::-1], files[2:] + files[:2])
    chosen = [
        select(answer | {"packages": [{"name": "a", "version": "1", "wheels": list(o)}]}, target, ()) for o in orders
    ]
    assert chosen[0] == chosen[1] == chosen[2]
    assert chosen[0][0].filename == "a-1-py3-none-manylinux_2_5_x86_64.whl"


def test_what_a_lock_cannot_hold_is_refused_all_at_once() -> None:
    target = platform("3.11.2", "glibc 2.36", "amd64")
    packages = [
        {"name": "a", "version": "1", "archive": {"url": "https://x/a.whl", "hashes": {"sha256": "0" * 64}}},
        {"name": "b", "version": "1", "sdist": {"url": "https://x/b-1.tar.gz", "hashes": {"sha256": "0" * 64}}},
        {"name": "c", "version": "1", "wheels": [{"url": "https://x/c-1-py3-none-win32.whl", "hashes": {}}]},
        {"name": "d", "version": "1", "wheels": [{"url": "https://x/d-1-py3-none-any.whl", "hashes": {"md5": "0"}}]},
    ]
    with pytest.raises(ResolveError) as caught:
        select({"lock-version": "1.0", "created-by": "uv", "packages": packages}, target, ())
    words = ["comes from a URL", "exists only as source", "no wheel of c 1 runs on", "the index gives no sha256"]
    assert [word in problem.message for word, problem in zip(words, caught.value.problems, strict=True)] == [True] * 4


@pytest.mark.parametrize(
    ("libc", "architecture", "words"),
    [("musl 1.2", "amd64", "libc `musl 1.2`"), ("glibc 2.36", "riscv64", "architecture `riscv64`")],
)
def test_unknown_platforms_are_refused(libc: str, architecture: str, words: str) -> None:
    with pytest.raises(ResolveError, match=words):
        platform("3.11.2", libc, architecture)


def test_tags_begin_and_end_as_on_a_debian_machine() -> None:
    target = platform("3.11.2", "glibc 2.41", "amd64")
    tags = [str(tag) for tag in target.tags()]
    assert tags[0] == "cp311-cp311-manylinux_2_41_x86_64"
    assert tags[-1] == "py30-none-any"
    assert "cp39-abi3-manylinux2014_x86_64" in tags and "py3-none-linux_x86_64" in tags
    assert target.uv_name == "x86_64-manylinux_2_40"
    assert platform("3.9", "glibc 2.31", "arm64").uv_name == "aarch64-manylinux_2_31"
