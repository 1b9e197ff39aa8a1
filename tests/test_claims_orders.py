"""Claims in any order: two or three attempts at once, each request a step; chance orders, delays, loses and kills."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from launcher.errors import ObjectExistsError, ObjectMissingError, UnreachableError
from launcher.runner import claims
from launcher.runner.attempt import Attempt, AttemptError
from launcher.runner.claims import Claim, counting
from launcher.runner.contents import Contents
from launcher.runner.retention import Retention
from launcher.store import keys

RUN = "run-1"


class Killed(BaseException):
    """The process of a claimant is gone."""


class Entry:
    """A line of a listing."""

    def __init__(self, key: str) -> None:
        self.key, self.modified = key, 0


class Objects:
    """A bucket whose requests are done at once, each as a whole."""

    url = "a bucket"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def create(self, key: str, data: bytes) -> None:
        if key in self.objects:
            raise ObjectExistsError(key)
        self.objects[key] = data

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    def get(self, key: str) -> bytes:
        if key not in self.objects:
            raise ObjectMissingError(key)
        return self.objects[key]

    def get_many(self, wanted: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        return iter([(key, self.objects.get(key)) for key in wanted])

    def list(self, prefix: str, after: str | None = None) -> list[Entry]:
        return [Entry(key) for key in sorted(self.objects) if key.startswith(prefix) and key > (after or "")]

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def delete_many(self, wanted: Iterable[str]) -> None:
        for key in wanted:
            self.delete(key)


class Bucket:
    """Lets claimants run one request at a time, in an order that chance decides.

    A request may be lost, be done with its answer lost, be done minutes later, or be its claimant's last one.
    """

    def __init__(self, chance: random.Random, faults: float) -> None:
        self.chance, self.faults = chance, faults
        self.objects = Objects()
        self.late: list[Callable[[], None]] = []
        self.lock = threading.Lock()
        self.waiting: dict[int, threading.Event] = {}
        self.running: set[int] = set()
        self.watch: Callable[[], None] = lambda: None
        self.errors: list[BaseException] = []

    def run(self, claimants: dict[int, Callable[[], None]]) -> None:
        """Let claimants run until all have ended, and what was delayed has arrived. Raises what went wrong."""
        self.running = set(claimants)
        threads = [threading.Thread(target=self.guarded, args=(who, work)) for who, work in claimants.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        while self.late and not self.errors:
            self.do_late()
        if self.errors:
            raise self.errors[0]

    def guarded(self, who: int, work: Callable[[], None]) -> None:
        try:
            work()
        except (Killed, AttemptError):
            pass
        except BaseException as e:
            self.errors.append(e)
        with self.lock:
            self.running.discard(who)
            self.next()

    def next(self) -> None:
        """Wake one, once all that live wait."""
        if self.waiting and len(self.waiting) == len(self.running):
            if self.late and self.chance.random() < 0.1:
                self.do_late()
            self.waiting.pop(self.chance.choice(sorted(self.waiting))).set()

    def do_late(self) -> None:
        """Do a request whose sender has long given up."""
        action = self.late.pop(self.chance.randrange(len(self.late)))
        with contextlib.suppress(ObjectExistsError):
            action()
        self.look()

    def look(self) -> None:
        try:
            self.watch()
        except AssertionError as e:
            self.errors.append(e)

    def step(self, who: int, write: bool, action: Callable[[], Any]) -> Any:
        """Do a request when it is its turn."""
        mine = threading.Event()
        with self.lock:
            self.waiting[who] = mine
            self.next()
        assert mine.wait(30)
        if self.errors:
            raise Killed
        fate = self.chance.random() / self.faults if self.faults else 9.0
        if fate < 0.1:
            raise Killed
        if fate < 0.4 or (fate < 1 and not write):
            raise UnreachableError("lost on its way")
        if fate < 0.7:
            self.late.append(action)
            raise UnreachableError("no answer in time")
        try:
            result = action()
        finally:
            if write:
                self.look()
        if fate < 1:
            raise UnreachableError("the answer was lost")
        return result


class Link:
    """One claimant's way to the bucket."""

    def __init__(self, bucket: Bucket, who: int) -> None:
        self.bucket, self.who, self.url = bucket, who, "a bucket"

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self.bucket.objects, name)
        write = name in ("create", "put", "delete", "delete_many")
        return lambda *args, **kwargs: self.bucket.step(self.who, write, lambda: inner(*args, **kwargs))


