"""Tell whether what a lock pins of inputs still fits the spec and their sources; what didn't change isn't read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from launcher.cache import Cache
from launcher.errors import FetchError, IntegrityError, Problem, SpecError, StoreError, Where
from launcher.inputs.items import Item, changes, digest_of, same_bytes
from launcher.inputs.memo import Memo
from launcher.inputs.pin import read
from launcher.inputs.places import Here, place_of
from launcher.inputs.shelf import noted_list
from launcher.inputs.source import Source
from launcher.inputs.stage import same_as_told
from launcher.lock.model import DataPin, Lock
from launcher.lock.requirements import display
from launcher.progress import SILENT, Progress
from launcher.spec.model import DataSpec, Spec


@dataclass(kw_only=True)
class Fit:
    """How a lock's inputs stand to a spec. `asked`: the spec asks for others now; `changed`: a source isn't what was
    locked; `unknown`: a source could not be asked, so the lock counts and staging holds to it."""

    asked: list[Problem] = field(default_factory=list)
    changed: list[Problem] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def fit(lock: Lock, spec: Spec, cache: Cache, progress: Progress = SILENT, *, ask: bool = True) -> Fit:
    """Compare; without `ask` only lock and spec, no source.

    Local files are read where their fingerprints changed; of remote ones marks and sizes are asked. So on a machine
    that never read a remote input, a change that keeps all sizes is found only when it is staged.
    """
    found, pins, file = Fit(), {pin.name: pin for pin in lock.data}, display(spec.file)
    for data in spec.data:
        where = Where(file=file, key=f"data.{data.name}")
        if (pin := pins.pop(data.name, None)) is None:
            found.asked.append(Problem(message="came after the lock was made", where=where))
        elif data.sha256 not in (None, pin.sha256):
            message = f"is to have sha256 {data.sha256} now, and {pin.sha256} in the lock"
            found.asked.append(Problem(message=message, where=where))
        elif ask:
            compare(found, pin, data, where, cache, progress)
    for name in sorted(pins):
        where = Where(file=file, key=f"data.{name}")
        found.asked.append(Problem(message="is in the lock and no longer in the spec", where=where))
    return found


def compare(found: Fit, pin: DataPin, data: DataSpec, where: Where, cache: Cache, progress: Progress) -> None:
    """Ask one source, and note what differs."""
    try:
        place = place_of(data)
        if isinstance(place, Here) and not place.path.exists():
            found.unknown.append(f"data `{data.name}`: there is nothing at {place.path}: what the lock says counts")
            return
        ask = here_differs if isinstance(place, Here) else remote_differs
        lines = ask(pin, place, cache, progress)  # type: ignore[arg-type]
    except (StoreError, FetchError) as e:
        found.unknown.append(f"data `{data.name}` can't be asked for, and what the lock says counts: {e}")
        return
    except (SpecError, IntegrityError) as e:
        found.changed += (Problem(message=p.message, hint=p.hint, where=where) for p in e.problems)
        return
    if lines:
        message = "\n  ".join([f"{place.name} is not what was locked ({pin.sha256}):", *lines])
        found.changed.append(Problem(message=message, where=where))


def here_differs(pin: DataPin, place: Here, cache: Cache, progress: Progress) -> list[str]:
    now = place.items(cache, progress)
    if place.kind == pin.kind and digest_of(now) == pin.sha256:
        return []
    return told(noted_list(cache, pin.sha256), now) or [f"it is a {place.kind} with sha256 {digest_of(now)} now"]


def remote_differs(pin: DataPin, place: Source, cache: Cache, progress: Progress) -> list[str]:
    if place.kind != pin.kind:
        return [f"it is a {place.kind}, and the lock has a {pin.kind}"]
    memo, listed = Memo(cache, place.identity), listing(pin, cache)
    now = memo.fill(place.items())
    if listed and (lines := changes(listed, now, same_as_told)):
        return lines
    if any(item.sha256 is None and item.name in memo.known for item in now):  # written since it was read here
        now = read(place, pin.name, cache, progress)
    if not all(item.sha256 for item in now):
        return [] if listed else size_differs(pin, now)
    same = digest_of(now) == pin.sha256
    return [] if same else told(listed, now) or [f"it has sha256 {digest_of(now)} now"]


def listing(pin: DataPin, cache: Cache) -> Sequence[Item] | None:
    if pin.kind == "file":
        return [Item(name="", size=pin.size, sha256=pin.sha256)]
    return noted_list(cache, pin.sha256)


def size_differs(pin: DataPin, now: Sequence[Item]) -> list[str]:
    size = sum(item.size for item in now)
    known = all(item.mark[:1] in (("etag",), ("modified",)) and (item.size or item.name) for item in now)
    return [f"it has {size} bytes now, and {pin.size} in the lock"] if known and size != pin.size else []


def told(before: Sequence[Item] | None, now: Sequence[Item]) -> list[str]:
    return changes(before, now, same_bytes) if before is not None else []
