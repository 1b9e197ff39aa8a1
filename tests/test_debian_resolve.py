"""What resolve_debian chooses from a tiny signed mirror, and what it keeps from the lock before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import LauncherError
from launcher.lock.model import Deb
from launcher.resolve.debian import DebianSet, resolve_debian
from tests.conftest import Notes
from tests.debian_mirror import BASE, MirrorTree, Signer, Stanza, package

Resolve = Callable[..., DebianSet]


@dataclass(frozen=True)
class Upgrade:
    all: bool = False
    packages: frozenset[str] = frozenset()


@pytest.fixture
def tree(tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> MirrorTree:
    (tmp_path / "keys.gpg").write_bytes(signer.public())
    source = f"deb [signed-by={tmp_path}/keys.gpg] file://{tmp_path}/mirror bookworm main\n"
    (tmp_path / "sources.list").write_text(source)
    monkeypatch.setenv("LAUNCHER_APT_SOURCES", str(tmp_path / "sources.list"))
    return MirrorTree(tmp_path / "mirror", signer)


@pytest.fixture
def resolve(tmp_path: Path, tree: MirrorTree) -> Resolve:
    cache = Cache(tmp_path / "cache")

    def run(
        *apt: str,
        python: str | None = None,
        previous: tuple[Deb, ...] = (),
        upgrade: Upgrade | None = None,
        base: str = "debian:bookworm",
        progress: Notes | None = None,
        cache: Cache = cache,
    ) -> DebianSet:
        return resolve_debian(
            base=base,
            apt=apt,
            python=python,
            architecture="amd64",
            previous=previous,
            upgrade=upgrade or Upgrade(),
            cache=cache,
            progress=progress or Notes(),
        )

    return run


def versions(found: DebianSet, group: str | None = None) -> dict[str, str]:
    return {deb.name: deb.version for deb in found.debs if group in (None, deb.group)}


def beside_base(*packages: Stanza) -> list[Stanza]:
    return [*BASE, *packages]


def test_the_base_is_essential_with_certificates_and_python(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(BASE)
    found = resolve()
    assert sorted(versions(found)) == sorted(p["Package"] for p in BASE if p["Package"] not in ("gawk", "original-awk"))
    assert (found.suite, found.python, found.libc) == ("bookworm", "3.11.2", "glibc 2.36")
    assert {deb.group for deb in found.debs} == {"base"}
    assert [deb.name for deb in found.debs] == sorted(deb.name for deb in found.debs)


def test_a_pin_holds_what_the_index_says(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(beside_base(package("git", "1:2.39-1")))
    git = next(deb for deb in resolve("git").debs if deb.name == "git")
    file = tree.root / git.pool
    assert git.filename == "git_2.39-1_amd64.deb"
    assert (git.group, git.size, git.architecture) == ("apt", file.stat().st_size, "amd64")


def test_the_base_does_not_depend_on_what_is_asked_for(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(beside_base(package("editor", Depends="gawk")))
    assert versions(resolve("editor", "gawk"), "base") == versions(resolve())
    assert versions(resolve("editor"), "apt") == {"editor": "1.0", "gawk": "5.2"}


def test_a_request_may_exclude_a_part_of_the_base_that_has_an_alternative(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(beside_base(package("strange", Conflicts="mawk")))
    found = versions(resolve("strange"))
    assert "mawk" not in found
    assert "gawk" in found


@pytest.mark.parametrize(
    ("packages", "asked", "chosen"),
    [
        pytest.param(
            [package("aa", Depends="bb | cc"), package("bb"), package("cc")], ["aa"], {"aa", "bb"}, id="first"
        ),
        pytest.param(
            [package("aa", Depends="bb | cc"), package("cc")], ["aa"], {"aa", "cc"}, id="only-second-is-there"
        ),
        pytest.param(
            [package("aa", Depends="bb | cc"), package("bb"), package("cc")],
            ["aa", "cc"],
            {"aa", "cc"},
            id="chosen-already",
        ),
        pytest.param(
            [package("aa", Depends="bb | cc"), package("bb"), package("cc"), package("zz", Depends="cc")],
            ["aa", "zz"],
            {"aa", "cc", "zz"},
            id="needed-later-anyway",
        ),
        pytest.param(
            [package("aa", Depends="vv"), package("vv"), package("pp", Provides="vv")],
            ["aa"],
            {"aa", "vv"},
            id="real-first",
        ),
        pytest.param(
            [
                package("aa", Depends="vv"),
                package("pp", Provides="vv"),
                package("qq", Provides="vv", Priority="important"),
            ],
            ["aa"],
            {"aa", "qq"},
            id="provider-by-priority",
        ),
        pytest.param(
            [package("aa", Depends="vv"), package("qq", Provides="vv"), package("pp", Provides="vv")],
            ["aa"],
            {"aa", "pp"},
            id="provider-by-name",
        ),
        pytest.param(
            [package("aa", Depends="vv (>= 2)"), package("pp", Provides="vv"), package("qq", Provides="vv (= 2.1)")],
            ["aa"],
            {"aa", "qq"},
            id="versioned-provides",
        ),
        pytest.param(
            [package("aa", Depends="bb | cc"), package("bb", Conflicts="dd"), package("cc"), package("dd")],
            ["aa", "dd"],
            {"aa", "cc", "dd"},
            id="conflict-takes-the-alternative",
        ),
        pytest.param(
            [
                package("aa", Depends="bb | cc, ee"),
                package("bb", Breaks="ff (<< 2)"),
                package("cc"),
                package("ee", Depends="ff"),
                package("ff"),
            ],
            ["aa"],
            {"aa", "cc", "ee", "ff"},
            id="breaks-far-away",
        ),
        pytest.param(
            [package("aa", Depends="vv"), package("pp", Provides="vv", Conflicts="vv")],
            ["aa"],
            {"aa", "pp"},
            id="own-conflict",
        ),
        pytest.param(
            [package("aa", Depends="bb:any, cc:amd64"), package("bb"), package("cc")],
            ["aa"],
            {"aa", "bb", "cc"},
            id="qualifiers",
        ),
        pytest.param([package("aa", Depends="aa | bb"), package("bb")], ["aa"], {"aa"}, id="needs-itself"),
        pytest.param([package("aa", Depends="bb"), package("bb", Depends="aa")], ["aa"], {"aa", "bb"}, id="circle"),
        pytest.param([package("pp", Provides="vv")], ["vv"], {"pp"}, id="asked-for-virtual-with-one-provider"),
        pytest.param(
            [package("aa", Recommends="bb", Suggests="cc"), package("bb")], ["aa"], {"aa"}, id="no-recommends"
        ),
        pytest.param(
            [package("aa", Depends="bb,\n cc"), package("bb"), package("cc")], ["aa"], {"aa", "bb", "cc"}, id="folded"
        ),
        pytest.param(
            [package("aa", "1"), package("aa", "2", Depends="bb (>= 9)"), package("bb")],
            ["aa"],
            {"aa"},
            id="older-version",
        ),
    ],
)
def test_what_is_chosen(
    tree: MirrorTree, resolve: Resolve, packages: list[Stanza], asked: list[str], chosen: set[str]
) -> None:
    tree.publish(beside_base(*packages))
    assert set(versions(resolve(*asked), "apt")) == chosen


def test_the_newest_of_all_pockets_wins(tree: MirrorTree, resolve: Resolve, tmp_path: Path) -> None:
    with (tmp_path / "sources.list").open("a") as sources:
        sources.write(f"deb [signed-by={tmp_path}/keys.gpg] file://{tmp_path}/security bookworm-security main\n")
    tree.publish(beside_base(package("xx", "1.0-1"), package("yy", "1.0-1")))
    tree.publish([package("yy", "1.0-1+deb12u1")], "bookworm-updates")
    MirrorTree(tmp_path / "security", tree.signer).publish([package("xx", "1.0-1+deb12u2")], "bookworm-security")
    found = resolve("xx", "yy")
    assert versions(found, "apt") == {"xx": "1.0-1+deb12u2", "yy": "1.0-1+deb12u1"}
    assert versions(resolve("xx=1.0-1"), "apt") == {"xx": "1.0-1"}


def test_a_pinned_version_of_a_base_package_moves_the_base(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(beside_base(package("libssl3", "3.0.12-1")))
    assert versions(resolve(), "base")["libssl3"] == "3.0.12-1"
    assert versions(resolve("libssl3=3.0.11-1"), "base")["libssl3"] == "3.0.11-1"


OLD = (package("aa", "1", Depends="lib (>= 1)"), package("bb", "1"), package("lib", "1"))
NEW = (*OLD, package("aa", "2", Depends="lib (>= 2)"), package("bb", "2"), package("lib", "2"), package("lib", "3"))


def test_locking_again_keeps_what_is_pinned(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(beside_base(*OLD))
    before = resolve("aa", "bb")
    tree.publish(beside_base(*NEW))
    assert resolve("aa", "bb", previous=before.debs) == before
    assert versions(resolve("aa", "bb"), "apt") == {"aa": "2", "bb": "2", "lib": "3"}
    everything = resolve("aa", "bb", previous=before.debs, upgrade=Upgrade(all=True))
    assert versions(everything, "apt") == {"aa": "2", "bb": "2", "lib": "3"}


def test_upgrading_one_package_moves_it_and_what_it_forces(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(beside_base(*OLD))
    before = resolve("aa", "bb")
    tree.publish(beside_base(*NEW))
    found = resolve("aa", "bb", previous=before.debs, upgrade=Upgrade(packages=frozenset({"aa"})))
    assert versions(found, "apt") == {"aa": "2", "bb": "1", "lib": "3"}


def test_an_upgrade_that_can_not_be_is_told(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(beside_base(*OLD))
    before = resolve("aa", "bb")
    tree.publish(beside_base(*OLD, package("lib", "2"), package("bb", "2", Depends="gone")))
    notes = Notes()
    found = resolve("aa", "bb", previous=before.debs, upgrade=Upgrade(packages=frozenset({"bb"})), progress=notes)
    assert versions(found, "apt")["bb"] == "1"
    assert notes.said[-1:] == ["bb stays at 1: what is asked for can't be had with 2"]


def test_what_the_mirror_dropped_stays_pinned_while_its_needs_are_known(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(beside_base(*OLD))
    before = resolve("aa", "bb")
    tree.publish(beside_base(package("aa", "2"), package("bb", "2")))
    assert resolve("aa", "bb", previous=before.debs) == before


def test_what_the_mirror_dropped_is_resolved_anew_on_another_machine(
    tree: MirrorTree, resolve: Resolve, tmp_path: Path
) -> None:
    tree.publish(beside_base(*OLD))
    before = resolve("aa", "bb")
    tree.publish(beside_base(package("aa", "1", Depends="lib"), package("bb", "2"), package("lib", "1")))
    notes = Notes()
    found = resolve("aa", "bb", previous=before.debs, cache=Cache(tmp_path / "other"), progress=notes)
    assert versions(found, "apt") == {"aa": "1", "bb": "2", "lib": "1"}
    assert any(said.startswith("bb 1 has left the mirror") for said in notes.said)


def test_pins_of_another_architecture_are_not_kept(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(beside_base(package("bb", "1")))
    before = tuple(replace(deb, architecture="arm64") for deb in resolve("bb").debs)
    tree.publish(beside_base(package("bb", "1"), package("bb", "2")))
    assert versions(resolve("bb", previous=before), "apt") == {"bb": "2"}


def test_a_pin_that_the_request_rules_out_is_let_go(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(beside_base(*NEW))
    before = resolve("bb")
    assert versions(resolve("bb=1", previous=before.debs), "apt") == {"bb": "1"}


def test_an_old_choice_among_alternatives_stays(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(beside_base(package("aa", Depends="bb | cc"), package("cc")))
    before = resolve("aa")
    tree.publish(beside_base(package("aa", Depends="bb | cc"), package("bb"), package("cc")))
    assert resolve("aa", previous=before.debs) == before
    assert set(versions(resolve("aa"), "apt")) == {"aa", "bb"}


def test_the_same_question_has_the_same_answer(tree: MirrorTree, resolve: Resolve, tmp_path: Path) -> None:
    tree.publish(beside_base(*NEW))
    first = resolve("aa", "bb")
    assert resolve("bb", "aa") == first
    assert resolve("aa", "bb", cache=Cache(tmp_path / "other")) == first


def test_python_that_the_suite_has(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(BASE)
    assert resolve(python="3.11").python == "3.11.2"


def test_python_of_a_moving_suite_is_a_pep_440_version(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(
        beside_base(
            package("python3", "3.15.0~rc2-1", Depends="python3.15-minimal"),
            package("python3.15-minimal", "3.15.0~rc2-1"),
        )
    )
    assert resolve().python == "3.15.0rc2"


def test_a_malformed_relation_is_told(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(beside_base(package("aa", Depends="bb (>>> 1)")))
    with pytest.raises(LauncherError, match=r"entry of aa 1\.0 can't be read: `bb \(>>> 1\)`"):
        resolve("aa")


def test_missing_updates_are_told(tree: MirrorTree, resolve: Resolve, tmp_path: Path) -> None:
    tree.publish(BASE)
    notes = Notes()
    resolve(progress=notes)
    assert notes.said == [
        f"without bookworm-updates: file://{tmp_path}/mirror has no such suite",
        "without bookworm-security: no apt source names it",
    ]


def test_a_move_to_another_suite_takes_no_package_along(tree: MirrorTree, resolve: Resolve) -> None:
    tree.publish(beside_base(*OLD))
    before = resolve("aa", "bb")
    newer = [package("libc6", "2.41-1"), *(p for p in BASE if p["Package"] != "libc6")]
    tree.publish([*newer, package("aa", "3"), package("bb", "3")], "trixie")
    found = resolve("aa", "bb", base="debian:trixie", previous=before.debs)
    assert versions(found, "apt") == {"aa": "3", "bb": "3"}
    assert found.libc == "glibc 2.41"
