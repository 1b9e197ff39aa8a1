"""Our Debian against dpkg's: the same packages, installed by mmdebstrap and composed by us, path by path.

Needs root, mmdebstrap, and a Debian mirror in this machine's apt sources. What may differ, and why, is the table in
docs/reference/debian-images.md.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from launcher import toml
from launcher.errors import SpecError
from launcher.image.base import read_tree
from launcher.image.debian import DebianTree, compose
from launcher.image.debian.installed import installed, stanzas
from launcher.image.debian.system import OF_BASE
from launcher.image.tree import Entry
from launcher.lock.model import Deb
from tests.patience import LONG_S

pytestmark = [
    pytest.mark.services,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mmdebstrap"), reason="needs root and mmdebstrap"),
]

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "debian-images.md"
ROW = re.compile(r"\| `(?P<pattern>[^`]+)` \| (?P<how>missing|extra|differs) \| (?P<why>.+) \|")
SPECIAL = stat.S_ISUID | stat.S_ISGID

LISTED = toml.parse(Path(__file__).with_name("debian-programs.toml").read_text(), "debian-programs.toml", SpecError)
PROGRAMS = {**LISTED["packages"], **LISTED["system"]}


@dataclass(frozen=True)
class Systems:
    """The same packages twice: `dpkg` is a folder, `ours` a tree and the folder that it was written to."""

    dpkg: Path
    tree: DebianTree
    ours: Path


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systems]:
    place = tmp_path_factory.mktemp("parity")
    place.chmod(0o755)
    (place / "scratch").mkdir()
    try:
        bootstrap(place / "dpkg", sorted(LISTED["packages"]))
        tree = compose(packages(place / "dpkg" / "var/cache/apt/archives"), place / "scratch")
        write(tree, place / "ours")
        yield Systems(place / "dpkg", tree, place / "ours")
    finally:
        shutil.rmtree(place)


def bootstrap(root: Path, names: list[str]) -> None:
    """Install packages with Debian's own tools and keep their files."""
    suite = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    assert suite, "this machine is no Debian"
    options = ["--variant=essential", "--format=directory", *([f"--include={','.join(names)}"] if names else [])]
    options += ["--skip=essential/unlink,cleanup/apt,download/empty", "--dpkgopt=force-unsafe-io"]
    options += ['--aptopt=APT::Keep-Downloaded-Packages "true"']
    subprocess.run(["mmdebstrap", "--quiet", *options, suite[1], str(root)], check=True, timeout=600)


def packages(folder: Path) -> list[tuple[Deb, Path]]:
    """Describe .debs as a lock would."""
    return [(pin(path), path) for path in sorted(folder.glob("*.deb"))]


def pin(path: Path) -> Deb:
    fields = ("Package", "Version", "Architecture")
    shown = subprocess.run(["dpkg-deb", "--field", path, *fields], capture_output=True, text=True, check=True).stdout
    name, version, architecture = (line.split(": ", 1)[1] for line in shown.splitlines())
    return Deb(
        name=name,
        version=version,
        architecture=architecture,
        filename=path.name,
        size=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        group="apt",
        pool=f"pool/{path.name}",
    )


def write(tree: DebianTree, root: Path) -> None:
    """Write a tree to a folder."""
    for path in ["", *sorted(tree.entries)]:
        entry, place = tree.entries.get(path, Entry("", "dir")), root / path
        if entry.kind == "dir":
            place.mkdir()
        elif entry.kind == "symlink":
            place.symlink_to(entry.target)
        elif entry.content is not None:
            with place.open("wb") as stream:
                stream.writelines(entry.content.chunks())
    for path, entry in tree.entries.items():
        if entry.kind == "hardlink":
            os.link(root / entry.target, root / path)
        elif entry.kind != "symlink":
            (root / path).chmod(entry.mode)


def allowed() -> list[tuple[str, str]]:
    """Read (pattern, how) from the table of the reference page."""
    return [(row["pattern"], row["how"]) for row in ROW.finditer(TABLE.read_text(encoding="utf-8"))]


def differences(systems: Systems) -> Iterator[tuple[str, str, str]]:
    """Yield (how, path, what) for each difference."""
    entries = systems.tree.entries
    theirs = {str(p.relative_to(systems.dpkg)) for p in walk(systems.dpkg)}
    yield from (("missing", path, "") for path in theirs - set(entries))
    yield from (("extra", path, "") for path in set(entries) - theirs)
    for path in theirs & set(entries):
        if what := difference(systems.dpkg / path, entries[path], entries):
            yield "differs", path, what


