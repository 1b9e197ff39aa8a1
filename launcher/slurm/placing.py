"""Places submissions where sbatch is: each once, whatever was killed before, and whoever else tries it now.

What is known of a submission lies on the shared folder (`launcher.slurm.places`). Its lock is held by who submits it
and, inherited, by their sbatch; so whoever holds it knows that no sbatch of a dead one is still on its way.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from launcher.slurm import places, queue, sbatch
from launcher.slurm.model import NAME, Outcome
from launcher.slurm.places import Desk, write_whole
from launcher.slurm.splitting import token_of

LOCK_S = 30.0  # how long another one who submits the same is waited for
UNSEEN_S = 120.0  # where files can't be locked: as long as an sbatch may still be on its way
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

Step = Literal["tell", "submit", "ask", "wait"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A submission to place. `script` and `order` are text; None where they are there already."""

    sweep: str
    token: str
    tasks: int
    after: str | None = None
    script: str | None = None
    order: str | None = None
    half_of: str | None = None  # token of what was too big: order and script follow from its
    groups: tuple[tuple[int, ...], ...] = ()  # of a half
    number: int = 0
    throttle: int | None = None
    unwanted: str | None = None  # why nobody wants it any more: it is not submitted, if it has not been

    @property
    def array(self) -> list[str]:
        """Return the option that counts more than the array in the script, which is the whole's."""
        if self.half_of is None:
            return []
        return [f"--array=0-{self.tasks - 1}%{min(self.throttle or self.tasks, self.tasks)}"]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a submission under its lock."""

    told: bool = False  # an outcome is written
    began: bool = False
    age_s: float = 0.0  # since it began
    locked: bool = True  # whether the lock is ours; False where files can't be locked
    traces: bool = False  # an array of its has begun


def step(facts: Facts) -> Step:
    """Decide what to do: tell what is written, submit, ask Slurm for a job of that name, or wait. Pure."""
    if facts.told:
        return "tell"
    if not facts.began and not facts.traces:
        return "submit"
    if not facts.locked and facts.age_s < UNSEEN_S:
        return "wait"
    return "ask"


def after_asking(found: queue.Answer | queue.Silence, token: str, traces: Sequence[str]) -> tuple[Step, str | None]:
    """Decide when Slurm was asked for a job whose sbatch nobody saw end: tell its id, submit, or wait. Pure.

    Only an answer that surely holds everything, together with no trace of a task, says that it was never submitted.
    """
    if traces:
        return "tell", traces[0]
    if isinstance(found, queue.Silence):
        return "wait", found.why
    ids = sorted({row.job for row in found.rows if row.name == NAME + token}, key=int)
    if ids:
        return "tell", ids[0]
    return ("submit", None) if found.surely else ("wait", "accounting alone can't tell that it was never submitted")


class Site:
    """A shared folder, and the Slurm that is asked from here."""

    def __init__(self, shared: str, *, accounting: bool = True) -> None:
        self.shared, self.accounting = shared, accounting
        self.idle: bool | None = None
        self.full: str | None = None  # what sbatch said when the queue took no more

    def place(self, requests: Sequence[Request]) -> list[Outcome]:
        """Place submissions in their order. Once the queue takes no more the others wait, too.

        Raises DiskFullError and TargetError when the shared folder can't be written, or there is no sbatch.
        """
        return [self.one(request) for request in requests]

    def one(self, request: Request) -> Outcome:
        """Place one submission, or say what has become of it."""
        desk = Desk(self.shared, request.sweep, request.token)
        with writing(desk.folder):
            desk.folder.mkdir(parents=True, exist_ok=True)
        with locked(desk.lock) as lock:
            if lock is None:
                return Outcome(kind="unknown", token=desk.token, says="somebody else is submitting it right now")
            facts = Facts(
                told=desk.outcome.exists(),
                began=desk.began.exists(),
                age_s=age_s(desk.began),
                locked=lock >= 0,
                traces=bool(desk.traces()),
            )
            return self.carried_out(desk, request, step(facts), lock)

    def carried_out(self, desk: Desk, request: Request, what: Step, lock: int) -> Outcome:
        why: str | None = None
        if what == "ask":
            answer = queue.ask([NAME + desk.token], accounting=self.accounting)
            what, why = after_asking(answer, desk.token, desk.traces())
            if what == "tell":
                return self.tell(desk, {"job": why}, found=True)
        if what == "tell":
            return outcome(desk.token, desk.told() or {})
        if what == "wait":
            return Outcome(kind="unknown", token=desk.token, says=why or "its sbatch may still be on its way")
        if request.unwanted:
            return self.tell(desk, {"dropped": request.unwanted})
        self.prepare(desk, request)
        if not desk.script.exists():
            return Outcome(kind="missing", token=desk.token, says="its batch script was never brought here")
        if self.full is not None:
            return Outcome(kind="limit", token=desk.token, says=self.full)
        return self.submitted(desk, request, lock)

    def submitted(self, desk: Desk, request: Request, lock: int) -> Outcome:
        """Call sbatch, under the lock."""
        further, waits = self.dependency(request)
        if waits:
            return Outcome(kind="limit", token=desk.token, says=waits)
        with writing(desk.folder):
            write_whole(desk.began, b"")
        kind, said = sbatch.call(str(desk.script), [*request.array, *further], pass_fds=[lock] if lock >= 0 else [])
        if kind == "job":
            return self.tell(desk, {"job": said})
        if kind == "refused" or (kind == "too_big" and request.tasks == 1):
            return self.tell(desk, {"refused": said})
        if kind == "too_big" or (kind == "limit" and request.tasks > 1 and self.nothing_queued()):
            return self.tell(desk, {"too_big": said})
        if kind == "limit":
            desk.began.unlink(missing_ok=True)  # it was surely not submitted
            self.full = said
        return Outcome(kind="limit" if kind == "limit" else "unknown", token=desk.token, says=said)

    def tell(self, desk: Desk, told: Mapping[str, Any], *, found: bool = False) -> Outcome:
        """Write an outcome: from now on it is what everybody hears."""
        with writing(desk.folder):
            write_whole(desk.outcome, json.dumps(told).encode())
        return outcome(desk.token, told, found=found)

    def nothing_queued(self) -> bool:
        """Tell whether this user has surely no task of ours in the queue that would make room when it ends."""
        if self.idle is None:
            self.idle = queue.is_empty()
        return self.idle

    def dependency(self, request: Request) -> tuple[list[str], str | None]:
        """Return the option that makes a throttled submission begin after the one before it; or why it has to wait."""
        if request.after is None:
            return [], None
        jobs = self.jobs(request.sweep, request.after)
        if jobs is None:
            return [], "the submission before it, which it has to begin after, is not in Slurm yet"
        return ([f"--dependency=afterany:{':'.join(jobs)}"] if jobs else []), None

    def jobs(self, sweep: str, token: str, *, half: bool = False) -> list[str] | None:
        """Return Slurm's ids of a submission, or of what took its place; None as long as one of them has none."""
        desk = Desk(self.shared, sweep, token)
        told = desk.told()
        if told is None:
            return None if half or desk.folder.exists() else []
        if "job" in told:
            return [str(told["job"])]
        if "too_big" not in told:
            return []
        both = [self.jobs(sweep, token_of(token, part), half=True) for part in ("0", "1")]
        return None if None in both else [job for jobs in both for job in jobs or []]

    def prepare(self, desk: Desk, request: Request) -> None:
        """Write what sbatch and the tasks read; nobody reads it yet."""
        if not desk.began.exists():
            for path, text in ((desk.order, self.order(request)), (desk.script, self.script(request))):
                if text is not None:
                    with writing(desk.folder):
                        write_whole(path, text.encode())

    def order(self, request: Request) -> str | None:
        whole = self.whole(request)
        if whole is None or not whole.order.exists():
            return request.order
        told = json.loads(whole.order.read_text())
        return json.dumps({**told, "token": request.token, "number": request.number, "groups": request.groups})

    def script(self, request: Request) -> str | None:
        """Return the script; that of a half is the whole's with another token, which is a word like no other."""
        whole = self.whole(request)
        if whole is None or not whole.script.exists():
            return request.script
        return whole.script.read_text().replace(whole.token, request.token)

    def whole(self, request: Request) -> Desk | None:
        return Desk(self.shared, request.sweep, request.half_of) if request.half_of else None


