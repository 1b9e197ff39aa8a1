"""Listening to a box's stream: frames as they come, and a line that has gone dead noticed within seconds."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from launcher.box.frames import BEAT_S, Reader, Told
from launcher.errors import TargetError
from launcher.remote.host import LostWayError, NoWayError

if TYPE_CHECKING:
    from launcher.remote.model import Shell, Stream
    from launcher.ssh.door import Door

MODULE = "launcher.box.stream"
SILENT_S = 5 * BEAT_S  # a stream that says nothing for so long is lost
FIRST_S = 60.0  # a busy box takes its time to begin
READ_BYTES = 1 << 18
AHEAD = 16  # pieces that are read before they are asked for


@contextlib.contextmanager
def listen(door: Door, request: Mapping[str, Any], first_s: float = FIRST_S) -> Iterator[Iterator[tuple[Told, bytes]]]:
    """Ask a box's stream for something, and give its frames, beats too.

    What it yields raises LostWayError when the way is lost or nothing comes for SILENT_S, and the launcher error that a
    frame tells. Leaving the context lets go of the stream; where the line is dead, of the connection too.
    """
    from launcher.remote.tools import python
    from launcher.remote.words import after_setup

    words = after_setup(door.profile.setup, [python(door.tools), "-I", "-m", MODULE])
    asked = json.dumps({"shared": door.profile.shared, **request}).encode() + b"\n"
    with door.shell.stream(words, stdin=asked, hold=True) as stream:
        pump = Pump(stream, first_s)
        pump.start()
        try:
            yield frames(door, stream, pump)
        except LostWayError:
            if pump.dead:
                let_go(door.shell)
            raise
        finally:
            pump.over.set()


class Pump(threading.Thread):
    """Reads a stream ahead, so that waiting for it can end."""

    def __init__(self, stream: Stream, first_s: float) -> None:
        super().__init__(daemon=True)
        self.stream, self.patience_s = stream, first_s
        self.pieces: queue.Queue[bytes | Exception] = queue.Queue(AHEAD)
        self.over = threading.Event()
        self.dead = False

    def run(self) -> None:
        while not self.over.is_set():
            try:
                piece: bytes | Exception = self.stream.read(READ_BYTES)
            except Exception as e:
                piece = e
            while not self.over.is_set():
                with contextlib.suppress(queue.Full):
                    self.pieces.put(piece, timeout=1.0)
                    break
            if not piece or isinstance(piece, Exception):
                return

    def read(self) -> bytes:
        """Return what has come. Raises LostWayError after a silence, and what reading raised."""
        try:
            piece = self.pieces.get(timeout=self.patience_s)
        except queue.Empty:
            self.dead = True
            raise LostWayError(f"nothing was heard for {self.patience_s:.0f} s") from None
        self.patience_s = SILENT_S
        if isinstance(piece, Exception):
            raise piece
        return piece


def frames(door: Door, stream: Stream, pump: Pump) -> Iterator[tuple[Told, bytes]]:
    reader = Reader(pump.read)
    try:
        for told, payload in reader.frames():
            if told["kind"] == "error":
                from launcher.remote.agent import error_from

                raise error_from(told["error"])
            yield told, payload
    except ValueError as e:
        raise LostWayError(f"what {door.shell.where} says can't be read: {e}") from e
    raise ended(door, stream)


def ended(door: Door, stream: Stream) -> TargetError:
    """Return what to say of a stream that came to its end: a way that was lost, or tools that are gone."""
    try:
        code = stream.code()
    except TargetError as e:
        return e
    said = stream.said().decode(errors="replace").strip()[-1000:]
    if code > 0:
        return TargetError(
            f"the stream of {door.shell.where} ended with code {code}: {said}", hint="the same again brings its tools"
        )
    return LostWayError(f"the stream of {door.shell.where} came to an end")


def mends(error: TargetError) -> bool:
    """Tell whether trying again may help: the way is lost, and no key was changed nor right withdrawn meanwhile."""
    return isinstance(error, LostWayError) or (isinstance(error, NoWayError) and error.passing)


def let_go(shell: Shell) -> None:
    """End a connection that is dead, so that the next command makes a new one; one that a person shares is theirs."""
    from launcher.remote.openssh import OpenSSH

    if not isinstance(shell, OpenSSH):
        shell.close()
    elif shell.settings.get("controlpath", "none") in ("none", ""):
        shell.end()