class Trainer:
    """An attempt that restores, saves some checkpoints of few contents, and forgets older ones, as a runner does."""

    def __init__(self, bucket: Bucket, number: int, log: Log, keep: dict[str, Any]) -> None:
        self.bucket, self.number, self.log = bucket, number, log
        self.store: Any = Link(bucket, number)
        job = {"run": RUN, "argv": ["true"], "keep": keep}
        self.attempt = Attempt({"version": 1, "job": job, "attempt": number, "store": "memory://"}, "/nowhere")

    def patiently(self, action: Callable[[], Any]) -> Any:
        while True:
            with contextlib.suppress(UnreachableError):
                return action()

    def run(self) -> None:
        claim = self.patiently(lambda: claims.take(self.store, self.attempt, True, owner=f"o{self.number}"))
        self.log.taken(claim)
        contents = Contents(RUN, claim.epoch, self.restore(claim))
        retention = Retention(self.attempt, claim, contents, self.told)
        for seq in range(4):
            self.save(claim, contents, retention, seq)

    def told(self, kind: str, **facts: Any) -> None:
        if kind == "forgotten":
            self.log.forgotten.add(facts["key"])

    def restore(self, claim: Claim) -> list[dict[str, Any]]:
        """Take the newest: it must be whole."""
        if not claim.inherits:
            return []
        newest = max(claim.inherits, key=keys.numbers)
        told = dict(self.patiently(lambda: self.store.get_many([newest])))[newest]
        if told is None:  # only a later holder may have forgotten it
            assert claims.highest(self.bucket.objects, RUN)["epoch"] > claim.epoch  # type: ignore[arg-type,index]
            raise Killed
        files: list[dict[str, Any]] = json.loads(told)["files"]
        return files

    def save(self, claim: Claim, contents: Contents, retention: Retention, seq: int) -> None:
        key = keys.checkpoint(RUN, self.number, seq)
        files = [self.stored(contents, content * 64) for content in self.bucket.chance.sample("abcd", 2)]
        told = {"name": f"s{seq}", "attempt": self.number, "seq": seq, "bytes": 0, "files": files}
        self.patiently(lambda: claim.check(self.store))
        self.patiently(lambda: self.create(key, json.dumps(told).encode()))
        self.look_again(claim)
        self.log.committed(key)
        with contextlib.suppress(UnreachableError):  # then at the next one
            retention.apply(self.store, key, told)

    def look_again(self, claim: Claim) -> None:
        self.patiently(lambda: claim.check(self.store))

    def stored(self, contents: Contents, sha256: str) -> dict[str, Any]:
        if contents.find(sha256) is None:
            key, mark = contents.key(sha256), contents.mark(sha256)
            self.patiently(lambda: self.store.put(key, b"content"))
            contents.stored(sha256, mark)
        return {"path": sha256[0], "sha256": sha256, "mark": contents.find(sha256)}

    def create(self, key: str, data: bytes) -> None:
        try:
            self.store.create(key, data)
        except ObjectExistsError:
            assert self.bucket.objects.get(key) == data, "it is one's own, whose answer was lost"


class Log:
    """What claimants believe, against what the bucket says after each step."""

    def __init__(self, bucket: Bucket) -> None:
        self.objects: Any = bucket.objects
        self.sure: list[str] = []  # committed, in this order
        self.forgotten: set[str] = set()
        self.inherited: dict[int, set[str]] = {}  # by epoch
        bucket.watch = self.look

    def taken(self, claim: Claim) -> None:
        self.inherited[claim.epoch] = set(claim.inherits)
        lost = set(self.sure) - set(claim.inherits) - self.forgotten
        assert not lost, f"{lost} were committed before, and are not inherited"

    def committed(self, key: str) -> None:
        assert not self.sure or keys.numbers(self.sure[-1]) < keys.numbers(key), "one history, in one order"
        self.sure.append(key)

    def look(self) -> None:
        """What was committed counts until it is forgotten, nothing old is added, and the newest one is whole."""
        now = set(counting(self.objects, RUN))
        assert not set(self.sure) - now - self.forgotten
        holder = claims.highest(self.objects, RUN)
        if holder is not None and holder["epoch"] in self.inherited:
            older = {key for key in now if keys.numbers(key)[0] < holder["attempt"]}
            assert older <= self.inherited[holder["epoch"]], "nothing is added to what was before a claim"
        if self.sure:
            assert self.sure[-1] in now
            lines = json.loads(self.objects.get(self.sure[-1]))["files"]
            gone = [line["path"] for line in lines if keys.blob_of(RUN, line) not in self.objects.objects]
            assert not gone, f"{self.sure[-1]} lacks {gone}"


def trial(seed: int, faults: float, keep: dict[str, Any]) -> Log:
    """Let two or three attempts loose; return what they believed. Raises AssertionError when it wasn't so."""
    chance = random.Random(f"{seed}-{faults}")
    bucket = Bucket(chance, faults)
    log = Log(bucket)
    trainers = {number: Trainer(bucket, number, log, keep) for number in range(1, chance.choice((3, 4)))}
    try:
        bucket.run({number: trainer.run for number, trainer in trainers.items()})
        log.look()
    except BaseException as e:
        raise AssertionError(f"seed {seed} with faults {faults}: {type(e).__name__}: {e}") from e
    return log


@pytest.mark.parametrize("faults", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("keep", [{}, {"last": 1}, {"last": 2, "every": 3}])
def test_in_any_order_there_is_one_history(faults: float, keep: dict[str, Any]) -> None:
    logs = [trial(seed, faults, keep) for seed in range(100)]
    assert sum(len(log.sure) for log in logs) > 150, "many have committed"
    assert sum(len(log.inherited) for log in logs) > 90, "many have taken over"


@pytest.mark.parametrize("mistake", ["lists before it claims", "looks only once", "uses a key again"])
def test_the_trial_would_find_the_mistake_of_one_who(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that always passes proves nothing."""
    if mistake == "lists before it claims":
        monkeypatch.setattr(claims, "claimed", claimed_too_late)
    elif mistake == "looks only once":
        monkeypatch.setattr(Trainer, "look_again", lambda *_: None)
    else:
        monkeypatch.setattr(Contents, "mark", lambda *_: "")
    with pytest.raises(AssertionError):
        for seed in range(600):
            trial(seed, 0.03, {"last": 1})


def claimed_too_late(store: Any, attempt: Attempt, newest: dict[str, Any] | None, owner: str) -> Claim | None:
    """Claim with what counted a moment before."""
    inherits = counting(store, attempt.run)
    epoch = newest["epoch"] + (newest["owner"] != owner) if newest else 1
    if not claims.created(store, keys.claim(RUN, epoch), claims.body(attempt, epoch, owner, inherits), owner):
        return None
    return Claim(RUN, epoch, attempt.number, claims.read(store, RUN, epoch)["inherits"])
