"""An HTTP/1.1 proxy before an object store that cuts, refuses, stalls and lies as it is told, and each time alike."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.http_wire import Request, header_lines, parsed, pieces, read_head, skewed

Kind = Literal["cut-request", "cut-response", "answer", "flip-request", "flip-response", "stall", "skew"]
ERROR = "<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>{code}, says the proxy</Message></Error>"
SUM, SHA256 = "x-amz-content-sha256", re.compile("[0-9a-f]{64}")
NO_BODY = (204, 304)


@dataclass(kw_only=True, eq=False)
class Fault:
    """What goes wrong with some requests.

    cut-request: the server gets the head and `after` bytes of the body, then both connections are reset; with 0 it
    gets nothing. cut-response: the server has done what it was asked, and the client gets the first `after` bytes of
    the answer, its head included. answer: the server is not asked; the client gets `status` and S3's error `code`.
    flip-request, flip-response: one bit of the body's byte number `after` (or its last one) is another; a request that
    tells its body's sha256 is refused for that, as real servers do and moto does not. stall: nothing moves for
    `seconds` before the server is asked. skew: the server's clock is wrong by `seconds`.
    """

    kind: Kind
    only: str = ""  # a regular expression that is searched in "METHOD /path?query"
    where: Callable[[Request], bool] = field(default=lambda request: True)
    chance: float = 1.0
    times: int | None = None  # how often at most; None: always
    skip: int = 0  # so many requests that it could hit are left alone first
    after: int = 0
    seconds: float = 0.0
    status: int = 500
    code: str = "InternalError"
    done: int = 0  # how often it has happened
    over: bool = False  # lets a stall end early

    def hits(self, request: Request, draw: Callable[[], float]) -> bool:
        if self.times is not None and self.done >= self.times:
            return False
        if not re.search(self.only, str(request)) or not self.where(request) or draw() >= self.chance:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.done += 1
        return True

    async def pass_by(self) -> None:
        end = time.monotonic() + self.seconds
        while time.monotonic() < end and not self.over:
            await asyncio.sleep(min(0.05, self.seconds))


class CutError(Exception):
    """Both connections are to be reset."""


class Proxy:
    """Passes requests on. `faults` may be changed at any time; `seen` counts requests by method."""

    def __init__(self, upstream: tuple[str, int], *, seed: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.upstream, self.tls = upstream, tls
        self.faults: list[Fault] = []
        self.chance = random.Random(seed)
        self.seen: dict[str, int] = {}
        self.up = self.down = 0  # bytes of bodies
        self.log: list[str] = []  # what went wrong, in order
        self.clients: dict[asyncio.Task[None], socket.socket] = {}
        self.listener: socket.socket | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="fault-proxy")
        self.thread.start()
        self.listen()

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def fault(self, kind: Kind, **told: Any) -> Fault:
        """Add a fault; return it, so that it can be counted and taken away."""
        one = Fault(kind=kind, **told)
        self.faults.append(one)
        return one

    def clear(self) -> None:
        self.faults.clear()

    def listen(self) -> None:
        """Let clients in (again)."""
        if self.listener is None:
            self.do(self._listen())

    def refuse(self) -> None:
        """Refuse connections, and reset those that are open, until `listen`."""
        self.do(self._refuse())

    def close(self) -> None:
        self.refuse()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def do(self, action: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(action, self.loop).result(10)

    async def _listen(self) -> None:
        """Listen without `asyncio.start_server`: closed at a bad moment, that one loses what it has just accepted."""
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.listener.setblocking(False)
        self.loop.add_reader(self.listener, self._accept, self.listener)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client = listener.accept()[0]
            client.setblocking(False)
            self.clients[self.loop.create_task(self.welcome(client))] = client

    async def _refuse(self) -> None:
        if self.listener is not None:
            self.loop.remove_reader(self.listener)
            self.listener.close()
            self.listener = None
        clients, self.clients = self.clients, {}
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await asyncio.sleep(0)  # a transport that was aborted closes its socket a moment later
        for client in clients.values():
            client.close()  # of a task that had not begun

    async def welcome(self, client: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            with contextlib.suppress(OSError, EOFError, CutError, asyncio.CancelledError):
                transport, _ = await self.loop.connect_accepted_socket(lambda: protocol, client, ssl=self.tls)
                writer = asyncio.StreamWriter(transport, protocol, reader, self.loop)
                try:
                    await self.serve(reader, writer)
                finally:
                    transport.abort()
        finally:
            self.clients.pop(task, None)
            self.loop.call_soon(client.close)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry the requests of one client to a connection of its own, one after another."""
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while (head := await read_head(reader)) is not None:
                request, raw = parsed(head)
                self.seen[request.method] = self.seen.get(request.method, 0) + 1
                fault = next((one for one in list(self.faults) if one.hits(request, self.chance.random)), None)
                if fault is not None:
                    self.log.append(f"{fault.kind} {request}")
                if request.headers.get("expect", "").lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                if (
                    fault is not None
                    and fault.kind == "flip-request"
                    and SHA256.fullmatch(request.headers.get(SUM, ""))
                ):
                    fault = Fault(kind="answer", status=400, code="XAmzContentSHA256Mismatch")
                if fault is not None and fault.kind == "answer":
                    await self.answer(request, fault, reader, writer)
                    continue
                if fault is not None and fault.kind == "stall":
                    await fault.pass_by()
                if server is None:
                    server = await asyncio.open_connection(*self.upstream)
                await self.ask(request, raw, fault, reader, server[1])
                if not await self.reply(request, fault, server[0], writer):
                    return
        finally:
            if server is not None:
                server[1].transport.abort()

    async def answer(
        self, request: Request, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async for _ in pieces(reader, request.headers):
            pass
        body = b"" if request.method == "HEAD" else ERROR.format(code=fault.code).encode()
        head = f"HTTP/1.1 {fault.status} {fault.code}\r\nContent-Type: application/xml\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    async def ask(
        self,
        request: Request,
        head: bytes,
        fault: Fault | None,
        reader: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> None:
        """Pass a request on. Raises CutError."""
        cut = fault.after if fault is not None and fault.kind == "cut-request" else None
        if cut == 0:
            raise CutError
        server.write(head)
        place = Place(fault, "flip-request", request.headers)
        async for piece, is_data in pieces(reader, request.headers):
            if cut is not None and is_data and place.at + len(piece) >= cut:
                server.write(piece[: cut - place.at])
                await server.drain()
                raise CutError
            server.write(place.flipped(piece) if is_data else piece)
            self.up += len(piece) if is_data else 0
            await server.drain()
        if cut is not None:
            raise CutError

    async def reply(
        self, request: Request, fault: Fault | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Pass an answer on; return whether the connection may be used again. Raises CutError."""
        head = await read_head(reader)
        while head is not None and head.startswith(b"HTTP/1.1 100"):
            head = await read_head(reader)
        if head is None:
            return False
        status, headers = int(head.split()[1]), header_lines(head)
        if fault is not None and fault.kind == "skew":
            head = skewed(head, fault.seconds)
        out = Limited(writer, fault.after if fault is not None and fault.kind == "cut-response" else None)
        await out.write(head)
        place = Place(fault, "flip-response", headers)
        empty = request.method == "HEAD" or status in NO_BODY
        until_close = not empty and "content-length" not in headers and "transfer-encoding" not in headers
        async for piece, is_data in pieces(reader, {"content-length": "0"} if empty else headers, until_close):
            await out.write(place.flipped(piece) if is_data else piece)
            self.down += len(piece) if is_data else 0
        if out.left is not None:
            raise CutError
        return not until_close and headers.get("connection", "").lower() != "close"


class Limited:
    """A way to the client that is cut after some bytes."""

    def __init__(self, writer: asyncio.StreamWriter, left: int | None) -> None:
        self.writer, self.left = writer, left

    async def write(self, data: bytes) -> None:
        if self.left is not None and len(data) >= self.left:
            self.writer.write(data[: self.left])
            await self.writer.drain()
            await asyncio.sleep(0.01)  # the kernel drops what it holds when a connection is reset
            raise CutError
        self.left = None if self.left is None else self.left - len(data)
        self.writer.write(data)
        await self.writer.drain()


class Place:
    """Counts the bytes of a body, and flips a bit at one of them."""

    def __init__(self, fault: Fault | None, kind: Kind, headers: dict[str, str]) -> None:
        length = int(headers.get("content-length", 0))
        wanted = fault is not None and fault.kind == kind
        self.target = min(fault.after, max(length - 1, 0)) if fault is not None and wanted else None
        self.at = 0

    def flipped(self, piece: bytes) -> bytes:
        start, self.at = self.at, self.at + len(piece)
        if self.target is None or not start <= self.target < self.at:
            return piece
        at = self.target - start
        return piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]


@contextlib.contextmanager
def fault_proxy(endpoint: str, *, seed: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Stand before the server at `http://HOST:PORT` until the end of the block."""
    host, _, port = endpoint.partition("://")[2].rpartition(":")
    one = Proxy((host, int(port)), seed=seed, tls=tls)
    try:
        yield one
    finally:
        one.close()
