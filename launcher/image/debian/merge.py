"""Packages laid over each other: who owns a path that several ship, decided as dpkg would, whatever their order."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from posixpath import dirname

from launcher.errors import ImageError, Problem
from launcher.image.deb import Package
from launcher.image.debian.layout import Layout
from launcher.image.debian.replaces import names_in
from launcher.image.tree import Content, Entry

MOST_PROBLEMS = 20
FOLDER_MODE = 0o755


@dataclass(frozen=True)
class Claim:
    """One package's wish for a path. `entry` has its real path and, for a hard link, the real path of its target;
    `member` is what the package ships."""

    package: Package
    entry: Entry
    member: Entry


@dataclass(frozen=True)
class Diversion:
    """`dpkg-divert`: the file at `path` goes to `to`, unless `by` ships it. Paths are relative, as shipped."""

    path: str
    to: str
    by: str


def in_order(packages: Sequence[Package]) -> list[Package]:
    """Put packages into the one order in which ties are broken: base first, then by name."""
    return sorted(packages, key=lambda package: (package.deb.group != "base", package.name))


def merge(
    packages: Sequence[Package], layout: Layout, diversions: Sequence[Diversion] = ()
) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the tree's entries and each path's owner.

    Folders merge; the first package's mode stands. A file in two packages belongs to the one whose Replaces names the
    other, or to the first when the contents are the same. Raises ImageError with every path that two packages claim
    with different contents.
    """
    claims = collect(packages, layout, diversions)
    entries: dict[str, Entry] = {}
    owners: dict[str, str] = {}
    problems: list[Problem] = []
    for path, wishes in claims.items():
        try:
            won = wishes[0] if len(wishes) == 1 else decide(wishes)
        except ImageError as e:
            problems.extend(e.problems)
            continue
        entries[path], owners[path] = won.entry, won.package.name
    if problems:
        raise ImageError.of(problems[:MOST_PROBLEMS])
    add_folders(entries, owners)
    mend_hard_links(entries, owners, claims)
    return entries, owners


def collect(packages: Sequence[Package], layout: Layout, diversions: Sequence[Diversion]) -> dict[str, list[Claim]]:
    """Bring every member to its real place: a folder to where a symlink of its name leads, as dpkg does."""
    diverted = {layout.place(d.path): (layout.place(d.to), d.by) for d in diversions}
    claims: dict[str, list[Claim]] = defaultdict(list)
    for package in in_order(packages):
        for member in package.members:
            path = layout.real(member.path) if member.kind == "dir" else place(layout, diverted, package, member.path)
            if not path:
                continue
            target = place(layout, diverted, package, member.target) if member.kind == "hardlink" else member.target
            moved = path != member.path or target != member.target
            entry = replace(member, path=path, target=target) if moved else member
            claims[path].append(Claim(package, entry, member))
    return claims


def place(layout: Layout, diverted: Mapping[str, tuple[str, str]], package: Package, path: str) -> str:
    real = layout.place(path)
    to, by = diverted.get(real, (real, package.name))
    return real if by == package.name else to


def decide(wishes: Sequence[Claim]) -> Claim:
    """Choose between claims of one path."""
    kinds = {wish.entry.kind for wish in wishes}
    if kinds == {"dir"}:
        return wishes[0]
    if "dir" in kinds:
        raise conflict(wishes, "is a folder only once")
    won = wishes[0]
    for wish in wishes[1:]:
        won = choose(won, wish)
    return won


def choose(one: Claim, other: Claim) -> Claim:
    """Choose between two files. Where each replaces the other, the later one in order is kept, as if installed last."""
    if replaces(other.package, one.package):
        return other
    if replaces(one.package, other.package) or same(one, other):
        return one
    raise conflict((one, other), "has different contents")


def replaces(package: Package, other: Package) -> bool:
    return names_in(package.fields.get("Replaces", ""), other.name, other.deb.version)


def same(one: Claim, other: Claim) -> bool:
    """Tell whether two claims come to the same file."""
    a, b = resolved(one), resolved(other)
    if (a.kind, a.target) != (b.kind, b.target):
        return False
    if a.content is None or b.content is None or a.content.size != b.content.size:
        return a.content is b.content
    return sha256(a.content) == sha256(b.content)


def sha256(content: Content) -> bytes:
    digest = hashlib.sha256()
    for chunk in content.chunks():
        digest.update(chunk)
    return digest.digest()


def resolved(claim: Claim) -> Entry:
    """Return a claim's entry, a hard link as the file that it stands for: the members were checked, it is there."""
    if claim.member.kind != "hardlink":
        return claim.entry
    shipped = {entry.path: entry for entry in claim.package.members}
    member = claim.member
    while member.target in shipped and member.kind == "hardlink":
        member = shipped[member.target]
    return replace(member, path=claim.entry.path)


def conflict(wishes: Sequence[Claim], why: str) -> ImageError:
    path, names = wishes[0].entry.path, sorted({f"{wish.package.name} {wish.package.deb.version}" for wish in wishes})
    if len(names) == 1:
        shipped = " and ".join(f"/{wish.member.path}" for wish in wishes)
        return ImageError(f"/{path}: {names[0]} ships it as {shipped}, and it {why}")
    return ImageError(
        f"/{path}: {' and '.join(names)} ship it, and it {why}",
        hint="neither Replaces the other and neither diverts it; leave one of them out of `image.apt`",
    )


def add_folders(entries: dict[str, Entry], owners: dict[str, str]) -> None:
    """Add folders that no package lists. Raises ImageError when something else is where a folder must be."""
    for path in list(entries):
        owner, folder = owners[path], dirname(path)
        while folder and folder not in entries:
            entries[folder], owners[folder] = Entry(folder, "dir", FOLDER_MODE), owner
            folder = dirname(folder)
        if folder and entries[folder].kind != "dir":
            raise ImageError(f"/{path}: {owner} ships it, but /{folder} of {owners[folder]} is no folder")


def mend_hard_links(entries: dict[str, Entry], owners: Mapping[str, str], claims: Mapping[str, list[Claim]]) -> None:
    """Point each hard link at a file of the same package; where that isn't its target any more, make it a file."""
    for path, entry in list(entries.items()):
        target = entry
        while target.kind == "hardlink" and owners.get(target.target) == owners[path]:
            target = entries[target.target]
        if entry.kind == "hardlink" and target.kind == "file":
            entries[path] = replace(entry, target=target.path)
        elif entry.kind == "hardlink":
            entries[path] = resolved(next(claim for claim in claims[path] if claim.package.name == owners[path]))
