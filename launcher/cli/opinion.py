"""The schedulers' word on a sweep: its submissions are in the store, and their targets are asked, each once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from launcher.errors import LauncherError

if TYPE_CHECKING:
    from launcher.profiles import Profile
    from launcher.records.standing import Sight
    from launcher.remote import Shell
    from launcher.slurm.door import Door
    from launcher.slurm.ledger import Ledger
    from launcher.slurm.states import Look
    from launcher.store.objects import Store


NO_SHELLS: Mapping[str, Shell] = {}


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What schedulers say of a sweep's points; `seen` is None where none answered.

    `sent` are the points that some submission has, `held` those of submissions that have not come to a scheduler.
    """

    seen: Mapping[int, Sight] | None = None
    sent: frozenset[int] = frozenset()
    held: frozenset[int] = frozenset()
    declined: Mapping[int, str] = field(default_factory=dict)  # points that a scheduler refused, and its words
    targets: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def second_opinion(store: Store, sweep: str, *, ask: bool = True, shells: Mapping[str, Shell] = NO_SHELLS) -> Opinion:
    """Ask every target that points of a sweep were submitted to. What doesn't answer is told, and stays unknown.

    Without `ask` only the store is looked at. `shells` are ways that are open already, by the names of targets.
    """
    from launcher.slurm import ledger as ledgers

    ledger = ledgers.read(store, sweep)
    names = targets(ledger)
    if not ask or not names:
        return of_looks(ledger, ())
    looks = []
    for name in names:
        try:
            with entered(name, shells.get(name)) as door:
                looks.append(looked(ledger, door))
        except LauncherError as e:
            looks.append(silent(ledger, name, e))
    return of_looks(ledger, looks)


def targets(ledger: Ledger) -> tuple[str, ...]:
    """Return the names of the targets that were submitted to, each once."""
    return tuple(dict.fromkeys(one.target for one in ledger.submissions))


@contextlib.contextmanager
def entered(name: str, shell: Shell | None = None) -> Iterator[Door]:
    """Give the door to a target, by its name in this machine's configuration. Raises UsageError, TargetError."""
    from launcher.profiles import load

    with opened(load(name), shell) as door:
        yield door


@contextlib.contextmanager
def opened(profile: Profile, shell: Shell | None = None) -> Iterator[Door]:
    """Give the door to a site: this machine, or one that gets launcher's tools if it lacks them.

    This machine needs them too where lines of `setup` come first: a process of its own runs after those.
    """
    from launcher import remote
    from launcher.slurm import door as doors

    if profile.host is None and not profile.setup:
        yield doors.here(profile)
        return
    from launcher.cache import Cache
    from launcher.cli.progress import choose_progress
    from launcher.remote.delivery import prepare

    with contextlib.closing(remote.open(profile)) if shell is None else contextlib.nullcontext(shell) as shell:
        site, tools = prepare(shell, profile, [], Cache(), choose_progress())
        yield doors.open(shell, profile, tools, site.shared)


def looked(ledger: Ledger, door: Door) -> Look:
    from launcher.slurm.states import look

    return look(ledger, door)


def silent(ledger: Ledger, name: str, error: LauncherError) -> Look:
    """Say of a target that can't be asked at all what its silence means: nothing."""
    from launcher.slurm.states import Look

    ours = frozenset(point for point, (one, _) in ledger.tasks.items() if one.target == name)
    return Look(seen=None, sent=ours, notes=(f"{name} can't be asked: {error.problems[0].message}",))


def of_looks(ledger: Ledger, looks: Sequence[Look]) -> Opinion:
    """Put together what was seen. A point that was submitted to a place that nobody looked at is unknown."""
    from launcher.slurm.states import together

    found = together(looks)
    sent = frozenset(ledger.tasks) | found.sent | found.waiting
    names, declined = targets(ledger), ledger.declined
    return Opinion(seen=found.seen, sent=sent, held=found.waiting, declined=declined, targets=names, notes=found.notes)
