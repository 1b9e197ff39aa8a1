"""Which attempt of a run may write: claims, numbered by epoch, of which the highest counts.

A claim is created conditionally, so an epoch has one owner. It comes first; only then its owner lists the checkpoints
that count, and writes them down as what it inherits. So a checkpoint whose maker looked after writing it, and found no
higher claim, was there before the claim, and is inherited; and what an older attempt writes later counts for nobody.
Leases only say how long to be polite: nothing goes wrong when they err. docs/reference/claims.md has it all.
"""

from __future__ import annotations

import os

from launcher.runner import sealed
from launcher.runner.attempt import AttemptError
from launcher.runner.clock import stamp
from launcher.runner.leases import Turn
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from launcher.runner.attempt import Attempt
    from launcher.store.objects import Store

VERSION = 1
OWNER = os.urandom(16).hex()  # of this process: by it a create whose answer was lost is known again


class Superseded(AttemptError):  # noqa: N818  (a fact, and no mistake of anybody's)
    """Another attempt has taken the run over. `by` is its claim, as it lies in the store."""

    def __init__(self, by: dict[str, Any]) -> None:
        self.by = by
        super().__init__(f"superseded by attempt {by['attempt']} on {by['host']}, which took over at {by['time']}")

    def facts(self) -> dict[str, Any]:
        """Return what an event `superseded` says."""
        return {"by": self.by["attempt"], "host": self.by["host"], "since": self.by["time"], "epoch": self.by["epoch"]}


class Claim:
    """The right to write, as long as nobody has a higher one. `inherits` are the manifests that count from before."""

    def __init__(self, run: str, epoch: int, number: int, inherits: list[str]) -> None:
        self.run, self.epoch, self.number, self.inherits = run, epoch, number, inherits
        self.waited_s = 0.0

    def check(self, store: Store) -> None:
        """Raise Superseded when there is a higher claim, or a LauncherError when the store can't be asked.

        Whoever writes what counts asks before, and again afterwards: only then is it known to count.
        """
        later = store.list(keys.claims(self.run), after=keys.claim(self.run, self.epoch))
        epochs = [epoch for epoch in map(epoch_of, (entry.key for entry in later)) if epoch > self.epoch]
        if epochs:
            raise Superseded(read(store, self.run, max(epochs)))

    def facts(self) -> dict[str, Any]:
        """Return what an event `claimed` says."""
        return {"epoch": self.epoch, "inherits": len(self.inherits), "waited_s": round(self.waited_s, 3)}


def take(
    store: Store,
    attempt: Attempt,
    now: bool,
    *,
    owner: str = OWNER,
    turn: Turn | None = None,
) -> Claim:
    """Claim the run for an attempt. Unless `now`, wait first until the attempt before has ended or its lease ran out.

    `now` is for those who saw it die. It may be called again after an error, with the same `owner`. Raises Superseded
    when a later attempt has the run, AttemptError when another runner has this one, or when `turn` is stopped
    while it waits, and a LauncherError of the store.
    """
    turn = turn or Turn(attempt)
    while True:
        newest = highest(store, attempt.run)
        if newest is None or newest["owner"] != owner:
            refuse_later(newest, attempt)
            if not now:
                turn.wait(store, newest)
        claim = claimed(store, attempt, newest, owner)
        if claim is not None:
            claim.waited_s = turn.paused_s
            return claim


def refuse_later(newest: dict[str, Any] | None, attempt: Attempt) -> None:
    """Hold that attempts have rising epochs, and one each: so an attempt's number tells its manifests' epoch."""
    if newest is None or newest["attempt"] < attempt.number:
        return
    if newest["attempt"] > attempt.number:
        raise Superseded(newest)
    where = f"on {newest['host']}, since {newest['time']}"
    raise AttemptError(f"attempt {attempt.number} of {attempt.run} has a runner already, {where}: two must not write")


