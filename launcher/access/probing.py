"""`launcher store check`: tries everything that launcher relies on in a store, and says what it found.

What is tried lies below checks/<name>/ and is removed at the end, also after Ctrl-C. What a run can't do without is
`refused` when it fails; what only costs comfort is a `warning`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from launcher.access.rights import missing
from launcher.errors import (
    AccessError,
    IntegrityError,
    LauncherError,
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
    UnreachableError,
)
from launcher.findings import Finding, Verdict
from launcher.progress import SILENT, Progress
from launcher.store import keys
from launcher.store.backends import scheme_of
from launcher.store.objects import Store

PART_BYTES = 5 << 20  # the least that S3 takes
CREATORS, RACES = 8, 3
SPEED_BYTES, SMALL_BYTES, SMALL_TIMES = 64 << 20, 1024, 10
RIGHT = "don't have the right"  # of the message of such an error
CLOCK_S = 60.0  # more than this and times of two machines in one run look odd
Probe = Callable[[Store, str], str]  # says what it found; raises BrokenPromiseError or a LauncherError
OPTIONAL = {"delete", "after", "clock", "latency", "speed"}
PROMISES = {
    "create": "two attempts of one run could both write its checkpoints; use another server, or a newer version of it",
    "ranges": "checkpoints are restored by ranges",
    "multipart": "files above 8 MiB are written in parts",
    "after": "lists are read whole each time instead",
}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found, and the exit code that it comes to: 0, or that of the first refusal."""

    findings: tuple[Finding, ...]
    exit_code: int


class BrokenPromiseError(Exception):
    """The store did something else than it should have."""


def check(store: Store, *, quick: bool = False, progress: Progress = SILENT) -> Checked:
    """Try a store. `quick` leaves out the speed of big files. Raises no error of the store: those are findings."""
    found: list[Finding] = []
    code = 0
    tries = deque(probes(quick))
    with tried_below(store) as below, progress.task("trying the store", len(tries), "probes") as task:
        while tries:
            subject, probe = tries.popleft()
            finding, error = outcome(store, below, subject, probe)
            task.advance()
            found.append(finding)
            if finding.verdict == "refused":
                code = code or (error.exit_code if error else StoreError.exit_code)
            if error is not None and hopeless(error):
                break
            if error is not None and subject == "write":  # nothing is there to be read: only the rights can be told
                tries = deque((("read", may_read), ("delete", may_delete)))
    return Checked(findings=tuple(found), exit_code=code)


def outcome(store: Store, below: str, subject: str, probe: Probe) -> tuple[Finding, LauncherError | None]:
    """Run one probe; return its finding, and the store's error if that was what it came to."""
    bad: Verdict = "warning" if subject in OPTIONAL else "refused"
    try:
        return Finding(subject=subject, verdict="ok", says=probe(store, below)), None
    except BrokenPromiseError as e:
        return Finding(subject=subject, verdict=bad, says=str(e), hint=PROMISES.get(subject)), None
    except LauncherError as e:
        problem = e.problems[0]
        hint = problem.hint
        if isinstance(e, AccessError) and RIGHT in problem.message:
            hint = missing(scheme_of(store.url), subject) or hint
        says = problem.message.replace(f"{below}: ", "")
        return Finding(subject=subject, verdict=bad, says=says, hint=hint), e


def hopeless(error: LauncherError) -> bool:
    """Tell whether the other probes would all say the same: nobody there, no such bucket, a wrong secret."""
    said = error.problems[0].message
    return isinstance(error, UnreachableError) or (isinstance(error, AccessError) and RIGHT not in said)


def probes(quick: bool) -> Iterator[tuple[str, Probe]]:
    """Yield the names of what is tried, in order, and how. What makes no sense without an earlier one comes after."""
    yield from (("list", lists), ("write", write), ("read", read), ("overwrite", overwrite), ("ranges", ranges))
    yield from (("after", after), ("multipart", multipart), ("create", create), ("race", race), ("clock", clock))
    yield "latency", latency
    if not quick:
        yield "speed", speed
    yield "delete", delete


@contextlib.contextmanager
def tried_below(store: Store) -> Iterator[str]:
    """Give a prefix of one's own; what lies there is removed at the end as far as the rights go."""
    below = keys.checks(secrets.token_hex(6))
    try:
        yield below
    finally:
        with contextlib.suppress(StoreError):
            store.delete_many([entry.key for entry in store.list(below)])


def expect(true: bool, otherwise: str) -> None:
    if not true:
        raise BrokenPromiseError(otherwise)


def lists(store: Store, below: str) -> str:
    expect(not store.list(below), "a folder that nobody wrote to is not empty")
    return "keys can be listed"


def write(store: Store, below: str) -> str:
    for name, data in (("a", b"one"), ("b", b"two" * 1000), ("c", b"")):
        store.put(below + name, data)
    return "objects can be written"


def read(store: Store, below: str) -> str:
    expect(store.get(below + "a") == b"one" and store.get(below + "c") == b"", "an object came back as other bytes")
    with contextlib.suppress(ObjectMissingError):
        store.get(below + "missing")
        raise BrokenPromiseError("an object that was never written is there")
    return "objects come back as they were written"


