"""Bringing an index up to date: what the journal has new, and the runs that had not ended when it last looked.

A run that has ended changes only by another attempt, which the journal tells of. Clocks disagree, so the journal is
read from an hour before the last entry that was seen. Runs that no journal tells of are found by listing all of them:
when an index is new, once a day, and where that costs next to nothing, in a folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from launcher.progress import SILENT, Progress
from launcher.records import snapshots
from launcher.records.brief import ENDED, GOING, Brief, brief, from_text, to_text
from launcher.records.following import Carry, begin, folded, probes, read_on
from launcher.records.index import Index, Row, at
from launcher.records.model import from_json
from launcher.runner.clock import stamp
from launcher.runner.fold import seconds
from launcher.store import keys
from launcher.store.objects import Store

HOUR_S = 3600.0
MARGIN_S = HOUR_S
WHOLE_S = 86400.0  # all runs are listed when this is longer ago
SETTLED_S = HOUR_S  # who said so long ago that nothing more comes, and wrote no record, won't write one
SILENCE = 10  # a silent run is asked about again when a tenth of its silence has passed once more
READERS = 32
BATCH = 1000
ENTRY = re.compile(r"journal/(\d{8}T\d{6}\.\d{6}Z)-(\d{4,})-(.+)")
Item = TypeVar("Item")
Result = TypeVar("Result")


def update(
    index: Index,
    store: Store,
    now: float,
    *,
    refresh: bool = False,
    about: Collection[str] = (),
    progress: Progress = SILENT,
) -> list[str]:
    """Bring an index up to date; return what was wrong with runs that can't be read.

    `refresh` lists all runs and asks about every one, also whether one that has ended has begun again; `about` are
    beginnings of runs to ask about in any case. Raises a LauncherError of the store; what was learned until then stays.
    """
    notes = index.notes()
    new = "updated" not in notes
    if new:
        notes = {**notes, **snapshots.load(index, store)}
    known = index.known()
    entries = journal(store, notes.get("journal"), now)
    vanished = "journal" in notes and notes["journal"] not in entries
    whole = refresh or new or vanished or store.folder is not None or now - float(notes.get("whole", 0)) > WHOLE_S
    present = set(store.folders(keys.runs())) if whole else None
    queued = attempts(entries)
    fresh = {run: number for run, number in queued.items() if number > known.get(run, -1)}
    fresh |= {run: queued.get(run, 0) for run in (present or set()) - set(known)}
    gone = set(known) - present - set(queued) if present is not None else set()
    if refresh:  # attempts that no journal tells of
        ended = {row.run: from_text(row.told) for row in index.rows("final = 1") if row.run not in gone}
        fresh |= {run: ended[run].attempt + 1 for run in begun_again(store, ended) if run not in fresh}
    wrong: list[str] = []
    read_fresh(index, store, fresh, now, wrong, progress)
    ask_again(index, store, now, wrong, refresh, tuple(keys.quoted(run) for run in about))
    told = {"updated": str(now), **({"whole": str(now)} if whole else {})}
    index.write(gone=gone, notes={**told, **({"journal": max(entries)} if entries else {})})
    return wrong


def journal(store: Store, last: str | None, now: float) -> list[str]:
    """Return the keys of the journal's entries, from an hour before the last one that was seen."""
    after = None
    if last and (found := ENTRY.fullmatch(last)):
        then = seconds(spelled_out(found[1]))
        after = keys.journal(stamp(int((min(then, now) - MARGIN_S) * 1e9)))
    return [entry.key for entry in store.list(keys.journal(), after=after) if ENTRY.fullmatch(entry.key)]


def spelled_out(compact: str) -> str:
    """Return the time that `keys.compact` made shorter."""
    return f"{compact[:4]}-{compact[4:6]}-{compact[6:11]}:{compact[11:13]}:{compact[13:]}"


def attempts(entries: Iterable[str]) -> dict[str, int]:
    """Return the highest attempt that was queued of each run. Runs are known here as keys have them."""
    found: dict[str, int] = {}
    for entry in entries:
        _, number, run = entry.split("/", 1)[1].split("-", 2)
        found[run] = max(int(number), found.get(run, 0))
    return found


def read_fresh(
    index: Index, store: Store, fresh: Mapping[str, int], now: float, wrong: list[str], progress: Progress
) -> None:
    """Read runs that are new, or have a new attempt, and write them to the index as they come."""
    waiting = iter(sorted(fresh, reverse=True))
    with progress.task("reading runs", len(fresh), "runs") as task:
        while some := list(islice(waiting, BATCH)):
            ended = {run: told for run, told in recorded(store, some, wrong) if lasting(told, fresh[run])}
            later = begun_again(store, {run: told for run, told in ended.items() if not fresh[run]})
            rows = [row_of(told, None, now, final=True) for run, told in ended.items() if run not in later]
            rest = [run for run in some if run not in ended or run in later]
            rows += [row for row in at_once(lambda run: read_whole(store, run, now, wrong), rest) if row]
            index.write(rows)
            task.advance(len(some))


def lasting(told: Brief, attempt: int) -> bool:
    """Tell whether a record is the last word, as far as the journal knows of attempts."""
    return told.closed and told.attempt >= attempt


