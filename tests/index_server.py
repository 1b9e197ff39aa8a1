"""A real simple index on loopback for tests, which can lie, be cut, ask for a login or leave things out."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from packaging.utils import canonicalize_name
from packaging.version import Version

from launcher.lock import Wheel
from tests.wheels import wheel_bytes


def make_wheel(name: str, version: str = "1.0", requires: tuple[str, ...] = (), content: str = "") -> bytes:
    """Return a pure wheel with dependencies."""
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    files = {f"{name.replace('-', '_')}.py": f"x = {content!r}\n".encode()}
    return wheel_bytes(name.replace("-", "_"), version, files, replace={f"{info}/METADATA": metadata.encode()})


@dataclass(kw_only=True)
class File:
    """What the index offers. `sha256` is what it claims, None for nothing; `cuts` are bytes after which it hangs up."""

    filename: str
    data: bytes
    sha256: str | None
    yanked: bool = False
    size: bool = True
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True


@dataclass(kw_only=True)
class Index:
    """The state of a running index."""

    url: str = ""
    files: dict[str, dict[str, File]] = field(default_factory=dict)
    as_json: bool = False
    login: tuple[str, str] | None = None
    failures: int = 0  # how often it answers 503 first
    requests: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        version: str = "1.0",
        requires: tuple[str, ...] = (),
        *,
        content: str = "",
        tag: str = "py3-none-any",
        build: str = "",
        filename: str | None = None,
    ) -> File:
        """Offer a wheel, or with `filename` anything else."""
        data = make_wheel(name, version, requires, content)
        own = filename or f"{name.replace('-', '_')}-{version}{'-' * bool(build)}{build}-{tag}.whl"
        file = File(filename=own, data=data, sha256=hashlib.sha256(data).hexdigest())
        self.files.setdefault(canonicalize_name(name), {})[own] = file
        return file

    def pin(self, file: File, name: str) -> Wheel:
        """Return the true pin of a wheel."""
        return Wheel(
            name=name,
            version=str(Version(file.filename.split("-")[1])),
            filename=file.filename,
            size=len(file.data),
            sha256=hashlib.sha256(file.data).hexdigest(),
        )


@contextmanager
def serve() -> Iterator[Index]:
    """Run an index until the end of the block."""
    index = Index()
    handler = type("Handler", (Handler,), {"index": index})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    index.url = f"http://127.0.0.1:{server.server_port}/simple"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    index: Index
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        return

    def do_GET(self) -> None:
        self.index.requests.append(self.path)
        if not self.allowed():
            self.reply(401, b"", {"WWW-Authenticate": 'Basic realm="index"'})
        elif self.index.failures > 0:
            self.index.failures -= 1
            self.reply(503, b"busy", {"Retry-After": "0"})
        elif self.path.startswith("/simple/"):
            self.page(self.path.split("/")[2])
        else:
            self.file(*self.path.split("/")[2:4])

    do_HEAD = do_GET  # noqa: N815

    def allowed(self) -> bool:
        if self.index.login is None:
            return True
        token = base64.b64encode(":".join(self.index.login).encode()).decode()
        return self.headers.get("Authorization") == f"Basic {token}"

    def page(self, project: str) -> None:
        files = self.index.files.get(project)
        if files is None:
            self.reply(404, b"")
        elif self.index.as_json:
            self.reply(200, json_page(project, files), {"Content-Type": "application/vnd.pypi.simple.v1+json"})
        else:
            self.reply(200, html_page(project, files), {"Content-Type": "text/html"})

    def file(self, project: str, name: str) -> None:
        found = self.index.files.get(project, {}).get(unquote(name))
        if found is None:
            self.reply(404, b"")
            return
        start, end = self.span(found)
        whole = (start, end) == (0, len(found.data))
        headers = {"ETag": '"fixed"', **({"Accept-Ranges": "bytes"} if found.ranges else {})}
        if not whole:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(found.data)}"
        body = found.data[start:end]
        cut = found.cuts.pop(0) if found.cuts and self.command == "GET" else len(body)
        self.reply(200 if whole else 206, body[:cut], headers, length=len(body))
        if cut < len(body):
            self.close_connection = True

    def span(self, found: File) -> tuple[int, int]:
        """Return the first byte that is asked for and the one after the last."""
        size, asked = len(found.data), self.headers.get("Range", "")
        if asked:
            self.index.ranges.append(asked)
        if not asked or not found.ranges:
            return 0, size
        first, _, last = asked.removeprefix("bytes=").partition("-")
        if not first:
            return max(0, size - int(last)), size
        return int(first), min(size, int(last) + 1) if last else size

    def reply(
        self, code: int, body: bytes, headers: Mapping[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(code)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def html_page(project: str, files: Mapping[str, File]) -> bytes:
    rows = []
    for file in files.values():
        fragment = f"#sha256={file.sha256}" if file.sha256 else ""
        yanked = ' data-yanked="broken"' if file.yanked else ""
        rows.append(f'<a href="../../files/{project}/{file.filename}{fragment}"{yanked}>{file.filename}</a><br>')
    return f"<!DOCTYPE html><html><body>{''.join(rows)}</body></html>".encode()


def json_page(project: str, files: Mapping[str, File]) -> bytes:
    rows = []
    for file in files.values():
        row: dict[str, object] = {"filename": file.filename, "url": f"../../files/{project}/{file.filename}"}
        row |= {"hashes": {"sha256": file.sha256} if file.sha256 else {}, "yanked": file.yanked}
        rows.append(row | ({"size": len(file.data)} if file.size else {}))
    return json.dumps({"meta": {"api-version": "1.1"}, "name": project, "versions": [], "files": rows}).encode()