def may_read(store: Store, below: str) -> str:
    with contextlib.suppress(ObjectMissingError):
        store.get(below + "missing")
    return "objects may be read"


def may_delete(store: Store, below: str) -> str:
    store.delete(below + "missing")
    return "objects may be deleted"


def overwrite(store: Store, below: str) -> str:
    store.put(below + "a", b"again")
    expect(store.get(below + "a") == b"again", "an object that was written over came back as it was before")
    return "an object can be written over, and is read as it is now"


def ranges(store: Store, below: str) -> str:
    whole = b"two" * 1000
    asked = ((0, 5), (1000, 7), (2998, 10), (3000, 1))
    for start, length in asked:
        got = store.get_range(below + "b", start, length)
        expect(got == whole[start : start + length], f"bytes {start} to {start + length - 1} came back wrong")
    return "parts of an object can be read: its start, its middle, past its end"


def after(store: Store, below: str) -> str:
    found = [entry.key for entry in store.list(below, after=below + "a")]
    expect(found == [below + "b", below + "c"], f"{len(found)} objects were listed after the first of three")
    return "a list can begin after a key"


def multipart(store: Store, below: str) -> str:
    data = os.urandom(2 * PART_BYTES + 1)
    key = below + "parts"
    store.call(key, lambda inner: inner.put(key, data, use_multipart=True, chunk_size=PART_BYTES))
    expect(store.size(key) == len(data), f"{len(data)} bytes were sent in 3 parts, {store.size(key)} are there")
    expect(store.get(key) == data, "an object of 3 parts came back as other bytes")
    return "an object can be written in parts"


def create(store: Store, below: str) -> str:
    store.create(below + "once", b"first")
    with contextlib.suppress(ObjectExistsError):
        store.create(below + "once", b"second")
        raise BrokenPromiseError("a second conditional create of one key was let through (If-None-Match was ignored)")
    expect(store.get(below + "once") == b"first", "a conditional create was refused, and wrote all the same")
    return "of two creates of one key the second is refused"


def race(store: Store, below: str) -> str:
    for number in range(RACES):
        key, won, errors = f"{below}race-{number}", list[bytes](), list[LauncherError]()
        gate = threading.Barrier(CREATORS)
        threads = [threading.Thread(target=compete, args=(store, key, n, gate, won, errors)) for n in range(CREATORS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        expect(len(won) == 1, f"{len(won)} of {CREATORS} creates of one key at once were let through")
        expect(store.get(key) == won[0], "another creator's bytes are there than those of the one who won")
    return f"of {CREATORS} creates of one key at once exactly one wins, {RACES} times out of {RACES}"


def compete(
    store: Store, key: str, number: int, gate: threading.Barrier, won: list[bytes], errors: list[LauncherError]
) -> None:
    own = b"creator %d" % number
    gate.wait(30)
    try:
        store.create(key, own)
        won.append(own)
    except ObjectExistsError:
        return
    except LauncherError as e:
        errors.append(e)


def delete(store: Store, below: str) -> str:
    store.delete(below + "c")
    expect(not store.exists(below + "c"), "an object that was deleted is still there")
    store.delete_many([below + "a", below + "b"])
    expect(not store.exists(below + "a"), "objects that were deleted together are still there")
    return "objects can be deleted"


def clock(store: Store, below: str) -> str:
    key = below + "clock"
    before = datetime.now(timezone.utc)
    store.put(key, b"")
    [entry] = store.list(below, after=key[:-1])[:1]
    offset = (before - entry.modified).total_seconds()
    said = f"its clock and this machine's differ by {abs(offset):.0f} s"
    expect(abs(offset) < CLOCK_S, said)
    return said


def latency(store: Store, below: str) -> str:
    data = os.urandom(SMALL_BYTES)
    puts = [timed(lambda n=n: store.put(f"{below}small-{n}", data)) for n in range(SMALL_TIMES)]  # type: ignore[misc]
    gets = [timed(lambda n=n: store.get(f"{below}small-{n}")) for n in range(SMALL_TIMES)]  # type: ignore[misc]
    return (
        f"writing 1 KiB takes {statistics.median(puts) * 1e3:.0f} ms, reading it {statistics.median(gets) * 1e3:.0f} ms"
    )


def speed(store: Store, below: str) -> str:
    with tempfile.TemporaryDirectory(prefix="launcher-check-") as folder:
        sent, got = Path(folder) / "sent", Path(folder) / "got"
        sent.write_bytes(os.urandom(SPEED_BYTES))
        up = timed(lambda: store.put_file(below + "big", sent))
        down = timed(lambda: store.get_file(below + "big", got))
        if sent.read_bytes() != got.read_bytes():
            raise IntegrityError(f"{store.url}: {SPEED_BYTES} bytes came back as others")
    size = SPEED_BYTES / 1e6
    return f"{size:.0f} MB go up at {size / up:.0f} MB/s and come down at {size / down:.0f} MB/s"


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
