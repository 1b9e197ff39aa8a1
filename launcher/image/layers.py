"""Where the layers are cut: one for each big artifact, few for the small ones, the big and stable ones lowest.

Engines that know a layer by the chain below it fetch everything above the first change again, so what changes
often lies high. The order is total and depends on nothing but the lock:

    base        what every image of the suite has
    NAME VERSION   each artifact of 20 MB or more unpacked, biggest first
    packages    the other Debian packages
    system      what the rules made of all Debian packages: users, alternatives, dpkg's status
    python      the environment's skeleton and all small wheels
    runtime     what Apptainer and enroot read, and places where runtimes mount something (interop.py)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from launcher.errors import ImageError, Problem
from launcher.image.inflate import ZipMember
from launcher.image.keys import key_of
from launcher.image.tar import in_order
from launcher.image.tree import Bytes, Entry
from launcher.lock.model import Wheel

BIG_BYTES = 20_000_000
MOST_SOLO_LAYERS = (
    50  # of wheels, and of .debs; engines bear 125 in all (moby's maxLayerDepth); some overlay mounts bear fewer
)
MOST_LAYERS = 125
FEW_LAYERS = 120  # what is aimed at, so that somebody may still build upon the image
SHARED_LAYERS = 6  # layers of ours that aren't one artifact's


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """One layer, not yet written. `key` is the same whenever the bytes will be; lower ranks lie lower."""

    rank: int
    name: str
    key: str
    size: int  # of the files in it, in bytes
    entries: Callable[[], list[Entry]]


BASE, BIG, PACKAGES, SYSTEM, PYTHON, RUNTIME = range(6)
HIDDEN = -1


@dataclass(frozen=True, kw_only=True)
class WheelFiles:
    """What one wheel installs."""

    wheel: Wheel
    entries: tuple[Entry, ...]

    @property
    def size(self) -> int:
        return sum(entry.content.size for entry in self.entries if entry.content)


def with_parents(entries: Iterable[Entry], folders: Mapping[str, Entry]) -> list[Entry]:
    """Add the folders above every entry, with the mode that `folders` gives or 0755, and put all in order.

    Every layer has the same entry for the same folder, so no stacking order changes a folder's mode.
    """
    placed = {entry.path: entry for entry in entries}
    for path in list(placed):
        while (path := path.rpartition("/")[0]) and path not in placed:
            placed[path] = folders.get(path) or Entry(path, "dir", 0o755)
    return relinked(in_order(placed.values()))


def relinked(ordered: list[Entry]) -> list[Entry]:
    """Let the first path of each set of hard links hold the content: readers know only links to what they have read."""
    holder: dict[str, str] = {}
    for entry in ordered:
        if entry.kind == "hardlink":
            holder.setdefault(entry.target, min(entry.path, entry.target, key=str.encode))
    if not holder:
        return ordered
    files = {entry.path: entry for entry in ordered if entry.path in holder}
    return [link_to(holder, files, entry) for entry in ordered]


def link_to(holder: Mapping[str, str], files: Mapping[str, Entry], entry: Entry) -> Entry:
    target = entry.target if entry.kind == "hardlink" else entry.path
    if target not in holder:
        return entry
    if target not in files:
        raise ImageError(f"/{entry.path} is a hard link to /{target}, which isn't in the same layer")
    if holder[target] == entry.path:
        return replace(files[target], path=entry.path)
    return Entry(entry.path, "hardlink", files[target].mode, target=holder[target])


def solo_layers(base: int) -> int:
    """Return how many wheels, and how many .debs, may have layers of their own over `base` layers of a base."""
    return max(0, min(MOST_SOLO_LAYERS, (FEW_LAYERS - base - SHARED_LAYERS) // 2))


def refuse_too_many(count: int) -> None:
    """Raise ImageError for more layers than engines bear."""
    if count > MOST_LAYERS:
        raise ImageError(
            f"the image would have {count} layers, and engines bear {MOST_LAYERS}",
            hint="take a base with fewer layers, or squash it: FROM it in a Containerfile and build with --squash",
        )


def wheel_layers(
    files: Sequence[WheelFiles], skeleton: Sequence[Entry], python: str, most_solo: int = MOST_SOLO_LAYERS
) -> list[LayerPlan]:
    """Cut the wheels into layers: big ones alone, the rest and the environment's skeleton in one, last."""
    refuse_conflicts([*((f.wheel.filename, f.entries) for f in files), ("the environment itself", skeleton)])
    ordered = sorted(files, key=lambda f: (-f.size, f.wheel.name, f.wheel.sha256))
    solo = [f for f in ordered[:most_solo] if f.size >= BIG_BYTES]
    small = sorted((f for f in files if f not in solo), key=lambda f: f.wheel.name)
    return [*(solo_layer(f, python) for f in solo), small_layer(small, skeleton, python)]


