"""The index of this machine: what lists need of every run of a store, in SQLite. May be deleted at any time.

    $LAUNCHER_CACHE/index/<digest of the store's place>/current   the name of the file that counts
    $LAUNCHER_CACHE/index/<digest of the store's place>/<random>.sqlite

A damaged file, or one of another version, isn't mended: a new one takes its place under a new name, so that a process
which still has the old one open is not disturbed (removing SQLite's files under their own names would be, see
sqlite.org/howtocorrupt.html, section 2.4). Where nothing can be written the index lives in memory, for one command.
SQLite's write-ahead log can't be shared by machines (sqlite.org/wal.html, section 1): each has a folder of its own.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import sqlite3
import time
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from launcher.digest import canonical_json, sha256_bytes

VERSION = 2
BUSY_S = 5.0
STRAY_S = 3600.0  # a file that is not the current one: perhaps somebody is just making it
COLUMNS = "run, name, state, began, ended, at, final, asked, told, carry, seal"
TABLES = f"""
CREATE TABLE runs (
  run TEXT PRIMARY KEY, name TEXT, state TEXT NOT NULL, began TEXT NOT NULL, ended TEXT, at INTEGER NOT NULL,
  final INTEGER NOT NULL, asked REAL NOT NULL, told TEXT NOT NULL, carry TEXT, seal INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX newest ON runs (began DESC, run DESC);
CREATE INDEX states ON runs (state, name);
CREATE INDEX open_ones ON runs (run) WHERE final = 0;
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""
WRITE = f"""
INSERT INTO runs ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run) DO UPDATE SET
  name = excluded.name, state = excluded.state, began = excluded.began, ended = excluded.ended, at = excluded.at,
  final = excluded.final, asked = excluded.asked, told = excluded.told, carry = excluded.carry, seal = excluded.seal
WHERE ? OR excluded.at > runs.at OR (excluded.at = runs.at AND excluded.final >= runs.final)
"""


class DamagedError(Exception):
    """The index is not what was written into it."""


class Row(NamedTuple):
    """A run as the index keeps it. `told` is a Brief as text, `carry` what reading on needs (see following.py)."""

    run: str  # as keys have it: percent-encoded where a store would refuse it
    name: str | None
    state: str
    began: str
    ended: str | None
    at: int  # attempt and number of the last event that is in it, to tell newer from older
    final: int  # 1: only another attempt can change it
    asked: float  # when the store was last asked about it, Unix time
    told: str
    carry: str | None = None

    @property
    def seal(self) -> int:
        """A checksum: a bit that flips in a file may leave text that lies."""
        return zlib.crc32("\0".join(map(str, self)).encode())


class Index:
    """Rows and notes of one store. Raises DamagedError where the file turns out not to be what was written."""

    def __init__(self, folder: Path | None) -> None:
        """Open the index in a folder, or one in memory without a folder."""
        self.path: Path | None = None
        self.db = self.opened(folder) if folder else self.in_memory()

    def opened(self, folder: Path) -> sqlite3.Connection:
        """Open the file that counts, or make one, or one in memory where that can't be."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.path = folder / (folder / "current").read_text().strip()
            return usable(self.path)
        except (OSError, ValueError, sqlite3.Error):
            return self.made_anew(folder)

    def made_anew(self, folder: Path) -> sqlite3.Connection:
        """Make an empty file and let it take the place of the one before."""
        try:
            sweep(folder, self.path)
            self.path = folder / f"{secrets.token_hex(8)}.sqlite"
            db = connected(self.path)
            db.executescript(TABLES)
            pointer = self.path.with_suffix(".pointer")
            pointer.write_text(self.path.name)
            pointer.replace(folder / "current")
            return db
        except (OSError, sqlite3.Error):
            return self.in_memory()

    def in_memory(self) -> sqlite3.Connection:
        self.path = None
        db = connected(":memory:")
        db.executescript(TABLES)
        return db

    def start_over(self) -> None:
        """Throw away what is there, after a DamagedError."""
        with contextlib.suppress(sqlite3.Error):
            self.db.close()
        self.db = self.made_anew(self.path.parent) if self.path else self.in_memory()

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self.db.close()

    def rows(self, where: str = "", values: Sequence[object] = (), order: str = "") -> list[Row]:
        """Return rows that fit a condition of SQL. Raises DamagedError."""
        asked = f"SELECT {COLUMNS} FROM runs {'WHERE ' + where if where else ''} {order}"
        try:
            found = self.db.execute(asked, values).fetchall()
        except (sqlite3.Error, UnicodeError) as e:
            raise DamagedError(str(e)) from e
        rows = [Row._make(told[:-1]) for told in found]
        if any(row.seal != told[-1] for row, told in zip(rows, found, strict=True)):
            raise DamagedError("a row is not what was written")
        return rows

    def known(self) -> dict[str, int]:
        """Return the runs that are in it, with the attempt that is known of each. Raises DamagedError."""
        try:
            return {run: at // EVENTS for run, at in self.db.execute("SELECT run, at FROM runs")}
        except (sqlite3.Error, UnicodeError) as e:
            raise DamagedError(str(e)) from e

    def count(self, where: str = "1", values: Sequence[object] = ()) -> int:
        """Return how many rows fit a condition of SQL. Raises DamagedError."""
        try:
            return int(self.db.execute(f"SELECT count(*) FROM runs WHERE {where}", values).fetchone()[0])
        except (sqlite3.Error, UnicodeError) as e:
            raise DamagedError(str(e)) from e

    def notes(self) -> dict[str, str]:
        """Return the notes by name. Raises DamagedError."""
        try:
            return dict(self.db.execute("SELECT name, value FROM notes"))
        except (sqlite3.Error, UnicodeError) as e:
            raise DamagedError(str(e)) from e

    def write(
        self,
        rows: Iterable[Row] = (),
        gone: Iterable[str] = (),
        notes: dict[str, str] | None = None,
        force: bool = False,
    ) -> None:
        """Write rows, each only over one that isn't newer unless `force` is set; remove others; set notes."""
        rows, gone = list(rows), list(gone)
        try:
            self.transact(rows, gone, notes or {}, force)
        except sqlite3.Error:  # a full disk, a folder that became read-only, somebody who holds the lock for long
            self.flee()
            self.transact(rows, gone, notes or {}, force)

    def transact(self, rows: Sequence[Row], gone: Sequence[str], notes: dict[str, str], force: bool) -> None:
        with self.db:  # commits, or rolls back
            self.db.execute("BEGIN IMMEDIATE")
            self.db.executemany(WRITE, [(*row, row.seal, force) for row in rows])
            self.db.executemany("DELETE FROM runs WHERE run = ?", [(run,) for run in gone])
            self.db.executemany("INSERT OR REPLACE INTO notes VALUES (?, ?)", list(notes.items()))

    def flee(self) -> None:
        """Go on in memory with what is known."""
        old, self.db = self.db, self.in_memory()
        with contextlib.suppress(sqlite3.Error):
            copied = old.execute(f"SELECT {COLUMNS} FROM runs").fetchall()
            noted = old.execute("SELECT name, value FROM notes").fetchall()
            with self.db:
                self.db.executemany(WRITE, [(*row, True) for row in copied])
                self.db.executemany("INSERT OR REPLACE INTO notes VALUES (?, ?)", noted)
        with contextlib.suppress(sqlite3.Error):
            old.close()


def sweep(folder: Path, old: Path | None) -> None:
    """Remove the file that counted, and old strays."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            named = old is not None and path.name.startswith(old.name)
            if named or (path.name != "current" and time.time() - path.stat().st_mtime > STRAY_S):
                path.unlink()


EVENTS = 10**8  # numbers of events have eight digits


def at(attempt: int, seq: int = EVENTS - 1) -> int:
    return attempt * EVENTS + seq


def connected(path: Path | str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    return db


def usable(path: Path) -> sqlite3.Connection:
    """Open a file that is there. Raises sqlite3.Error, OSError or ValueError where it is of no use."""
    path.stat()  # SQLite would make it
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        if db.execute("PRAGMA user_version").fetchone() != (VERSION,):
            raise ValueError("another version")
        db.execute("SELECT run FROM runs LIMIT 1").fetchall()
        db.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        db.close()
        raise
    return db


def place(root: Path, url: str, settings: object = None) -> Path:
    """Return the folder of a store's index on this machine: stores of one name at different servers are different."""
    return root / "index" / sha256_bytes(canonical_json([url, settings, socket.gethostname()]))[:32]
