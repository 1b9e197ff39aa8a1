"""A layer on its way to a box: what has come lies in a file, and goes on from there after a cut.

    tmp/<diff_id>.part    below launcher's folder: the first bytes of the layer, as it is and uncompressed

Whoever needs more than there is fetches it, under a lock on the file, and all others read what comes: two launches at
once have it sent once. A file that nobody has added to for two days goes with the rest of `tmp`.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.cache import write_all
from launcher.digest import CHUNK_BYTES, sha256_file
from launcher.profiles.places import Places
from launcher.remote.receiving import Content, CutError
from launcher.remote.serving import PIECES

SILENCE_S = 20  # a way that brings nothing for so long is lost
LOOK_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Source:
    """Who has the layers: a registry (launcher.remote.serving) behind a port of this machine's loopback."""

    port: int
    secret: str = field(repr=False)


@dataclass
class Traffic:
    """What became of all layers of one image together. `lost` says why one could not be had."""

    fetched: int = 0
    lost: str = ""
    full: bool = False
    lacking: set[str] = field(default_factory=set)  # diff_ids that are neither here nor to be had
    over: threading.Event = field(default_factory=threading.Event)  # set with the first that could not be had

    def give_up(self, why: Exception) -> None:
        self.lost = self.lost or str(why) or "the connection was cut"
        self.full = self.full or (isinstance(why, OSError) and why.errno in (errno.ENOSPC, errno.EDQUOT))
        self.over.set()


@dataclass(frozen=True, kw_only=True)
class Arriving:
    """A launcher.remote.serving.Blob. `size` is in bytes; `source` None: what is here must do."""

    diff_id: str
    size: int
    shared: str
    source: Source | None
    traffic: Traffic

    @property
    def part(self) -> Path:
        return Path(Places(self.shared).at("tmp", f"{self.diff_id}.part"))

    @property
    def whole(self) -> Path:
        """Where it lies if it was sent as a file."""
        return Path(Places(self.shared).blob(self.diff_id))

    def place(self) -> Path:
        return self.whole if self.whole.exists() else self.part

    def have(self) -> int:
        """How many of its bytes are here."""
        with suppress(OSError):
            return min(self.place().stat().st_size, self.size)
        return 0

    def chunks(self, start: int) -> Iterator[bytes]:
        """Yield the layer from an offset on, as it comes. Raises OSError when it doesn't."""
        place = self.place()
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place, "rb" if place == self.whole else "a+b", buffering=0, opener=private) as stream:
            at = start
            while at < self.size:
                if data := os.pread(stream.fileno(), min(CHUNK_BYTES, self.size - at), at):
                    at += len(data)
                    yield data
                elif self.traffic.over.is_set():
                    raise OSError(self.traffic.lost)
                else:
                    self.begin(place)
                    time.sleep(LOOK_S)

    def begin(self, place: Path) -> None:
        """Have the rest brought by a thread, unless somebody else is at it. A slow reader doesn't hold it up."""
        descriptor = os.open(place, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return
        threading.Thread(target=self.bring, args=(descriptor,), daemon=True).start()

    def bring(self, descriptor: int) -> None:
        """Append what is missing, and let go of the file."""
        try:
            self.add(descriptor, os.fstat(descriptor).st_size)
        except (OSError, http.client.HTTPException, CutError) as e:
            self.traffic.give_up(e)
        finally:
            os.close(descriptor)

    def add(self, descriptor: int, have: int) -> None:
        """Append what is missing. Raises OSError, HTTPException or CutError."""
        if have >= self.size:
            return
        if self.source is None:
            self.traffic.lacking.add(self.diff_id)
            raise OSError(f"the layer {self.diff_id[:12]} is not here")
        with closing(http.client.HTTPConnection("127.0.0.1", self.source.port, timeout=SILENCE_S)) as client:
            for data in asked(client, self.source, self.diff_id, have):
                write_all(descriptor, data)
                self.traffic.fetched += len(data)

    def drop_if_damaged(self) -> bool:
        """Remove what is here whole and yet isn't the layer; return whether it was."""
        place = self.place()
        if self.have() < self.size or sha256_file(place)[0] == self.diff_id:
            return False
        place.unlink()
        return True


def asked(client: http.client.HTTPConnection, source: Source, diff_id: str, start: int) -> Iterator[bytes]:
    """Ask for a layer from an offset on and yield its pieces. Raises OSError, HTTPException or CutError."""
    headers = {"Accept-Encoding": PIECES, "Range": f"bytes={start}-"}
    client.request("GET", f"/v2/{source.secret}/blobs/sha256:{diff_id}", headers=headers)
    answer: Any = client.getresponse()
    if answer.status not in (200, 206):
        raise OSError(f"layer {diff_id[:12]}: {answer.status} {answer.reason}")
    content = Content(answer)
    yield from content.chunks()
    if answer.read(32) != content.digest.digest():
        raise OSError(f"the layer {diff_id[:12]} came with other bytes than were sent")


def private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