def outcome(token: str, told: Mapping[str, Any], *, found: bool = True) -> Outcome:
    """Return what a file of an outcome tells."""
    if job := told.get("job"):
        return Outcome(kind="job", token=token, job=str(job), found=found)
    if "too_big" in told:
        return Outcome(kind="too_big", token=token, says=told["too_big"])
    if "refused" in told:
        return Outcome(kind="refused", token=token, says=told["refused"])
    if "dropped" in told:
        return Outcome(kind="dropped", token=token, says=told["dropped"])
    return Outcome(kind="unknown", token=token, says="its outcome can't be read")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int | None]:
    """Hold a submission's lock; give its descriptor: -1 where files can't be locked, None where another holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield take(descriptor)
    finally:
        os.close(descriptor)


def take(descriptor: int) -> int | None:
    until = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > until:
                return None
            time.sleep(0.05)
        except OSError as e:
            if e.errno in NO_LOCKS:
                return -1
            raise


def age_s(path: Path) -> float:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return 0.0


@contextlib.contextmanager
def writing(where: Path) -> Iterator[None]:
    """Turn what goes wrong with a file of the shared folder into an error of ours."""
    try:
        yield
    except OSError as e:
        raise sbatch.full(e, str(where)) from e


def mark_waiting(shared: str, sweep: str, outcomes: Sequence[Outcome]) -> None:
    """Leave word for tasks that end whether something waits for their place in the queue."""
    mark = places.waiting(shared, sweep)
    with writing(mark):
        if any(one.kind in ("limit", "too_big", "unknown") for one in outcomes):
            mark.touch()
        else:
            mark.unlink(missing_ok=True)
