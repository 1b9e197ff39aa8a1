"""The seam behind which every place that inputs come from stands: objects, the web, DVC's caches, a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from launcher.inputs.gather import Inbox
from launcher.inputs.items import Item


class Source(Protocol):
    """A place that has an input. `name` is for messages and holds no secret; `identity` is what a memo is kept by.

    `items` lists its files, sorted, with what is known of them; `weight` is how many bytes some of them are; `bring`
    gives their bytes to the inbox, which checks them. All raise what the place fails with: StoreError, FetchError,
    SpecError.
    """

    name: str
    identity: str
    kind: Literal["file", "tree"]

    def items(self) -> list[Item]: ...

    def weight(self, items: Sequence[Item]) -> int: ...

    def bring(self, items: Sequence[Item], inbox: Inbox) -> None: ...
