"""Inputs in object storage: one object, or all that is below a prefix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from launcher.digest import canonical_text
from launcher.errors import FetchError, Problem, SpecError
from launcher.inputs.gather import Inbox, from_store
from launcher.inputs.items import Item, Mark, checked

if TYPE_CHECKING:
    from launcher.store.objects import Store

ASKED_AT_ONCE = 16


class Objects:
    """A Source: an object at a URL, or with a slash at the URL's end a tree."""

    def __init__(self, data: str, url: str) -> None:
        """Take the URL of the input named `data`; nothing is asked yet."""
        from launcher import access

        self.data, self.name = data, url
        self.kind: Literal["file", "tree"] = "tree" if url.endswith("/") else "file"
        self.access = access.of(url.rstrip("/") if self.kind == "tree" else url.rpartition("/")[0])
        self.key = "" if self.kind == "tree" else url.rpartition("/")[2]
        self.identity = canonical_text([url, self.access.settings.get("endpoint")])
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        if self._store is None:
            from launcher import access

            self._store = access.open_to_read(self.access.url)
        return self._store

    def items(self) -> list[Item]:
        """List the input. Raises FetchError when there is nothing, SpecError for keys that are no paths, StoreError."""
        if self.kind == "file":
            return [self.object()]
        if not (found := self.files(self.below())):
            hint = "a prefix ends in a slash and has objects below it; one object is named without a slash"
            raise FetchError(f"data `{self.data}`: there is nothing below {self.name}", hint=hint)
        return checked(found, f"data `{self.data}`")

    def object(self) -> Item:
        from launcher.errors import ObjectMissingError

        try:
            told = self.store.call(self.key, lambda inner: inner.head(self.key))
        except ObjectMissingError as e:
            hint = f"for all that is below it, write {self.name}/ with a slash" if self.is_prefix() else None
            raise FetchError(f"data `{self.data}`: there is no object {self.name}", hint=hint) from e
        return Item(name="", size=told["size"], key=self.key, mark=mark(told))

    def is_prefix(self) -> bool:
        found = self.store.call(self.key, lambda inner: inner.list_with_delimiter(self.key))
        return bool(found["objects"] or found["common_prefixes"])

    def files(self, found: list[Item]) -> list[Item]:
        """Leave out empty objects that stand for folders: their keys end in a slash, which the listing doesn't show."""
        folders = {part for item in found for part in parents(item.name)}
        empty = [item for item in found if not item.size and item.name not in folders]
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            real = pool.map(lambda item: self.store.exists(item.key), empty)
            there = {item.name for item, is_real in zip(empty, real, strict=True) if is_real}
        return [item for item in found if item.size or item.name in there]

    def below(self) -> list[Item]:
        """Return what lies below."""
        return self.store.call(  # type: ignore[no-any-return]
            "", lambda inner: [listed(told) for page in inner.list() for told in page if told["path"]]
        )

    def weight(self, items: Sequence[Item]) -> int:
        return sum(item.size for item in items)

    def bring(self, items: Sequence[Item], inbox: Inbox) -> None:
        """Fetch. Raises SpecError for what vanished since it was listed, StoreError."""
        from_store(self.store, items, inbox)
        gone = [Problem(message=f"data `{self.data}`: {item.key} vanished from {self.name}") for item in inbox.missing]
        if gone:
            raise SpecError.of(gone[:10])


def parents(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name


def listed(told: dict[str, Any]) -> Item:
    return Item(name=told["path"], size=told["size"], key=told["path"], mark=mark(told))


def mark(told: dict[str, Any]) -> Mark:
    """Return what changes when an object is written: its entity tag, or its time where it has none."""
    size = int(told["size"])
    if etag := told.get("e_tag"):
        return ("etag", str(etag), size)
    return ("modified", told["last_modified"].isoformat(), size)
