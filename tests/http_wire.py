"""HTTP/1.1 as it is on the wire, as far as a proxy must understand it: heads, and where bodies end (RFC 9112)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime

PIECE_BYTES = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Request:
    """The head of a request. Header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


async def read_head(reader: asyncio.StreamReader) -> bytes | None:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None


def parsed(head: bytes) -> tuple[Request, bytes]:
    """Return a request, and its head as it is passed on: without `Expect`, which the proxy answers itself."""
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    request = Request(method=method, target=target, headers=header_lines(head))
    return request, re.sub(rb"(?i)\r\nexpect:[^\r]*", b"", head)


def header_lines(head: bytes) -> dict[str, str]:
    lines = [line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:] if line]
    return {name.strip().lower(): value.strip() for name, _, value in lines}


async def pieces(
    reader: asyncio.StreamReader, headers: dict[str, str], until_close: bool = False
) -> AsyncIterator[tuple[bytes, bool]]:
    """Yield a body as it is on the wire, and of each piece whether it is data or framing (RFC 9112, section 6)."""
    if until_close:
        while piece := await reader.read(PIECE_BYTES):
            yield piece, True
    elif "chunked" in headers.get("transfer-encoding", "").lower():
        while True:
            line = await reader.readuntil(b"\r\n")
            yield line, False
            left = int(line.split(b";")[0], 16)
            if not left:
                break
            async for piece in exactly(reader, left):
                yield piece, True
            yield await reader.readexactly(2), False
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            yield line, False
        yield line, False
    else:
        async for piece in exactly(reader, int(headers.get("content-length", 0))):
            yield piece, True


async def exactly(reader: asyncio.StreamReader, left: int) -> AsyncIterator[bytes]:
    while left:
        piece = await reader.read(min(left, PIECE_BYTES))
        if not piece:
            raise EOFError
        left -= len(piece)
        yield piece


def skewed(head: bytes, seconds: float) -> bytes:
    """Return a head whose `Date` and `Last-Modified` are wrong by some seconds."""

    def moved(match: re.Match[bytes]) -> bytes:
        moment = parsedate_to_datetime(match[2].decode()) + timedelta(seconds=seconds)
        return match[1] + format_datetime(moment, usegmt=True).encode()

    return re.sub(rb"(?i)(\r\n(?:date|last-modified): *)([^\r]+)", moved, head)
