"""What the client writes of a run: that it was submitted, and that it ended where nobody else could say so."""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping
from typing import Any

from launcher.errors import ObjectExistsError, StoreError
from launcher.runner import claims, history
from launcher.runner.clock import stamp
from launcher.runner.fold import has_succeeded
from launcher.store import keys
from launcher.store.objects import Store


def submit(
    store: Store,
    job: Mapping[str, Any],
    *,
    code: Mapping[str, Any] | None = None,
    attempt: int = 1,
    who: str | None = None,
    scheduler: Mapping[str, Any] | None = None,
) -> bool:
    """Write a job (as JSON's own types) and the event that its attempt is queued. Doing it twice changes nothing.

    Return whether this call queued it: of many who try, exactly one did, and the attempt is that one's.

    `code` are facts about the code snapshot: commit, patch digest, dirty, untracked. `who` is the user whose wish it is
    (None: who runs this); `scheduler` says under which of its jobs the attempt runs, and where. Raises
    StoreError when the run id belongs to another job.
    """
    run, data = str(job["run"]), json.dumps(job, sort_keys=True, indent=1).encode()
    try:
        store.create(keys.job(run), data)
    except ObjectExistsError:
        if json.loads(store.get(keys.job(run))) != json.loads(data):
            raise StoreError(f"{store.url}: the run id {run} belongs to another job") from None
    now = stamp()
    told = {"kind": "queued", "time": now, "attempt": attempt, "seq": 0, "who": who or user(), "code": code}
    told |= {"scheduler": dict(scheduler)} if scheduler else {}
    entry = keys.journal(now, attempt, run)
    store.put(entry, b"")  # first: a list of runs may see it too early, and never misses it
    if created(store, keys.event(run, attempt, 0), json.dumps(told).encode()):
        return True
    store.delete(entry)
    return False


def parted(store: Store, run: str, attempt: int, facts: Mapping[str, Any]) -> None:
    """Write how the machine that ran an attempt parted from it: `decision`, `cause` and `why`.

    After the attempt's last event, and only by who has seen its runner end. Doing it again changes nothing.
    """
    seq = 1 + max((keys.numbers(entry.key)[1] for entry in store.list(keys.events(run, attempt))), default=0)
    told = {"kind": "parted", "time": stamp(), "attempt": attempt, "seq": seq, **facts}
    created(store, keys.event(run, attempt, seq), json.dumps(told).encode())


def created(store: Store, key: str, data: bytes) -> bool:
    """Create an object. Return whether it is ours: also after an answer was lost, and the same was sent again."""
    try:
        store.create(key, data)
    except ObjectExistsError:
        return store.get(key) == data
    return True


def withdraw(store: Store, run: str, attempt: int) -> None:
    """Take back that an attempt is queued. Only who queued it may, and only if it never began."""
    store.delete(keys.event(run, attempt, 0))


def never_began(store: Store, run: str, attempt: int) -> bool:
    """Return whether an attempt is queued and nothing more, while one before it told no end but a good one."""
    events = history.read(store, run).events
    highest = claims.highest(store, run)
    if [event["kind"] for event in events if event["attempt"] == attempt] != ["queued"]:
        return False
    if highest is not None and highest["attempt"] >= attempt:
        return False
    before = [event for event in events if event["attempt"] == attempt - 1]
    kinds = {event["kind"] for event in before}
    return has_succeeded(before) or ("started" in kinds and not kinds & {"ended", "superseded"})


def user() -> str | None:
    """Return the name of the user who submits; None where the machine doesn't know one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def end_for_dead(store: Store, run: str, attempt: int, reason: str, signal: str | None = None) -> bool:
    """Write the end of an attempt whose runner died. Return False when the runner did say how it ended.

    Only who has seen the runner die may call this: for everybody else a silent run is `unknown`.
    """
    written = [entry.key for entry in store.list(keys.events(run, attempt))]
    if any(data is not None and json.loads(data)["kind"] == "ended" for _, data in store.get_many(written)):
        return False
    seq = max((keys.numbers(key)[1] for key in written), default=0) + 1
    told = {"kind": "ended", "time": stamp(), "attempt": attempt, "seq": seq, "by": "client", "code": None}
    data = json.dumps({**told, "signal": signal, "reason": reason}).encode()
    if created(store, keys.event(run, attempt, seq), data):
        return True
    return end_for_dead(store, run, attempt, reason, signal)  # the runner lives after all, or somebody else told
