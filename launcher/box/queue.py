"""The queue for GPUs on a box: first come, first served, by files and locks alone, so it survives a reboot.

    queue/lock             held for the moment in which somebody looks at the queue
    queue/<number>-<run>   a ticket: what the run wants and may get, and what it has got; it stays until the run is over

A run's turn has come when no living run with a lower number waits for GPUs that it may get as well, and enough of those
are free. One that has no living host side keeps its number and holds nobody up, but for a minute after a host side's
own begin: after a reboot they come up in any order, and those who were first shall be first again. A GPU is held by the
lock that `launcher run` takes on the same machine (launcher.target.gpus), so both keep out of each other's way.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from launcher.box import state
from launcher.box.model import OVER
from launcher.cache import Cache, default_root, written_whole
from launcher.errors import LauncherError
from launcher.gpu.model import Device, Gpu, Node
from launcher.gpu.verdict import Wanted, plural
from launcher.profiles.places import Places
from launcher.target.gpus import Claimed, called, fitting, lock, name_of, too_few

RETURN_S = 60.0  # so long after its own begin a host side waits for those before it that may be coming up as well


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """One run's place. `may` and `has` are GPUs by their names."""

    number: int
    run: str
    count: int
    may: tuple[str, ...] = ()
    has: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        return f"{self.number:012d}-{self.run}"

    @property
    def waits(self) -> bool:
        return not self.has


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Why a run has to wait: `place` runs come before it."""

    place: int
    why: str


class Queue:
    """The queue as one run sees it; `sign` is the file that its runner holds while it lives."""

    def __init__(self, shared: str, run: str, sign: Path, locks: Cache | None = None) -> None:
        self.shared, self.run, self.sign = shared, run, sign
        self.began = time.monotonic()
        self.folder = Path(Places(shared).queue())
        self.folder.mkdir(parents=True, exist_ok=True)
        self.locks = locks or place_of_locks(shared)
        self.note(())  # what a host side of this run had before, this one has to ask for anew

    def take(self, wanted: Wanted, node: Node, gpu: Gpu | None = None) -> Claimed | Waiting:
        """Take the GPUs that the run wants if its turn has come, else say what it waits for.

        Raises TargetError when the box has too few at all.
        """
        may = fitting(wanted, node, gpu)
        if len(may) < wanted.count:
            raise too_few(wanted, len(may), (), gpu)
        with self.alone():
            mine = self.ticket(wanted.count, may)
            ahead = [one for one in self.tickets() if self.is_before(one, mine)]
            if ahead:
                names = ", ".join(one.run for one in ahead)
                return Waiting(place=len(ahead), why=f"waiting for {plural(wanted.count)}, after {names}")
            return self.claimed(wanted, may, mine)

    def claimed(self, wanted: Wanted, may: Sequence[Device], mine: Ticket) -> Claimed | Waiting:
        held: list[tuple[Device, int]] = []
        busy: list[str] = []
        for device in may:
            if len(held) == wanted.count:
                break
            descriptor, holder = lock(device, self.run, self.locks, self.sign)
            if descriptor is None:
                busy.append(f"{called(device)} is held by {holder or 'another run'}")
            else:
                held.append((device, descriptor))
        got = Claimed(tuple(device for device, _ in held), [descriptor for _, descriptor in held])
        if len(held) < wanted.count:
            got.release()
            return Waiting(place=0, why=f"waiting for {plural(wanted.count)}: {'; '.join(busy)}")
        self.write(mine, tuple(name_of(device) for device in got.devices))
        return got

    def take_again(self, names: Sequence[str], node: Node) -> Claimed:
        """Hold what a container of the run has that outlived its host side; nobody else can have got it meanwhile."""
        devices = tuple(device for device in node.devices if name_of(device) in names)
        held = [lock(device, self.run, self.locks, self.sign)[0] for device in devices]
        return Claimed(devices, [descriptor for descriptor in held if descriptor is not None])

    def leave(self) -> None:
        """Forget the run's place."""
        with self.alone():
            for one in self.tickets():
                if one.run == self.run:  # another's name may end with this one
                    (self.folder / one.file).unlink(missing_ok=True)

    def ticket(self, count: int, may: Sequence[Device]) -> Ticket:
        """Return the run's ticket, which waits now; the next number where it has none."""
        every = self.tickets()
        number = next((one.number for one in every if one.run == self.run), None)
        if number is None:
            number = 1 + max((one.number for one in every), default=0)
        mine = Ticket(number=number, run=self.run, count=count, may=tuple(map(name_of, may)))
        self.write(mine, ())
        return mine

    def note(self, has: tuple[str, ...]) -> None:
        """Write into the run's ticket, where it has one, what it has now."""
        with self.alone():
            for one in self.tickets():
                if one.run == self.run:
                    self.write(one, has)

    def write(self, ticket: Ticket, has: tuple[str, ...]) -> None:
        told = asdict(ticket) | {"has": has}
        with written_whole(self.folder / ticket.file) as part:
            part.write_text(json.dumps(told))

    def tickets(self) -> list[Ticket]:
        """Return all tickets, the lowest number first; one that can't be read counts for nothing."""
        found = []
        for file in sorted(self.folder.glob("[0-9]*-*")):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                told = json.loads(file.read_bytes())
                found.append(Ticket(**{**told, "may": tuple(told["may"]), "has": tuple(told["has"])}))
        return found

    def is_before(self, other: Ticket, mine: Ticket) -> bool:
        """Tell whether another run comes first: it came first, wants what this one may get, and waits or comes back."""
        if other.number > mine.number or other.run == mine.run or not set(other.may) & set(mine.may):
            return False
        folder = state.folder(self.shared, other.run)
        return other.waits if state.is_alive(folder) else self.may_come_back(folder)

    def may_come_back(self, folder: Path) -> bool:
        """Tell whether a run without a host side is perhaps about to get one, as all are after a reboot."""
        if time.monotonic() > self.began + RETURN_S:
            return False
        with contextlib.suppress(LauncherError):
            return state.read(folder).phase not in OVER
        return False

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def place_of_locks(shared: str) -> Cache:
    """Return the cache below which GPUs are held: that of this user's own launcher, else launcher's folder's."""
    try:
        return Cache(default_root())
    except (LauncherError, RuntimeError):
        return Cache(Path(Places(shared).cache()))