def claimed(store: Store, attempt: Attempt, newest: dict[str, Any] | None, owner: str) -> Claim | None:
    """Create the claim after `newest`, and write down what it inherits. None when another one was quicker."""
    epoch = newest["epoch"] + (newest["owner"] != owner) if newest else 1
    first = epoch == 1 and attempt.number == 1
    told = body(attempt, epoch, owner, [] if first else None)
    if not created(store, keys.claim(attempt.run, epoch), told, owner):
        return None
    claim = Claim(attempt.run, epoch, attempt.number, [])
    if not first:
        claim.inherits = inherited(store, claim, owner)
        claim.check(store)
    return claim


def body(attempt: Attempt, epoch: int, owner: str, inherits: list[str] | None) -> dict[str, Any]:
    return {
        "version": VERSION,
        "epoch": epoch,
        "attempt": attempt.number,
        "owner": owner,
        "host": os.uname().nodename,
        "time": stamp(),
        "lease_s": attempt.lease_s,
        "renewed_by": keys.heartbeat(attempt.run, attempt.number),
        "inherits": inherits,  # None: they are in an object beside it, which comes later
    }


def created(store: Store, key: str, told: dict[str, Any], owner: str) -> bool:
    """Create an object that names its owner. Return whether it is ours, now or since a try whose answer was lost."""
    from launcher.errors import ObjectExistsError

    try:
        store.create(key, sealed.sealed(told))
    except ObjectExistsError:
        return bool(sealed.read(store, key)["owner"] == owner)
    return True


def inherited(store: Store, claim: Claim, owner: str) -> list[str]:
    """Write down what counts from before; what was written at an earlier try stays. Raises Superseded."""
    key = keys.inherited(claim.run, claim.epoch)
    told = {"version": VERSION, "owner": owner, "inherits": counting(store, claim.run)}
    if not created(store, key, told, owner):
        raise AttemptError(f"{store.url}: {key} was not written by the owner of its claim")
    found: list[str] = sealed.read(store, key)["inherits"]
    return found


def counting(store: Store, run: str) -> list[str]:
    """Return the keys of the manifests of checkpoints that count, oldest first: the one rule, for all readers.

    These are what the newest claim inherits, and what its own attempt has made. A claim that has not said yet what it
    inherits changes nothing; where nobody ever claimed, every manifest counts. Asks for the manifests first: so what
    came after a claim that isn't seen yet is not seen either. One that is forgotten meanwhile may be gone when it is
    read. Raises a LauncherError.
    """
    every = [entry.key for entry in store.list(keys.checkpoints(run)) if entry.key.endswith("/manifest.json")]
    return sorted(counted(store, run, every), key=keys.numbers)


def counted(store: Store, run: str, every: list[str]) -> list[str]:
    there = {entry.key for entry in store.list(keys.claims(run))}
    for epoch in sorted(filter(None, map(epoch_of, there)), reverse=True):
        told = read(store, run, epoch)
        inherits = told["inherits"]
        if inherits is None and (beside := keys.inherited(run, epoch)) in there:
            inherits = sealed.read(store, beside)["inherits"]
        if inherits is not None:
            return [key for key in every if key in inherits or keys.numbers(key)[0] == told["attempt"]]
    return every


def highest(store: Store, run: str) -> dict[str, Any] | None:
    """Return the newest claim, with `modified`: its time by the store's clock. None when there is none."""
    entries = {epoch_of(entry.key): entry for entry in store.list(keys.claims(run))}
    epoch = max(entries, default=0)
    if not epoch:
        return None
    return {**read(store, run, epoch), "modified": entries[epoch].modified}


def read(store: Store, run: str, epoch: int) -> dict[str, Any]:
    """Return a claim as it lies in the store."""
    return sealed.read(store, keys.claim(run, epoch))


def epoch_of(key: str) -> int:
    """Return the epoch of a claim's key; 0 for what lies beside it."""
    name = key.rpartition("/")[2].partition(".json")[0]
    return int(name) if name.isdigit() else 0
