"""Claims: of two attempts of one run only one can write what counts, whatever is delayed, lost or paused."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from launcher import store as stores
from launcher.errors import UnreachableError
from launcher.runner import claims
from launcher.runner.attempt import Attempt, AttemptError
from launcher.runner.claims import Claim, Superseded, counting
from launcher.runner.leases import Turn, renew
from launcher.store import keys
from launcher.store.objects import Store

RUN = "run-1"


def attempt(number: int, folder: str = "/nowhere", **job: Any) -> Attempt:
    told = {"version": 1, "job": {"run": RUN, "argv": ["true"], **job}, "attempt": number, "store": "memory://"}
    return Attempt({**told, "times": {"lease_s": 0.5, "heartbeat_s": 0.1}}, folder)


def take(
    store: Any, number: int, *, now: bool = True, owner: str | None = None, said: list[str] | None = None
) -> Claim:
    turn = Turn(attempt(number), tell=(said if said is not None else []).append)
    return claims.take(store, attempt(number), now, owner=owner or f"owner-{number}", turn=turn)


def manifest(store: Any, number: int, seq: int) -> str:
    key = keys.checkpoint(RUN, number, seq)
    store.create(key, json.dumps({"name": f"step-{seq}", "attempt": number, "seq": seq, "files": []}).encode())
    return key


def event(store: Store, number: int, seq: int, kind: str, **facts: Any) -> None:
    told = {"kind": kind, "attempt": number, "seq": seq, "time": "2026-01-31T12:00:00.000000Z", **facts}
    store.create(keys.event(RUN, number, seq), json.dumps(told).encode())


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return stores.open("memory://" if request.param == "memory" else str(tmp_path / "store"))


def test_epochs_rise_and_each_inherits_what_counts(store: Store) -> None:
    first = take(store, 1)
    made = [manifest(store, 1, seq) for seq in range(2)]
    first.check(store)
    assert counting(store, RUN) == made
    second = take(store, 2)
    assert (first.epoch, second.epoch, second.inherits) == (1, 2, made)
    late = manifest(store, 1, 2)
    assert counting(store, RUN) == made, "what an older attempt writes late counts for nobody"
    own = manifest(store, 2, 0)
    assert counting(store, RUN) == [*made, own]
    third = take(store, 3)
    assert third.inherits == [*made, own] and late not in counting(store, RUN)


def test_the_loser_is_told_who_took_over(store: Store) -> None:
    first = take(store, 1)
    first.check(store)
    take(store, 2)
    with pytest.raises(Superseded, match=r"superseded by attempt 2 on .+, which took over at 20") as told:
        first.check(store)
    assert told.value.facts()["by"] == 2 and told.value.facts()["epoch"] == 2


def test_a_lower_attempt_never_takes_a_run_back(store: Store) -> None:
    take(store, 3)
    for number in (1, 2):
        with pytest.raises(Superseded, match="by attempt 3"):
            take(store, number)
    assert claims.highest(store, RUN)["epoch"] == 1  # type: ignore[index]


def test_a_first_attempt_that_was_slow_to_claim_is_superseded(store: Store) -> None:
    """Attempt 1 claims in the background: if it is paused before that, attempt 2 has epoch 1."""
    take(store, 2)
    with pytest.raises(Superseded):
        take(store, 1)


def test_two_runners_of_one_attempt_are_told_apart(store: Store) -> None:
    take(store, 1, owner="one")
    with pytest.raises(AttemptError, match="has a runner already"):
        take(store, 1, owner="other")


def test_a_run_from_before_there_were_claims_counts_whole(store: Store) -> None:
    made = [manifest(store, 1, seq) for seq in (0, 1)]
    assert counting(store, RUN) == made
    assert take(store, 2).inherits == made
    manifest(store, 1, 2)
    assert counting(store, RUN) == made


class Lossy:
    """A store whose answers to creates are lost: each is done, and then reported as failed."""

    def __init__(self, store: Store, losses: int) -> None:
        self.store, self.losses = store, losses

    def create(self, key: str, data: bytes) -> None:
        self.store.create(key, data)
        if self.losses:
            self.losses -= 1
            raise UnreachableError("no answer")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def test_a_claim_whose_answer_was_lost_is_known_again(store: Store) -> None:
    made = manifest(store, 1, 0)
    lossy = Lossy(store, 2)
    for _ in range(2):
        with pytest.raises(UnreachableError):
            take(lossy, 2)
    claim = take(lossy, 2)
    assert (claim.epoch, claim.inherits) == (1, [made])
    assert len([entry for entry in store.list(keys.claims(RUN)) if claims.epoch_of(entry.key)]) == 1


def test_a_claim_that_says_nothing_yet_changes_nothing(store: Store) -> None:
    first = take(store, 1)
    made = manifest(store, 1, 0)
    told = claims.body(attempt(2), 2, "died right after", None)
    store.create(keys.claim(RUN, 2), json.dumps(told).encode())
    assert counting(store, RUN) == [made]
    with pytest.raises(Superseded):
        first.check(store)
    between = manifest(store, 1, 1)
    assert take(store, 3).inherits == [made, between], "whole, and nobody has said that it doesn't count"


def test_what_was_inherited_before_stays_when_taking_is_tried_again(store: Store) -> None:
    take(store, 1)
    made = manifest(store, 1, 0)
    assert take(store, 2).inherits == [made]
    manifest(store, 1, 1)
    assert take(store, 2).inherits == [made]


# leases ---------------------------------------------------------------------------------------------------------


def test_it_waits_for_the_lease_and_says_for_whom(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.runner.leases.TICK_S", 0.0)
    take(store, 1)
    said: list[str] = []
    claim = take(store, 2, now=False, said=said)
    assert 0.3 < claim.waited_s < 60
    assert "attempt 1 on " in said[0] and "its lease runs" in said[0]


def test_heartbeats_renew_the_lease(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.runner.leases.TICK_S", 0.0)
    take(store, 1)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.1):
            renew(store, attempt(1))

    heart = threading.Thread(target=beat)
    heart.start()
    threading.Timer(1.2, over.set).start()
    began = time.monotonic()
    take(store, 2, now=False)
    heart.join()
    assert time.monotonic() - began > 1.4, "the last sign was given after 1.2 s, and the lease is 0.5 s"


@pytest.mark.parametrize(
    ("kind", "facts", "waits"),
    [
        ("closed", {}, False),
        ("superseded", {}, False),
        ("ended", {"by": "client"}, False),
        ("ended", {"by": "node"}, False),
        ("ended", {"code": 0}, True),
        ("checkpoint", {}, True),
    ],
)
def test_nobody_waits_for_one_who_has_told_its_end(
    store: Store, monkeypatch: pytest.MonkeyPatch, kind: str, facts: dict[str, Any], waits: bool
) -> None:
    """The command's end alone is none: its runner may still be storing what it left."""
    monkeypatch.setattr("launcher.runner.leases.TICK_S", 0.0)
    take(store, 1)
    event(store, 1, 1, "started")
    event(store, 1, 2, kind, **facts)
    assert (take(store, 2, now=False).waited_s > 0) is waits