def recorded(store: Store, runs: Iterable[str], wrong: list[str]) -> Iterator[tuple[str, Brief]]:
    """Read the records that are there."""
    by_key = {keys.record(keys.unquoted(run)): run for run in runs}
    for key, data in store.get_many(by_key):
        if data is not None:
            try:
                yield by_key[key], brief(from_json(json.loads(data)))
            except (KeyError, TypeError, ValueError, AttributeError) as e:
                wrong.append(unreadable(keys.unquoted(by_key[key]), e))


def begun_again(store: Store, ended: Mapping[str, Brief]) -> set[str]:
    """Return those of which a later attempt has begun: of runs that the journal doesn't know."""
    by_key = {keys.event(told.run, told.attempt + 1, seq): run for run, told in ended.items() for seq in (0, 1)}
    return {by_key[key] for key, data in store.get_many(by_key) if data is not None} if by_key else set()


def read_whole(store: Store, part: str, now: float, wrong: list[str]) -> Row | None:
    """Read a run from its events; None when it isn't one, or can't be read."""
    run = keys.unquoted(part)
    try:
        carry = begin(store, run)
        return None if carry is None else told_row(store, read_on(store, run, carry), now)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        wrong.append(unreadable(run, e))
        return None


def unreadable(run: str, error: Exception) -> str:
    return f"the run {run} can't be read: {error!r}"


def told_row(store: Store, carry: Carry, now: float, recorded: bool | None = None) -> Row:
    """Make a row of what was read of a run."""
    told = folded(carry, now)
    final = told.closed and told.state in ENDED and (old(told, now) or has_record(store, told.run, recorded))
    return row_of(told, carry, now, final=final)


def old(told: Brief, now: float) -> bool:
    return told.ended is not None and now - seconds(told.ended) > SETTLED_S


def has_record(store: Store, run: str, recorded: bool | None) -> bool:
    return store.exists(keys.record(run)) if recorded is None else recorded


def row_of(told: Brief, carry: Carry | None, now: float, *, final: bool) -> Row:
    place = at(*carry["seen"]) if carry else at(told.attempt)
    kept = None if final or carry is None else json.dumps(carry)
    name = told.name.encode("utf-8", "backslashreplace").decode() if told.name is not None else None
    run = keys.quoted(told.run)
    return Row(run, name, told.state, told.when, told.ended, place, int(final), now, to_text(told), kept)


def ask_again(index: Index, store: Store, now: float, wrong: list[str], every: bool, about: tuple[str, ...]) -> None:
    """Ask about the runs that had not ended: first whether anything is new, of all at once."""
    rows = [row for row in index.rows("final = 0") if every or row.run.startswith(about) or due(row, now)]
    carries = {row.run: json.loads(row.carry or "{}") for row in rows}
    wanted = {row.run: probes(keys.unquoted(row.run), carries[row.run], row.state) for row in rows}
    answers = dict(store.get_many(key for some in wanted.values() for key in some)) if rows else {}

    def again(row: Row) -> tuple[Row, Row | None]:
        told = {key: answers.get(key) for key in wanted[row.run]}
        return row, renewed(store, row, carries[row.run], told, now, wrong)

    found = at_once(again, rows)
    index.write([new for row, new in found if new and worth_writing(row, new)])
    index.write([new for row, new in found if new and new.at < row.at], force=True)
    index.write(gone=[row.run for row, new in found if new is None])


def due(row: Row, now: float) -> bool:
    """Tell whether a run that is silent, or ended without a record, should be asked about again: for an hour always."""
    if row.state in GOING:
        return True
    told = from_text(row.told)
    last = told.ended or told.last_sign
    silent_s = row.asked - seconds(last) if last else 0.0
    return silent_s < HOUR_S or now - row.asked >= silent_s / SILENCE


def worth_writing(row: Row, new: Row) -> bool:
    return new.state not in GOING or row._replace(asked=new.asked) != new


def renewed(
    store: Store, row: Row, carry: Carry, told: Mapping[str, bytes | None], now: float, wrong: list[str]
) -> Row | None:
    """Return a run's row as it is now; None when the run is gone."""
    run = keys.unquoted(row.run)
    attempt, seq = carry["seen"]
    try:
        if row.state == "queued" and attempt and told[keys.event(run, attempt, 0)] is None:
            return read_whole(store, row.run, now, wrong)  # withdrawn
        if told.get(keys.event(run, attempt + 1, 1)):
            carry = read_on(store, run, carry)
        elif told.get(keys.event(run, attempt, seq + 1)) or not attempt or new_beat(told, run, carry):
            carry = read_on(store, run, carry, told)
        record = keys.record(run)
        return told_row(store, carry, now, told[record] is not None if record in told else None)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        wrong.append(unreadable(run, e))
        return row


def new_beat(told: Mapping[str, bytes | None], run: str, carry: Carry) -> bool:
    data = told.get(keys.heartbeat(run, carry["seen"][0]))
    return data is not None and json.loads(data) != carry["beat"]


def at_once(action: Callable[[Item], Result], items: Collection[Item]) -> list[Result]:
    """Do something for many, so that a store that answers slowly is asked many things at a time."""
    if len(items) < 2:
        return [action(item) for item in items]
    with ThreadPoolExecutor(min(READERS, len(items))) as readers:
        return list(readers.map(action, items))
