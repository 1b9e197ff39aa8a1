"""All runs of a store, as lists need them: asked from the index of this machine, which is brought up to date first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from launcher.errors import UsageError
from launcher.progress import SILENT, Progress
from launcher.records import snapshots
from launcher.records.brief import Brief, from_text
from launcher.records.index import DamagedError, Index, Row
from launcher.records.reading import ambiguous
from launcher.records.updating import update
from launcher.runner.clock import stamp
from launcher.store import keys
from launcher.store.objects import Store

Answer = TypeVar("Answer")
ASKED = 900  # values in one question: SQLite before 3.32 takes no more than 999


class Runs:
    """The runs of one store. Use it as a context manager.

    `as_of` is when the store was last asked (Unix time; None: never), `wrong` what can't be read of it. As long as
    `update` was not called, or failed, runs that had not ended are told as `unknown`.
    """

    def __init__(
        self, url: str, store: Store | None, folder: Path | None, clock: Callable[[], float] = time.time
    ) -> None:
        """`store` is None where it can't be opened; `folder` is the index's, None for one in memory."""
        self.url, self.store, self.clock = url, store, clock
        self.index = Index(folder)
        self.fresh = False
        self.wrong: list[str] = []

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        self.index.close()

    @property
    def as_of(self) -> float | None:
        told = self.safely(self.index.notes).get("updated")
        return float(told) if told else None

    def known(self) -> int:
        """Return how many runs are in the index, asked or not."""
        return self.safely(self.index.count)

    def update(self, *, refresh: bool = False, about: Collection[str] = (), progress: Progress = SILENT) -> None:
        """Ask the store what is new. Raises a LauncherError of the store."""
        self.fresh = False
        self.safely(lambda: self.ask(refresh, about, progress))
        self.fresh = True

    def ask(self, refresh: bool = False, about: Collection[str] = (), progress: Progress = SILENT) -> None:
        assert self.store is not None, "a store that is not open can't be asked"
        self.wrong = update(self.index, self.store, self.clock(), refresh=refresh, about=about, progress=progress)

    def leave_snapshot(self) -> bool:
        """Write a snapshot to the store if that is worth it. Never raises for a store that refuses."""
        store = self.store
        return bool(self.fresh and store and self.safely(lambda: snapshots.leave(self.index, store, self.clock())))

    def select(
        self,
        *,
        name: str | None = None,
        states: Collection[str] = (),
        since: float | None = None,
        ended: float | None = None,
        limit: int | None = None,
    ) -> list[Brief]:
        """Return runs, newest first: of one experiment, in one of some states, queued or ended since a Unix time."""
        where, values = condition(name, states if self.fresh else (), since, ended)
        whole = not self.fresh and states  # what had not ended is unknown then, whatever the index says
        end = "ORDER BY began DESC, run DESC" + (f" LIMIT {limit}" if limit is not None and not whole else "")
        found = [self.told(row) for row in self.safely(lambda: self.index.rows(where, values, end))]
        if self.fresh:
            return found
        return [told for told in found if not states or told.state in states][:limit]

    def count(self, *, name: str | None = None, states: Collection[str] = (), since: float | None = None) -> int:
        """Return how many runs `select` would return without a limit."""
        if not self.fresh:
            return len(self.select(name=name, states=states, since=since))
        return self.safely(lambda: self.index.count(*condition(name, states, since)))

    def states(self, first: str, last: str) -> dict[str, int]:
        """Return how many runs whose ids are from `first` to `last` are in each state that there is one in."""
        where, ends = "run >= ? AND run <= ?", [keys.quoted(first), keys.quoted(last)]
        told = [self.told(row).state for row in self.safely(lambda: self.index.rows(where, ends))]
        return dict(Counter(sorted(told)))

    def find(self, prefix: str | None) -> str:
        """Return the run whose id begins with `prefix`, or the newest. Raises UsageError when it isn't exactly one."""
        if prefix is None:
            newest = self.select(limit=1)
            if not newest:
                raise UsageError(f"there is no run in {self.url}", hint="`launcher run` makes one")
            return newest[0].run
        fitting = self.fit(prefix)
        if len(fitting) == 1:
            return fitting[0]
        raise ambiguous(self.url, prefix, fitting)

    def fit(self, prefix: str) -> list[str]:
        """Return the runs whose ids begin with `prefix`; only the one that is exactly that, where there is one."""
        every = [keys.unquoted(run) for run in self.safely(self.index.known)]
        return [prefix] if prefix in every else sorted(run for run in every if prefix and run.startswith(prefix))

    def get(self, runs: Sequence[str]) -> list[Brief]:
        """Return runs by their whole ids, in that order."""
        found = {told.run: told for told in map(self.told, self.safely(lambda: self.rows(runs)))}
        return [found[run] for run in runs if run in found]

    def rows(self, runs: Sequence[str]) -> list[Row]:
        found: list[Row] = []
        for start in range(0, len(runs), ASKED):
            some = [keys.quoted(run) for run in runs[start : start + ASKED]]
            found += self.index.rows(f"run IN ({', '.join('?' * len(some))})", some)
        return found

    def told(self, row: Row) -> Brief:
        found = from_text(row.told)
        if self.fresh or row.final:
            return found
        reason = f"it was {found.state} when the store was last asked, at {stamp(int(row.asked * 1e9))}"
        return replace(found, state="unknown", reason=reason)

    def safely(self, action: Callable[[], Answer]) -> Answer:
        """Do something with the index; if it turns out to be damaged, make it anew from the store, and do it again."""
        try:
            return action()
        except (DamagedError, ValueError, TypeError, AttributeError):
            self.index.start_over()
        if self.fresh:
            self.ask()
        return action()


def condition(
    name: str | None, states: Collection[str], since: float | None, ended: float | None = None
) -> tuple[str, list[object]]:
    """Return a condition of SQL with its values."""
    parts, values = ["1"], list[object]()
    if name is not None:
        parts, values = [*parts, "name = ?"], [*values, name.encode("utf-8", "backslashreplace").decode()]
    if states:
        parts, values = [*parts, f"state IN ({', '.join('?' * len(states))})"], [*values, *states]
    if since is not None:
        parts, values = [*parts, "began >= ?"], [*values, stamp(int(since * 1e9))]
    if ended is not None:
        parts, values = [*parts, "ended >= ?"], [*values, stamp(int(ended * 1e9))]
    return " AND ".join(parts), values
