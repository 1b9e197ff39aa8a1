"""Sweep a store clean of what its runs left behind: all that `leftovers` names, and what no listing shows.

The latter are files that a killed writer never renamed (folder stores), multipart uploads that were never ended (S3),
snapshots that newer ones have replaced, journal entries of runs that are gone, and what a killed check had written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

from launcher.progress import SILENT, Progress
from launcher.records import leftovers
from launcher.records.leftovers import Leftover
from launcher.records.reading import runs
from launcher.store import keys
from launcher.store.objects import Store
from launcher.store.scraps import Scrap, scraps
from launcher.store.scraps import remove as remove_scrap
from launcher.store.uploads import Upload, Uploads

READERS = 16
SNAPSHOTS_STAY = 2


def look(
    store: Store,
    older_than: timedelta,
    *,
    only: Sequence[str] | None = None,
    uploads: Uploads | None = None,
    progress: Progress = SILENT,
) -> tuple[Leftover, ...]:
    """Return what may be deleted: of some runs, or of all of them and of the store itself. Raises StoreError."""
    now = store.now()
    wanted = runs(store) if only is None else tuple(only)
    found = [one for some in of_runs(store, wanted, older_than, now, progress) for one in some]
    found += unseen(store, older_than, now, wanted, uploads, whole=only is None)
    return tuple(found)


def of_runs(
    store: Store, wanted: Sequence[str], older_than: timedelta, now: datetime, progress: Progress
) -> list[tuple[Leftover, ...]]:
    with progress.task("looking", len(wanted), "runs") as task, ThreadPoolExecutor(READERS) as readers:

        def one(run: str) -> tuple[Leftover, ...]:
            found = leftovers.removable(store, run, older_than, now)
            task.advance()
            return found

        return list(readers.map(one, wanted))


def unseen(
    store: Store, older_than: timedelta, now: datetime, wanted: Sequence[str], uploads: Uploads | None, *, whole: bool
) -> Iterator[Leftover]:
    """Yield what is no object of a run: of the runs wanted, or with `whole` of everything."""
    below = [""] if whole else [keys.run(run) for run in wanted]
    for prefix in below:
        half = [file(scrap) for scrap in scraps(store.folder, prefix)]
        half += [upload(one) for one in uploads.listed(prefix)] if uploads is not None else []
        yield from abandoned(store, half, older_than, now)
    if whole:
        yield from tries(store, older_than, now)
        yield from old_snapshots(store, older_than, now)
        yield from entries_of_nobody(store, set(wanted), older_than, now)


def abandoned(store: Store, half: Iterable[Leftover], older_than: timedelta, now: datetime) -> Iterator[Leftover]:
    """Yield what is old, and not of a run that may be writing it at this moment."""
    resting: dict[str | None, bool] = {None: True}
    for one in half:
        if now - one.modified < older_than:
            continue
        if (run := run_of(one.key)) not in resting and run is not None:
            resting[run] = leftovers.resting(store, run, older_than, now)
        if resting[run]:
            yield one


def file(scrap: Scrap) -> Leftover:
    modified = datetime.fromtimestamp(scrap.modified, timezone.utc)
    why = "a file whose writer was killed"
    return Leftover(key=scrap.key, size=scrap.size, modified=modified, why=why, kind="file")


def upload(one: Upload) -> Leftover:
    why = "an upload that was never ended"
    return Leftover(key=one.key, size=None, modified=one.begun, why=why, kind="upload", id=one.id)


def tries(store: Store, older_than: timedelta, now: datetime) -> Iterator[Leftover]:
    for entry in store.list(keys.checks()):
        if now - entry.modified >= older_than:
            why = "what a `launcher store check` that was killed had written"
            yield Leftover(key=entry.key, size=entry.size, modified=entry.modified, why=why)


def old_snapshots(store: Store, older_than: timedelta, now: datetime) -> Iterator[Leftover]:
    for entry in store.list(keys.snapshot())[:-SNAPSHOTS_STAY]:
        if now - entry.modified >= older_than:
            why = "a snapshot that newer ones have replaced"
            yield Leftover(key=entry.key, size=entry.size, modified=entry.modified, why=why)


def entries_of_nobody(store: Store, known: set[str], older_than: timedelta, now: datetime) -> Iterator[Leftover]:
    """Yield the journal's entries of runs that are gone. Those of others stay: lists of runs are kept by them."""
    for entry in store.list(keys.journal()):
        parts = entry.key.removeprefix(keys.journal()).split("-", 2)
        gone = len(parts) == 3 and keys.unquoted(parts[2]) not in known
        if gone and now - entry.modified >= older_than:
            why = "the journal's entry of a run that is gone"
            yield Leftover(key=entry.key, size=entry.size, modified=entry.modified, why=why)


def clear(
    store: Store, found: Iterable[Leftover], older_than: timedelta, uploads: Uploads | None = None
) -> tuple[Leftover, ...]:
    """Delete what `look` has found, each run looked at once more; return what was deleted.

    Raises StoreError or OSError: what was deleted until then was of no use to anybody.
    """
    found = tuple(found)
    deleted: list[Leftover] = []
    for run in sorted({run for one in found if one.kind == "object" and (run := run_of(one.key))}):
        deleted += leftovers.remove(store, run, older_than)
    single = [one for one in found if one.kind == "object" and run_of(one.key) is None]
    store.delete_many([one.key for one in single])
    deleted += single
    for one in found:
        if one.kind == "file" and store.folder is not None:
            remove_scrap(store.folder, one.key)
            deleted.append(one)
        elif one.kind == "upload" and uploads is not None:
            uploads.abort(Upload(one.key, one.id or "", one.modified))
            deleted.append(one)
    return tuple(deleted)


def run_of(key: str) -> str | None:
    """Return the run that a key belongs to, if it is one's."""
    return keys.unquoted(key.split("/")[1]) if key.startswith(keys.runs()) else None