def solo_layer(files: WheelFiles, python: str) -> LayerPlan:
    return LayerPlan(
        rank=BIG,
        name=f"{files.wheel.name} {files.wheel.version}",
        key=key_of("wheel", python, files.wheel.sha256),
        size=files.size,
        entries=lambda: with_parents(files.entries, {}),
    )


def small_layer(files: Sequence[WheelFiles], skeleton: Sequence[Entry], python: str) -> LayerPlan:
    """Bundle small wheels; a path that several of them have, with equal content, is written once."""
    entries = {entry.path: entry for f in reversed(files) for entry in f.entries}
    entries.update((entry.path, entry) for entry in skeleton)
    return LayerPlan(
        rank=PYTHON,
        name="python",
        key=key_of("wheels", python, [f.wheel.sha256 for f in files], [said(entry) for entry in skeleton]),
        size=sum(f.size for f in files),
        entries=lambda: with_parents(entries.values(), {}),
    )


def refuse_conflicts(owners: Sequence[tuple[str, Sequence[Entry]]]) -> None:
    """Raise ImageError that names every path for which two wheels have different contents."""
    seen: dict[str, tuple[str, Entry]] = {}
    problems = []
    for owner, entries in owners:
        for entry in entries:
            first_owner, first = seen.setdefault(entry.path, (owner, entry))
            if first is not entry and not same(first, entry):
                problems.append(conflict(entry.path, first_owner, owner))
    files = {path: owner for path, (owner, entry) in seen.items() if entry.kind != "dir"}
    problems += [within(path, up, seen) for path in seen for up in parents(path) if up in files]
    if problems:
        raise ImageError.of(sorted(problems, key=str))


def parents(path: str) -> list[str]:
    return [path[:at] for at in range(len(path)) if path[at] == "/"][2:]  # nothing is a file at /opt or /opt/env


def within(path: str, above: str, seen: Mapping[str, tuple[str, Entry]]) -> Problem:
    return conflict(above, seen[above][0], seen[path][0])


def conflict(path: str, one: str, other: str) -> Problem:
    return Problem(
        message=f"two different contents for one path, /{path}: from {one} and from {other}",
        hint="they can't be installed together; leave one out, or choose versions that agree",
    )


def same(one: Entry, other: Entry) -> bool:
    """Tell whether two entries are the same file; contents are read only when sizes and checksums agree."""
    a, b = one.content, other.content
    if (one.kind, one.mode, one.target) != (other.kind, other.mode, other.target) or a is None or b is None:
        return one == other
    if a.size != b.size or (isinstance(a, ZipMember) and isinstance(b, ZipMember) and a.crc != b.crc):
        return False
    return b"".join(a.chunks()) == b"".join(b.chunks())


def said(entry: Entry) -> tuple[str, str, str]:
    content = entry.content.data.decode() if isinstance(entry.content, Bytes) else ""
    return (entry.path, entry.target, content)


def skeleton(python: str, full: str, interpreter: str | None = None, system: bool = False) -> list[Entry]:
    """Return what makes `/opt/env` a virtual environment (PEP 405) of the image's own Python `X.Y`.

    With `system`, packages that the interpreter has itself are seen from within.
    """
    interpreter = interpreter or f"/usr/bin/python{python}"
    home, seen = interpreter.rpartition("/")[0], "true" if system else "false"
    config = f"home = {home}\ninclude-system-site-packages = {seen}\nversion = {full}\n"
    return [
        Entry("opt/env/pyvenv.cfg", "file", 0o644, Bytes(config.encode())),
        Entry("opt/env/bin/python", "symlink", 0o777, target=interpreter),
        Entry("opt/env/bin/python3", "symlink", 0o777, target="python"),
        Entry(f"opt/env/bin/python{python}", "symlink", 0o777, target="python"),
        Entry(f"opt/env/lib/python{python}/site-packages", "dir", 0o755),
    ]
