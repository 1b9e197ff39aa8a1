"""Relaying, this side: what a box's own store has new is written to the real store, such that it never shows a half.

Rounds are independent: each says what the real store has, and takes what comes in order: what is named before what
names it. A big object lies in the cache until it is whole, and a round that was cut goes on at its last byte.
"""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.box.stock import packed
from launcher.cache import disk_full
from launcher.digest import sha256_bytes
from launcher.progress import SILENT, Progress
from launcher.ssh.forgetting import Forgetting
from launcher.ssh.knowledge import Knowledge
from launcher.ssh.listening import listen
from launcher.ssh.taking import Outcome, Taking
from launcher.store import keys

if TYPE_CHECKING:
    from launcher.cache import Cache
    from launcher.ssh.door import Door
    from launcher.store.objects import Store


class Relay:
    """Brings one run's objects to the real store, round by round. Not for several threads."""

    def __init__(self, opened: Store, run: str, cache: Cache) -> None:
        self.opened, self.run, self.prefix = opened, run, keys.run(run)
        self.known = Knowledge(opened, run)
        self.forgetting = Forgetting(opened, run, self.known)
        own = sha256_bytes(f"{opened.url}\0{run}".encode())[:32]
        self.folder = cache.root / "relay" / own
        self.token = token(cache.root / "relay")

    def round(self, door: Door, progress: Progress = SILENT, *, whole: bool = False) -> Outcome:
        """Take what is new. Raises LostWayError when the way is lost, and errors of the store; the next round goes on.

        One at a time on this machine, which waits for others of it, and one at a time on the box. With `whole` the
        store is listed anew before: what was written and is gone comes again.
        """
        with self.alone():
            self.known.load(whole)
            request = {
                "call": "objects",
                "run": self.run,
                "token": self.token,
                "known": packed(self.known.keys),
                "line": self.known.line().to_json(),
                "partial": self.partial(),
                "claim": self.known.highest.decode(),
            }
            with listen(door, request) as frames:
                taking = Taking(self, progress)
                try:
                    outcome = taking.work(frames)
                finally:
                    taking.close()
            if outcome.complete or outcome.direct:
                shutil.rmtree(self.folder, ignore_errors=True)
            return outcome

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with disk_full(self.folder.parent.parent):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "held").open("wb") as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                yield

    def part(self, key: str) -> Path:
        """Return where the bytes of a big object are gathered."""
        return self.folder / f"{sha256_bytes(key.encode())}.part"

    def partial(self) -> dict[str, int]:
        """Return how much there is of objects that were cut."""
        found = {}
        for path in self.folder.glob("*.key"):
            with contextlib.suppress(OSError):
                key = path.read_text()
                found[key] = self.part(key).stat().st_size
        return found


def token(folder: Path) -> str:
    """Return what tells this machine's rounds from those of others, which may have its name and its paths."""
    place = folder / "token"
    with contextlib.suppress(FileNotFoundError):
        return place.read_text()
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"token-{secrets.token_hex(8)}"
    part.write_text(secrets.token_hex(32))
    with contextlib.suppress(FileExistsError):
        place.hardlink_to(part)
    part.unlink()
    return place.read_text()