@pytest.mark.parametrize(
    ("code", "stopped", "refused"), [(0, False, True), (1, False, False), (0, True, False)], ids=str
)
def test_nobody_goes_on_with_what_succeeded_while_he_waited(
    store: Store, code: int, stopped: bool, refused: bool
) -> None:
    take(store, 1)
    event(store, 1, 1, "signal", signal="SIGTERM", stops=stopped, forwarded=True)

    def end() -> None:
        event(store, 1, 2, "ended", code=code, signal=None, reason=None)
        event(store, 1, 3, "closed")

    threading.Timer(0.1, end).start()
    with pytest.raises(AttemptError, match="has succeeded") if refused else contextlib.nullcontext():
        take(store, 2, now=False)
    assert claims.highest(store, RUN)["attempt"] == 2 - refused  # type: ignore[index]


def test_an_attempt_that_was_only_queued_holds_nobody_up(store: Store) -> None:
    event(store, 1, 0, "queued")
    assert take(store, 2, now=False).waited_s == 0


def test_one_that_began_and_has_not_claimed_yet_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.runner.leases.TICK_S", 0.0)
    event(store, 1, 1, "started")
    assert take(store, 2, now=False).waited_s > 0.3


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_is_wrong_by_hours_makes_nobody_wait_for_longer_than_a_lease(
    store: Store, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    monkeypatch.setattr("launcher.runner.leases.TICK_S", 0.0)
    take(store, 1)
    now = store.now
    monkeypatch.setattr(store, "now", lambda: now() + timedelta(hours=hours))
    assert take(store, 2, now=False).waited_s < 60


def test_waiting_ends_when_it_is_asked_to_stop(store: Store) -> None:
    take(store, 1)
    turn = Turn(attempt(2), stopped=lambda: True, tell=lambda text: None)
    with pytest.raises(AttemptError, match="asked to stop while waiting for attempt 1"):
        claims.take(store, attempt(2), False, owner="two", turn=turn)
    assert claims.highest(store, RUN)["attempt"] == 1  # type: ignore[index]


def test_two_who_wait_for_the_same_lease_become_one_holder(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.runner.leases.TICK_S", 0.0)
    take(store, 1)
    ends: dict[int, Any] = {}

    def wait(number: int) -> None:
        try:
            ends[number] = take(store, number, now=False)
        except AttemptError as e:
            ends[number] = e

    threads = [threading.Thread(target=wait, args=(number,)) for number in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert isinstance(ends[3], Claim), "the later attempt has it in the end"
    ends[3].check(store)
    if isinstance(ends[2], Claim):
        with pytest.raises(Superseded):
            ends[2].check(store)
