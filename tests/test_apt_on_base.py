"""What resolve_on_base adds to a base image from a tiny signed mirror: only what is missing, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.digest import sha256_bytes
from launcher.errors import FetchError, ResolveError
from launcher.fetch import fetch
from launcher.image.base import BaseTree
from launcher.indexes.apt_distribution import DEBIAN, UBUNTU
from launcher.indexes.apt_source import AptMirror
from launcher.lock.model import Deb
from launcher.resolve.debian import Added, resolve_on_base
from launcher.resolve.debian.base import read_ground
from tests.bases import Content
from tests.bases import tree as base_tree
from tests.conftest import Notes
from tests.debian_mirror import MirrorTree, Signer, Stanza, package
from tests.test_debian_resolve import Upgrade

SOURCES = "deb http://deb.example.org/debian bookworm main contrib\n"
INSTALLED = (
    package("base-files", "12.4", Essential="yes"),
    package("libc6", "2.36-9", Priority="optional"),
    package("libssl3", "3.0.11-1", Depends="libc6"),
    package("mawk", "1.3", Provides="awk", Depends="libc6"),
)


def stanza(fields: Stanza, status: str = "install ok installed") -> str:
    named = {"Package": fields["Package"], **({"Status": status} if status else {}), **fields}
    return "".join(f"{key}: {value}\n" for key, value in named.items())


def status(*packages: Stanza) -> str:
    return "\n".join(stanza(one) for one in packages)


def made_base(
    work: Path, packages: Sequence[Stanza] = INSTALLED, more: Mapping[str, Content] | None = None
) -> BaseTree:
    files: dict[str, Content] = {"var/lib/dpkg/status": status(*packages).encode()}
    return base_tree(work, {**files, "etc/apt/sources.list": SOURCES.encode(), **(more or {})})


@pytest.fixture
def tree(tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> MirrorTree:
    configure(tmp_path, signer, monkeypatch, "bookworm")
    return MirrorTree(tmp_path / "mirror", signer)


def configure(work: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch, suite: str) -> None:
    (work / "keys.gpg").write_bytes(signer.public())
    source = f"deb [signed-by={work}/keys.gpg] file://{work}/mirror {suite} main\n"
    (work / "sources.list").write_text(source)
    monkeypatch.setenv("LAUNCHER_APT_SOURCES", str(work / "sources.list"))


Add = Callable[..., Added]


@pytest.fixture
def add(tmp_path: Path) -> Add:
    def run(
        *apt: str,
        base: BaseTree | None = None,
        system: str = "debian",
        suite: str = "bookworm",
        previous: tuple[Deb, ...] = (),
        with_python: bool = False,
        python: str | None = None,
    ) -> Added:
        return resolve_on_base(
            base=base or made_base(tmp_path),
            system=system,
            suite=suite,
            apt=apt,
            architecture="amd64",
            cache=Cache(tmp_path / "cache"),
            progress=Notes(),
            upgrade=Upgrade(),
            previous=previous,
            with_python=with_python,
            python=python,
        )

    return run


def versions(found: Added) -> dict[str, str]:
    return {deb.name: deb.version for deb in found.debs}


def test_only_what_is_missing_is_added(tree: MirrorTree, add: Add) -> None:
    newer = [package("libc6", "2.36-10"), package("gawk", Provides="awk"), package("base-files", "13", Essential="yes")]
    jq = [package("jq", "1.6", Depends="libjq1 (= 1.6), libc6 (>= 2.34), awk"), package("libjq1", "1.6")]
    tree.publish([*newer, *jq])
    found = add("jq", "libssl3")
    assert versions(found) == {"jq": "1.6", "libjq1": "1.6"}
    assert {deb.group for deb in found.debs} == {"apt"}


def test_no_mirror_is_asked_for_what_the_base_has(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_APT_SOURCES", "/nonexistent")
    assert add("libssl3", "mawk=1.3") == Added()


def test_an_older_version_is_taken_where_it_fits_the_base(tree: MirrorTree, add: Add) -> None:
    new, old = package("git", "2", Depends="libc6 (>= 2.40)"), package("git", "1", Depends="libc6")
    tree.publish([new, old])
    assert versions(add("git")) == {"git": "1"}


HOLDS = "nothing of a base is upgraded or removed: take another base, or a newer tag of this one"
REFUSED: dict[str, tuple[list[Stanza], tuple[str, ...], str]] = {
    "a newer dependency": (
        [package("git", "2", Depends="libssl3 (>= 3.0.16)"), package("libssl3", "3.0.16")],
        ("git",),
        "`git` can't be installed from bookworm:\n"
        f"  git 2 needs libssl3 (>= 3.0.16), but the base has libssl3 3.0.11-1\n  hint: {HOLDS}",
    ),
    "it breaks the base": (
        [package("git", "2", Breaks="mawk (<< 2)")],
        ("git",),
        "`git` can't be installed from bookworm:\n"
        f"  git 2 breaks mawk (<< 2), and the base has mawk 1.3\n  hint: {HOLDS}",
    ),
    "another version of what is there": (
        [],
        ("mawk=1.4",),
        "`mawk=1.4` was asked for, but the base has mawk 1.3\n"
        "  hint: the base is used as it is: take another tag of it that has it, or install it in a Containerfile",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_change_the_base_is_refused(case: str, tree: MirrorTree, add: Add) -> None:
    packages, apt, message = REFUSED[case]
    tree.publish(packages)
    with pytest.raises(ResolveError) as caught:
        add(*apt)
    assert str(caught.value) == message


def test_the_base_may_refuse_a_package(tree: MirrorTree, add: Add, tmp_path: Path) -> None:
    tree.publish([package("rival", Provides="mta")])
    base = made_base(tmp_path, [*INSTALLED, package("postfix", "3", Conflicts="mta", Provides="mta")])
    with pytest.raises(ResolveError, match=r"postfix 3 of the base conflicts with mta, and rival 1\.0 provides it"):
        add("rival", base=base)


def test_a_name_that_the_base_provides_is_met(tree: MirrorTree, add: Add) -> None:
    tree.publish([package("gawk", Provides="awk"), package("original-awk", Provides="awk")])
    assert add("awk") == Added()


def test_what_the_base_itself_lacks_is_not_mended(tree: MirrorTree, add: Add, tmp_path: Path) -> None:
    broken = package("odd", "1", Depends="missing (>= 2)", Conflicts="libc6")
    tree.publish([package("jq"), package("missing", "2")])
    assert versions(add("jq", base=made_base(tmp_path, [*INSTALLED, broken]))) == {"jq": "1.0"}


def test_remains_and_foreign_packages_are_not_installed(tree: MirrorTree, add: Add, tmp_path: Path) -> None:
    foreign = {**package("libjq1", "1.5"), "Architecture": "i386"}
    text = status(*INSTALLED, foreign) + "\n" + stanza(package("jq", "1.5"), "deinstall ok config-files")
    tree.publish([package("jq", "1.6", Depends="libjq1"), package("libjq1", "1.6")])
    base = made_base(tmp_path, more={"var/lib/dpkg/status": text.encode()})
    assert versions(add("jq", base=base)) == {"jq": "1.6", "libjq1": "1.6"}


def test_a_base_without_dpkg_lists_each_package_in_a_file(tree: MirrorTree, add: Add, tmp_path: Path) -> None:
    tree.publish([package("jq", Depends="libc6"), package("libc6", "2.36-10")])
    parts: dict[str, Content] = {f"var/lib/dpkg/status.d/{p['Package']}": stanza(p, "").encode() for p in INSTALLED}
    base = base_tree(tmp_path, {**parts, "var/lib/dpkg/status.d/libc6.md5sums": b"0  usr/lib/libc.so.6\n"})
    assert versions(add("jq", base=base)) == {"jq": "1.0"}


CUDA = "Types: deb\nURIs: https://gpu.example.org/repos\nSuites: /\nSigned-By: /k.gpg\n"


@pytest.mark.parametrize(
    ("apt", "says"),
    [
        ("cuda-toolkit", "bookworm has no package `cuda-toolkit`\n  hint: the base also names"),
        ("needs-cuda", "needs cuda-toolkit, which bookworm does not have\n  hint: the base also names"),
        ("needs-cudda", "hint: did you mean `needs-cuda`?; the base also names"),
    ],
)
def test_archives_of_others_are_named_when_something_is_missing(
    apt: str, says: str, tree: MirrorTree, add: Add, tmp_path: Path
) -> None:
    tree.publish([package("jq"), package("needs-cuda", Depends="cuda-toolkit")])
    base = made_base(tmp_path, more={"etc/apt/sources.list.d/cuda.sources": CUDA.encode()})
    assert versions(add("jq", base=base)) == {"jq": "1.0"}
    with pytest.raises(ResolveError) as caught:
        add(apt, base=base)
    assert says in str(caught.value)
    assert "/etc/apt/sources.list.d/cuda.sources (https://gpu.example.org/repos /)" in str(caught.value)


def test_which_archives_are_the_distributions_own(tmp_path: Path) -> None:
    own = "Types: deb\nURIs: http://a.example.org/ubuntu\nSuites: noble noble-updates\nComponents: main universe\n"
    files: dict[str, Content] = {
        "etc/apt/sources.list": b"# empty\n",
        "etc/apt/sources.list.d/ubuntu.sources": own.encode(),
        "etc/apt/sources.list.d/more.list": b"deb http://a.example.org/ubuntu noble multiverse\n",
        "etc/apt/sources.list.d/ppa.list": b"deb http://ppa.example.org/me/ppa/ubuntu noble main\n",
        "etc/apt/sources.list.d/odd.list": b"this is no source\n",
    }
    ground = read_ground(made_base(tmp_path, more=files), "noble", "amd64", UBUNTU)
    assert ground.components == ("main", "multiverse", "universe")
    assert ground.foreign == ("/etc/apt/sources.list.d/ppa.list (http://ppa.example.org/me/ppa/ubuntu noble)",)
    assert read_ground(made_base(tmp_path), "bookworm", "amd64", DEBIAN).components == ("main", "contrib")


PYTHON = [
    package("python3", "3.11.2-1+b1", Depends="python3.11"),
    package("python3.11", "3.11.2-6", Depends="python3.11-minimal"),
    package("python3.11-minimal", "3.11.2-6", Depends="libc6"),
]


def test_python_is_added_where_it_is_needed(tree: MirrorTree, add: Add, tmp_path: Path) -> None:
    tree.publish([*PYTHON, package("jq")])
    found = add(with_python=True, python="3.11")
    assert (sorted(versions(found)), found.python) == (["python3", "python3.11", "python3.11-minimal"], "3.11.2")
    assert add("jq").python is None
    assert add("jq", base=made_base(tmp_path, [*INSTALLED, *PYTHON])).python == "3.11.2"
    with pytest.raises(ResolveError, match=r"python 3\.12 was asked for, but bookworm has python 3\.11"):
        add(with_python=True, python="3.12")


def test_pins_stay_unless_the_base_has_the_package_now(tree: MirrorTree, add: Add, tmp_path: Path) -> None:
    tree.publish([package("jq", "1.6"), package("tree", "2.0")])
    before = add("jq", "tree")
    tree.publish([package("jq", "1.7"), package("jq", "1.6"), package("tree", "2.1"), package("tree", "2.0")])
    assert versions(add("jq", "tree", previous=before.debs)) == {"jq": "1.6", "tree": "2.0"}
    newer = made_base(tmp_path, [*INSTALLED, package("tree", "2.1")])
    assert versions(add("jq", "tree", previous=before.debs, base=newer)) == {"jq": "1.6"}


def test_ubuntus_archive_is_used_for_ubuntu(
    tree: MirrorTree, add: Add, tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.publish([package("jq", "1.7")], "noble", Origin="Ubuntu", Suite="noble")
    with pytest.raises(ResolveError, match="no Debian mirror of this machine has the suite `noble`"):
        add("jq", suite="noble")
    assert versions(add("jq", suite="noble", system="ubuntu")) == {"jq": "1.7"}  # no source names it: all are asked
    configure(tmp_path, signer, monkeypatch, "noble")
    assert versions(add("jq", suite="noble", system="ubuntu")) == {"jq": "1.7"}


def test_without_a_mirror_of_ubuntu_it_is_told_how_to_name_one(tree: MirrorTree, add: Add) -> None:
    tree.publish([package("jq")])
    with pytest.raises(ResolveError) as caught:
        add("jq", suite="noble", system="ubuntu")
    said = str(caught.value)
    assert "no Ubuntu mirror of this machine has the suite `noble`" in said
    assert "set LAUNCHER_APT_SOURCES" in said and "mirror.example.org/ubuntu noble main" in said
    assert "debian" not in said.replace("file://", "")


def test_ubuntus_keys_are_asked_for_where_no_source_names_some(
    tree: MirrorTree, add: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sources.list").write_text(f"deb file://{tmp_path}/mirror noble main\n")
    monkeypatch.setattr("launcher.indexes.apt_distribution.Distribution.found_keyrings", lambda self: [])
    tree.publish([package("jq")], "noble", Origin="Ubuntu", Suite="noble")
    with pytest.raises(FetchError, match="no keys to check an Ubuntu mirror with"):
        add("jq", suite="noble", system="ubuntu")


def test_other_systems_are_refused(add: Add, tmp_path: Path) -> None:
    with pytest.raises(ResolveError, match="the base is `alpine`, and `apt:` adds packages to Debian and Ubuntu only"):
        add("jq", system="alpine")
    with pytest.raises(ResolveError, match="no package of amd64 in its dpkg status"):
        add("jq", base=made_base(tmp_path, []))


def test_a_file_of_the_same_name_in_another_archive_is_passed_over(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = []
    for origin, text in (("debian", "another, longer description"), ("ubuntu", "short")):
        tree = MirrorTree(tmp_path / origin, signer)
        tree.publish([package("jq", "1.7", Description=text)])
        roots.append(f"deb file://{tmp_path}/{origin} bookworm main\n")
    (tmp_path / "both.list").write_text("".join(roots))
    monkeypatch.setenv("LAUNCHER_APT_SOURCES", str(tmp_path / "both.list"))
    path = next((tmp_path / "ubuntu" / "pool").rglob("*.deb"))
    data = path.read_bytes()
    deb = Deb(
        name="jq",
        version="1.7",
        architecture="amd64",
        filename=path.name,
        size=len(data),
        sha256=sha256_bytes(data),
        group="apt",
        pool=str(path.relative_to(tmp_path / "ubuntu")),
    )
    assert fetch([deb], Cache(tmp_path / "cache"), [AptMirror()])[deb.sha256].read_bytes() == data
