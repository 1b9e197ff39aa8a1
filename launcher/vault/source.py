"""A vault as a place to fetch artifacts from; a cut is gone on from where it came."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from launcher.errors import ObjectMissingError, StoreError, UnreachableError
from launcher.lock import Artifact
from launcher.store import keys
from launcher.store.objects import Store

PIECE_BYTES = 16 << 20
TRIES = 5  # in a row without a byte; the store below has its own quick ones
FIRST_PAUSE_S = 0.5


class VaultSource:
    """A store as a source; see `launcher.indexes.source.Source`. Who fetches from it checks the sha256.

    `opens` opens the store when it is first asked: a vault that is only the last resort is often not needed at all.
    """

    holds = Artifact

    def __init__(self, store: Store | None = None, *, url: str = "", opens: Callable[[], Store] | None = None) -> None:
        self.opened, self.opens = store, opens
        self.url = store.url if store else url
        self.trouble: StoreError | None = None

    @property
    def name(self) -> str:
        return f"the vault in {self.url}"

    def store(self) -> Store:
        if self.trouble is not None:
            raise self.trouble
        if self.opened is None:
            assert self.opens is not None
            try:
                self.opened = self.opens()
            except StoreError as e:
                self.trouble = e  # the next file need not wait for the same answer
                raise
        return self.opened

    def open(self, artifact: Artifact) -> contextlib.AbstractContextManager[Pieces | None]:
        """Stream an artifact; None when the vault hasn't got it. Raises StoreError, also while it is read."""
        return self.open_from(artifact, 0)

    @contextlib.contextmanager
    def open_from(self, artifact: Artifact, offset: int) -> Iterator[Pieces | None]:
        """Stream an artifact from a byte on: what was fetched before need not come again."""
        pieces = Pieces(self.store(), keys.artifact(artifact.sha256), offset)
        try:
            pieces.begin()
        except ObjectMissingError:
            yield None
            return
        yield pieces


class Pieces:
    """An object as a stream of bytes from an offset on."""

    def __init__(self, store: Store, key: str, offset: int) -> None:
        self.store, self.key, self.offset = store, key, offset
        self.pieces: Iterator[bytes] = iter(())
        self.first: bytes | None = None

    def begin(self) -> None:
        """Ask for the first piece. Raises ObjectMissingError, StoreError."""
        self.pieces = self.store.stream(self.key) if self.offset == 0 else self.ranges()
        self.first = next(self.pieces, b"")

    def ranges(self) -> Iterator[bytes]:
        at = self.offset
        while piece := self.store.get_range(self.key, at, PIECE_BYTES):
            yield piece
            at += len(piece)

    def read(self, size: int, /) -> bytes:
        piece = self.taken() if self.first is None else self.first
        self.first = None
        self.offset += len(piece)
        return piece

    def taken(self) -> bytes:
        """Return the next piece, after a cut from a new request. Raises StoreError when that is in vain too."""
        for left in reversed(range(TRIES)):
            try:
                return next(self.pieces, b"")
            except UnreachableError:
                if not left:
                    raise
                time.sleep(FIRST_PAUSE_S * 2 ** (TRIES - 1 - left))
                self.pieces = self.ranges()
        raise AssertionError