def walk(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        yield from (Path(folder, name) for name in (*folders, *files))


def difference(theirs: Path, entry: Entry, entries: Mapping[str, Entry]) -> str:
    """Say in which way an entry isn't dpkg's, modes modulo setuid and setgid; "" when it is."""
    found = theirs.lstat()
    kind = "dir" if stat.S_ISDIR(found.st_mode) else "symlink" if stat.S_ISLNK(found.st_mode) else "file"
    behind = entries[entry.target] if entry.kind == "hardlink" else entry
    if kind != behind.kind:
        return f"is a {behind.kind}, not a {kind}"
    if kind == "symlink":
        return "" if str(theirs.readlink()) == entry.target else f"leads to {entry.target}, not {theirs.readlink()}"
    mode = stat.S_IMODE(found.st_mode) & ~SPECIAL
    if mode != entry.mode:
        return f"has mode {entry.mode:o}, not {mode:o}"
    if behind.content is not None and b"".join(behind.content.chunks()) != theirs.read_bytes():
        return "has another content"
    return ""


def test_the_tree_is_dpkgs_apart_from_what_the_reference_lists(systems: Systems) -> None:
    table = allowed()
    assert table, "the reference page has no table"
    unexplained = [
        f"{how} {path} {what}".rstrip()
        for how, path, what in sorted(differences(systems))
        if not any(how == kind and fnmatch.fnmatchcase("/" + path, pattern) for pattern, kind in table)
    ]
    assert not unexplained, "\n".join(unexplained[:100])
    assert len(systems.tree.entries) > 10_000


def test_the_linkers_cache_is_ldconfigs(systems: Systems) -> None:
    listed = [
        subprocess.run(["/sbin/ldconfig", "-r", root, "-p"], capture_output=True, text=True, check=True).stdout
        for root in (systems.dpkg, systems.ours)
    ]
    lines = [[line for line in text.splitlines() if "=>" in line] for text in listed]
    assert lines[0] == lines[1] and len(lines[0]) > 100


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_starts_and_does_its_smallest_job(systems: Systems, name: str) -> None:
    done = inside(systems.ours, PROGRAMS[name]["run"])
    assert PROGRAMS[name]["says"] in done.stdout, done.stderr


def test_over_a_base_the_tree_is_dpkgs_too(systems: Systems, tmp_path: Path) -> None:
    """The packages over an essential system that dpkg has installed, against dpkg's own installation of all of them.

    What is the base's stays as it is, setuid bits and the backups of the password tools included.
    """
    bootstrap(tmp_path / "base", [])
    subprocess.run(["tar", "-C", tmp_path / "base", "--exclude=./dev/*", "-cf", tmp_path / "base.tar", "."], check=True)
    base = read_tree([tmp_path / "base.tar"])
    there = {fields["Package"] for fields in installed(base)}
    added = [(deb, path) for deb, path in packages(systems.dpkg / "var/cache/apt/archives") if deb.name not in there]
    tree = compose(added, tmp_path, base=base)
    entries = {path: replace(entry, mode=entry.mode & ~SPECIAL) for path, entry in tree.entries.items()}
    over = Systems(systems.dpkg, DebianTree(entries=entries, owners=tree.owners), systems.ours)
    table, status = allowed(), "var/lib/dpkg/status"
    unexplained = [
        f"{how} {path} {what}".rstrip()
        for how, path, what in sorted(differences(over))
        if path != status and not any(explains(row, how, path, tree.owners.get(path, "")) for row in table)
    ]
    assert not unexplained, "\n".join(unexplained[:100])
    content = entries[status].content
    assert content is not None and len(added) > 100
    ours = b"".join(content.chunks()).decode()
    assert set(stanzas(ours)) == set(stanzas((systems.dpkg / status).read_text()))


def explains(row: tuple[str, str], how: str, path: str, owner: str) -> bool:
    """Tell whether a row of the table is about a difference. What we never make differs where the base has it."""
    pattern, kind = row
    return fnmatch.fnmatchcase("/" + path, pattern) and (how == kind or (kind == "missing" and owner == OF_BASE))


def inside(root: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line in namespaces of its own, with `root` as its root."""
    mounts = 'mount --rbind /dev "$1/dev" && mount -t proc proc "$1/proc" && mount -t tmpfs none "$1/tmp"'
    enter = f'{mounts} && exec chroot "$1" /bin/sh -c "$2"'
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
    }
    args = [*unshare, "sh", "-c", enter, "sh", str(root), script]
    return subprocess.run(args, env=env, capture_output=True, text=True, timeout=LONG_S)
