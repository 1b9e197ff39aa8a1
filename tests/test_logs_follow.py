"""Following logs: every line once and in order, and few requests while nothing comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from launcher import store as stores
from launcher.records import logs
from launcher.store import keys
from launcher.store.objects import Store


class Slow(Store):
    """A store in memory that counts its requests."""

    def __init__(self) -> None:
        super().__init__(stores.Access("memory://"), None)
        self.asked = 0

    def call(self, key: str, ask: Any) -> Any:
        self.asked += 1
        return super().call(key, ask)


@pytest.fixture
def store() -> Slow:
    return Slow()


def write(store: Store, number: int, attempt: int = 1, lines: int = 1) -> None:
    data = "".join(f"2026-01-31T12:00:00.000000Z stdout F {attempt}-{number}-{line}\n" for line in range(lines))
    store.create(keys.log("r", attempt, number), data.encode())


def texts(lines: Any) -> list[str]:
    return [line.data.decode() for line in lines]


def followed(store: Store, steps: dict[int, Callable[[], None]], polls: int) -> tuple[list[str], list[float]]:
    """Follow for some polls, with something happening before some of them; return the lines and the pauses."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if action := steps.get(len(pauses)):
            action()

    return texts(logs.follow(store, "r", lambda: len(pauses) >= polls, pause=pause)), pauses


def test_many_chunks_are_read_in_order(store: Slow) -> None:
    for number in range(200):
        write(store, number)
    store.asked = 0
    assert texts(logs.read(store, "r")) == [f"1-{number}-0" for number in range(200)]
    assert store.asked == 201


def test_every_line_comes_once(store: Slow) -> None:
    write(store, 0, lines=2)
    steps = {2: lambda: write(store, 1), 3: lambda: write(store, 2), 9: lambda: write(store, 0, attempt=2)}
    said, _ = followed(store, steps, polls=12)
    assert said == ["1-0-0", "1-0-1", "1-1-0", "1-2-0", "2-0-0"]


def test_a_chunk_that_comes_late_is_not_missed(store: Slow) -> None:
    write(store, 0)
    write(store, 2)
    said, _ = followed(store, {1: lambda: write(store, 3), 3: lambda: write(store, 1)}, polls=6)
    assert said == ["1-0-0", "1-2-0", "1-3-0", "1-1-0"]


def test_while_nothing_comes_it_asks_more_seldom(store: Slow) -> None:
    write(store, 0)
    _, pauses = followed(store, {20: lambda: write(store, 1)}, polls=30)
    assert pauses[0] == logs.POLL_S and pauses[19] == logs.SLOWEST_S and pauses[20] == logs.POLL_S
    assert store.asked <= 2 * 2 + 32, "one listing for each look, and the chunks"


def test_what_came_just_before_the_end_is_read(store: Slow) -> None:
    """The run ends, with a last chunk, after the look and before the question whether it has ended."""
    write(store, 0)

    def ended() -> bool:
        if not store.exists(keys.log("r", 1, 1)):
            write(store, 1)
        return True

    assert texts(logs.follow(store, "r", ended, pause=lambda _: None)) == ["1-0-0", "1-1-0"]


def test_a_chunk_that_never_comes_does_not_make_listings_grow(store: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_LATE", 100)
    for number in range(300):
        if number != 5:
            write(store, number)
    reader = logs.Reader(store, "r", None)
    assert len(list(reader.new_lines())) == 299
    assert len(reader.seen) < 100 and not list(reader.new_lines())
    write(store, 300)
    assert texts(reader.new_lines()) == ["1-300-0"]
