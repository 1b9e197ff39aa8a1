"""Which contents an attempt may take as stored, and under which key it stores others.

A deletion can reach the store minutes after it was asked for: from a frozen runner, over a slow network. So a key
that somebody may have asked to delete is never named by a new manifest. An attempt relies on what it has stored
itself and on what the newest manifest that it inherits names, which nobody deletes; everything else it stores anew,
under a mark of its own: its epoch, and how often it has deleted that content itself.
"""

from __future__ import annotations

from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


class Contents:
    """What is in the store, by sha256. For the thread that stores checkpoints, and forgets them."""

    def __init__(self, run: str, epoch: int, lines: Iterable[Mapping[str, Any]] = ()) -> None:
        """`lines` are those of the newest inherited manifest, if its files were found whole."""
        self.run, self.epoch = run, epoch
        self.marks = {line["sha256"]: line.get("mark", "") for line in lines if "sha256" in line}
        self.turns: dict[str, int] = {}

    def find(self, sha256: str) -> str | None:
        """Return the mark under which a content is stored, or None when it has to be stored."""
        return self.marks.get(sha256)

    def mark(self, sha256: str) -> str:
        """Return the mark under which to store a content: none at all in a run that goes its plain way."""
        turn = self.turns.get(sha256, 0)
        return f"{self.epoch}-{turn}" if self.epoch > 1 or turn else ""

    def stored(self, sha256: str, mark: str) -> None:
        """Note that a content is in the store now."""
        self.marks[sha256] = mark

    def key(self, sha256: str) -> str:
        """Return the key under which a content is stored, or is to be stored."""
        return keys.blob(self.run, sha256, self.marks.get(sha256, self.mark(sha256)))

    def deleting(self, sha256: str, key: str) -> None:
        """Note, before it is asked for, that an object is deleted: if its content comes again, it gets another key."""
        if sha256 in self.marks and self.key(sha256) == key:
            self.retire(sha256)

    def retire(self, sha256: str) -> None:
        """Never use the present key of a content again."""
        self.marks.pop(sha256, None)
        self.turns[sha256] = self.turns.get(sha256, 0) + 1
