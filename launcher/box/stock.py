"""What the box's own store has of a run, listed such that all which a listed object refers to is listed, too."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.box.lineage import Line
from launcher.digest import sha256_bytes
from launcher.runner.sealed import unsealed
from launcher.store import keys
from launcher.store.scraps import TEMPORARY

# The order in which they are sent. What names others comes after them; a runner writes in the same order, so the parts
# are listed the other way round.
RANKS = ("gate", "content", "manifest", "event", "heartbeat", "record")
LISTED = ("record.json", "events", "outputs", "checkpoints", "claims", "blobs", "metrics", "logs", "heartbeats")
SERIES = ("events", "logs", "metrics")


class Stock:
    """A listing of `runs/<run>/` in a folder: sizes by key, relative to that; the record as it was then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = read(folder / "record.json")
        self.sizes: dict[str, int] = {}
        for part in LISTED:
            self.sizes |= dict(below(folder, part))

    def line(self) -> Line:
        """Return which attempts and claims are here."""
        events = [numbered(key) for key in self.sizes if key.startswith("events/")]
        claims = {epoch(key): read(self.folder / key) for key in self.sizes if epoch(key)}
        told = {
            number: (int(json.loads(data)["attempt"]), sha256_bytes(data)) for number, data in claims.items() if data
        }
        begun = {number for number, seq in events if seq} | {attempt for attempt, _ in told.values()}
        queued = {number: read(self.folder / event_0(number)) for number, seq in events if not seq}
        shas = {number: sha256_bytes(data) for number, data in queued.items() if data is not None}
        return Line(queued=shas, claims=told, begun=frozenset(begun))


def below(folder: Path, part: str) -> Iterator[tuple[str, int]]:
    """Yield (key, size) of whole objects; manifests of outputs before their files, as they are written after them."""
    top = folder / part
    if part.endswith(".json"):
        if (size := size_of(top)) is not None:
            yield part, size
        return
    found = [Path(place, name) for place, _, names in os.walk(top) for name in names if not TEMPORARY.fullmatch(name)]
    for path in found:
        if (size := size_of(path)) is not None:
            yield path.relative_to(folder).as_posix(), size


def size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # forgotten meanwhile
        return None


def read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def rank(key: str) -> int:
    """Return the place of an object, by its key relative to the run, in the order of RANKS."""
    part = key.partition("/")[0]
    if key.endswith("/manifest.json") and is_manifest(key):
        return RANKS.index("manifest")
    if part == "claims" or (part == "events" and numbered(key)[1] == 0):
        return RANKS.index("gate")
    named = {"events": "event", "heartbeats": "heartbeat", "record.json": "record"}
    return RANKS.index(named.get(part, "content"))


def is_manifest(key: str) -> bool:
    """Tell a manifest from an output that has such a name."""
    return key.count("/") == 2 and key.startswith(("checkpoints/", "outputs/"))


def attempt_of(key: str, claims: Mapping[int, tuple[int, str]]) -> int | None:
    """Return the attempt that an object belongs to; None for what belongs to none, as blobs do."""
    part, _, rest = key.partition("/")
    if part in ("blobs", "record.json"):
        return None
    if part == "claims":
        name = rest.partition(".")[0].partition("-")[0]
        return claims.get(int(name), (0, ""))[0]
    return int(rest.partition("/")[0].partition("-")[0].partition(".")[0])


def numbered(key: str) -> tuple[int, int]:
    """Return (attempt, number) of a key of a series."""
    _, attempt, name = key.split("/")
    return int(attempt), int(name.partition(".")[0])


def names(key: str, data: bytes) -> frozenset[str]:
    """Return what a manifest names; keys are relative to the run. One that can't be read names nothing."""
    try:
        lines = (unsealed(data) if key.startswith("checkpoints/") else json.loads(data))["files"]
        if key.startswith("checkpoints/"):
            found = [keys.blob_of("", line) for line in lines]
        else:
            attempt = int(key.split("/")[1])
            found = [keys.output("", attempt, line["path"]) for line in lines if "link" not in line]
    except (KeyError, TypeError, ValueError):
        return frozenset()
    return frozenset(one.removeprefix(keys.run("")) for one in found if one)


def epoch(key: str) -> int:
    """Return the epoch of a claim's key; 0 for another one."""
    name = key.removeprefix("claims/").removesuffix(".json")
    return int(name) if key.startswith("claims/") and name.isdigit() else 0


def event_0(attempt: int) -> str:
    return keys.event("", attempt, 0).removeprefix(keys.run(""))


def packed(known: Iterable[str]) -> dict[str, Any]:
    """Write many keys in few bytes: of series only the numbers, as ranges."""
    series: dict[str, list[int]] = {}
    rest = []
    for key in known:
        if key.partition("/")[0] in SERIES and key.count("/") == 2:
            series.setdefault(key.rpartition("/")[0], []).append(numbered(key)[1])
        else:
            rest.append(key)
    return {"series": {name: ranges(numbers) for name, numbers in series.items()}, "keys": sorted(rest)}


def ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Return numbers as [first, last] of each unbroken row."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


class Known:
    """What somebody said that they have: see `packed`."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.series: Mapping[str, list[list[int]]] = told["series"]
        self.keys = frozenset(told["keys"])

    def __contains__(self, key: str) -> bool:
        if key in self.keys:
            return True
        rows = self.series.get(key.rpartition("/")[0]) if key.count("/") == 2 else None
        return bool(rows) and any(first <= numbered(key)[1] <= last for first, last in rows or ())
