"""Inputs from the web: one file of an http(s) URL, which goes on where it was cut, over commands too."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal
from urllib.parse import parse_qsl, urlsplit

from launcher.cache import disk_full, write_all
from launcher.credentials import redact, shown
from launcher.digest import CHUNK_BYTES, sha256_bytes
from launcher.errors import FetchError, SpecError
from launcher.indexes.http import Http, Resuming, strong_validator
from launcher.inputs.gather import Inbox
from launcher.inputs.items import Item, Mark
from launcher.inputs.shelf import FULL

SIGNED = ("x-amz-signature", "x-goog-signature", "signature", "sig", "token")  # names in the query of a signed URL


class Clean(logging.Filter):
    """Takes logins and queries out of what the HTTP client logs: signed URLs are secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


class Web:
    """A Source: a file at a URL. An archive stays packed."""

    kind: Literal["file", "tree"] = "file"

    def __init__(self, data: str, url: str, http: Http | None = None) -> None:
        self.data, self.url, self.name = data, url, shown(url)
        self.identity = self.name if signed(url) else url
        self.http = http or Http()
        logger = logging.getLogger("httpx")
        if not any(isinstance(one, Clean) for one in logger.filters):
            logger.addFilter(Clean())

    def items(self) -> list[Item]:
        """Ask for the file's size and mark; its bytes aren't read. Raises FetchError, also when it isn't there."""
        with self.http.response(self.url, {"Accept-Encoding": "identity"}) as response:
            if response is None:
                raise FetchError(f"data `{self.data}`: there is nothing at {self.name}")
            size = length(response.headers)
            return [Item(name="", size=size, key=self.url, mark=mark(response.headers, size))]

    def weight(self, items: Sequence[Item]) -> int:
        return sum(item.size for item in items)

    def bring(self, items: Sequence[Item], inbox: Inbox) -> None:
        """Fetch what a file that was cut lacks, or the whole. Raises SpecError, FetchError, DiskFullError."""
        key = f"web-{sha256_bytes(self.identity.encode())}"
        with inbox.shelf.alone(key, f"data `{self.data}`"):
            part = inbox.shelf.part(key)
            for item in items:
                self.grow(part, item, inbox)
                try:
                    inbox.take_file(item, part)
                finally:  # a whole that is wrong is begun anew
                    part.unlink(missing_ok=True)
                    marker(part).unlink(missing_ok=True)

    def grow(self, part: Path, item: Item, inbox: Inbox) -> None:
        begun = part.stat().st_size if item.mark and told_mark(part) == list(item.mark) and part.exists() else 0
        if item.size and begun == item.size:
            return
        with disk_full(part.parent, FULL), contextlib.ExitStack() as stack:
            marker(part).write_text(json.dumps(item.mark))
            stream, file = stack.enter_context(self.opened(part, item, begun))
            while chunk := stream.read(CHUNK_BYTES):
                write_all(file.fileno(), chunk)
                inbox.task.advance(len(chunk))

    @contextlib.contextmanager
    def opened(self, part: Path, item: Item, begun: int) -> Iterator[tuple[Resuming, IO[bytes]]]:
        """Ask for the rest (RFC 9110, section 14); a server that sends the whole again is taken at its word."""
        headers = {"Accept-Encoding": "identity"}
        if begun and item.mark[0] in ("etag", "modified"):
            headers |= {"Range": f"bytes={begun}-", "If-Range": str(item.mark[1])}
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(self.http.response(self.url, headers))
            if first is None:
                raise SpecError(f"data `{self.data}`: there is nothing at {self.name} any more")
            if item.mark[:1] == ("etag",) and strong_validator(first.headers) != item.mark[1]:
                hint = "lock again when nothing writes to it"
                raise SpecError(f"data `{self.data}`: {self.name} changed while it was read", hint=hint)
            goes_on = first.status_code == 206
            stream = Resuming(self.http, self.url, first, stack)
            stream.offset = begun if goes_on else 0
            yield stream, stack.enter_context(part.open("ab" if goes_on else "wb", buffering=0))


def signed(url: str) -> bool:
    return any(name.lower() in SIGNED for name, _ in parse_qsl(urlsplit(url).query))


def marker(part: Path) -> Path:
    return part.with_suffix(".mark")


def told_mark(part: Path) -> list[str | int] | None:
    try:
        told: list[str | int] = json.loads(marker(part).read_bytes())
    except (OSError, ValueError):
        return None
    return told


def length(headers: Mapping[str, str]) -> int:
    told = headers.get("content-length", "")
    return int(told) if told.isdigit() else 0


def mark(headers: Mapping[str, str], size: int) -> Mark:
    """Return what changes with the file: a strong entity tag, or its time and size, or nothing that can be told."""
    if etag := strong_validator(headers):
        return ("etag", etag, size)
    if (when := headers.get("last-modified")) and size:
        return ("modified", when, size)
    return ()
