"""A small registry on loopback for tests, which can cut, forget, lie, redirect, and ask for tokens or passwords.

It knows what OCI Distribution Specification 1.1 asks of one, with resumable uploads that outlast a cut.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(kw_only=True)
class Registry:
    """The state of a running registry. Requests are kept as (method, path, headers)."""

    host: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # tag or sha256:... -> type, bytes
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    received: int = 0  # bytes of blobs that came up
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # given first, whatever is asked
    said: bytes = b"busy"  # their body
    cuts_down: list[int] = field(default_factory=list)  # of blobs: hang up after so many bytes
    cuts_up: list[int] = field(default_factory=list)  # of PATCH: hang up after so many bytes
    forgets: bool = False  # a cut upload is gone, as with distribution up to 2.8
    most_body: int | None = None  # bigger PATCHes get 413
    ranges: bool = True
    login: tuple[str, str] | None = None
    identity: str | None = None  # the identity token that is taken for tokens
    tokens: bool = False
    life_s: int = 300
    realm: str = ""
    given: list[dict[str, Any]] = field(default_factory=list)  # what was asked of the token server
    valid: set[str] = field(default_factory=set)
    elsewhere: str = ""  # blobs are redirected to there
    uploads: dict[str, bytearray] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def asked(self, method: str) -> list[str]:
        return [path for used, path, _ in self.requests if used == method]

    def add_image(
        self, layers: list[bytes], *, tag: str = "1", config: Mapping[str, Any] | None = None, kind: str = OCI_GZIP
    ) -> str:
        """Hold an image; return its manifest's sha256."""
        whole = json.dumps(dict(config or {"architecture": "amd64", "os": "linux"})).encode()
        for blob in (*layers, whole):
            self.blobs[sha(blob)] = blob
        told = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": f"sha256:{sha(whole)}", "size": len(whole)},
            "layers": [{"mediaType": kind, "digest": f"sha256:{sha(one)}", "size": len(one)} for one in layers],
        }
        return self.add_manifest(told, tag)

    def add_manifest(self, told: Mapping[str, Any], tag: str, kind: str = OCI_MANIFEST) -> str:
        raw = json.dumps(told).encode()
        self.manifests[tag] = self.manifests[f"sha256:{sha(raw)}"] = (kind, raw)
        return sha(raw)


@contextmanager
def serve(tls: ssl.SSLContext | None = None, **state: Any) -> Iterator[Registry]:
    """Run a registry until the end of the block."""
    registry = Registry(**state)
    server = Server(("127.0.0.1", 0), type("Handler", (Handler,), {"registry": registry}))
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    registry.host = f"127.0.0.1:{server.server_port}"
    registry.realm = registry.realm or f"http://{registry.host}/token"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        return  # clients that hang up are what is tested


class Handler(BaseHTTPRequestHandler):
    registry: Registry
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        return

    def handle_any(self) -> None:
        state, path = self.registry, urlsplit(self.path).path
        with state.guard:
            state.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        if path == "/token":
            self.token()
        elif path == "/v2/" and not state.tokens and not state.login:
            self.reply(200, b"{}")
        elif not path.startswith("/storage/") and not self.allowed():
            self.drain()
            self.reply(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"log in"}]}', self.challenge())
        elif path == "/v2/":
            self.reply(200, b"{}")
        elif state.answers:
            self.drain()
            code, headers = state.answers.pop(0)
            self.reply(code, state.said, headers)
        else:
            self.route(path)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = handle_any  # noqa: N815

    def route(self, path: str) -> None:
        if path.startswith("/storage/"):
            self.blob(path.rpartition("/")[2])
        elif found := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", path):
            self.manifest(found[2])
        elif found := re.fullmatch(r"/v2/(.+)/blobs/uploads/(.*)", path):
            self.upload(found[1], found[2])
        elif found := re.fullmatch(r"/v2/(.+)/blobs/sha256:([0-9a-f]{64})", path):
            if self.registry.elsewhere and self.command == "GET":
                where = f"{self.registry.elsewhere}/storage/{found[2]}?X-Signature=hidden"
                self.reply(307, b"", {"Location": where})
            else:
                self.blob(found[2])
        else:
            self.reply(404, b"")

    def allowed(self) -> bool:
        state, sent = self.registry, self.headers.get("Authorization", "")
        if state.tokens:
            return sent.removeprefix("Bearer ") in state.valid
        if state.login:
            return sent == "Basic " + base64.b64encode(":".join(state.login).encode()).decode()
        return True

    def challenge(self) -> dict[str, str]:
        if self.registry.tokens:
            return {
                "WWW-Authenticate": f'Bearer realm="{self.registry.realm}",service="tests",scope="repository:x:pull"'
            }
        return {"WWW-Authenticate": 'Basic realm="tests"'}

    def token(self) -> None:
        state = self.registry
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        fields = parse_qs(body or urlsplit(self.path).query)
        state.given.append({"method": self.command, **fields})
        sent = self.headers.get("Authorization", "")
        if state.identity:
            ok = fields.get("refresh_token") == [state.identity]
        elif state.login:
            ok = sent == "Basic " + base64.b64encode(":".join(state.login).encode()).decode()
        else:
            ok = not sent
        if not ok:
            self.reply(401, b'{"details":"incorrect username or password"}')
            return
        token = f"token-{len(state.given)}"
        state.valid.add(token)
        self.reply(200, json.dumps({"token": token, "expires_in": state.life_s}).encode())

    def manifest(self, name: str) -> None:
        state = self.registry
        if self.command == "PUT":
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            kind = self.headers["Content-Type"]
            named = json.loads(raw)
            wanted = [named["config"]["digest"], *(layer["digest"] for layer in named["layers"])]
            if any(one.removeprefix("sha256:") not in state.blobs for one in wanted):
                self.reply(400, b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown"}]}')
                return
            state.manifests[name] = state.manifests[f"sha256:{sha(raw)}"] = (kind, raw)
            self.reply(201, b"", {"Docker-Content-Digest": f"sha256:{sha(raw)}"})
        elif name not in state.manifests:
            self.reply(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
        else:
            kind, raw = state.manifests[name]
            digest = name if name.startswith("sha256:") else f"sha256:{sha(raw)}"
            self.reply(200, raw, {"Content-Type": kind, "Docker-Content-Digest": digest})

    def blob(self, digest: str) -> None:
        state = self.registry
        data = state.blobs.get(digest)
        if data is None:
            self.reply(404, b'{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}')
            return
        start = 0
        if state.ranges and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
        body = data[start:]
        cut = state.cuts_down.pop(0) if state.cuts_down and self.command == "GET" else len(body)
        span = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self.reply(206 if start else 200, body[:cut], span, length=len(body))
        if cut < len(body):
            self.close_connection = True

    def upload(self, name: str, key: str) -> None:
        state, query = self.registry, parse_qs(urlsplit(self.path).query)
        if self.command == "POST":
            if "mount" in query and query["mount"][0].removeprefix("sha256:") in state.blobs:
                self.reply(201, b"")
                return
            key = str(len(state.uploads))
            state.uploads[key] = bytearray()
            self.told(name, key, 202)
        elif key not in state.uploads:
            self.drain()
            self.reply(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"upload unknown"}]}')
        elif self.command == "GET":
            self.told(name, key, 204)
        elif self.command == "PATCH":
            self.patch(name, key)
        else:
            state.uploads[key] += self.body()
            data = bytes(state.uploads.pop(key))
            if f"sha256:{sha(data)}" != query["digest"][0]:
                self.reply(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"digest invalid"}]}')
                return
            state.blobs[sha(data)] = data
            self.reply(201, b"")

    def patch(self, name: str, key: str) -> None:
        state, there = self.registry, len(self.registry.uploads[key])
        asked, length = self.headers.get("Content-Range"), int(self.headers["Content-Length"])
        if state.most_body and length > state.most_body:
            self.drain()
            self.reply(413, b"too large")
        elif asked and int(asked.partition("-")[0]) != there:
            self.drain()
            self.reply(416, b"", {"Range": f"0-{max(0, there - 1)}"})
        elif state.cuts_up:
            part = self.rfile.read(min(length, state.cuts_up.pop(0)))
            state.received += len(part)
            state.uploads[key] += part
            if state.forgets:
                del state.uploads[key]
            self.close_connection = True
            self.connection.close()
        else:
            state.uploads[key] += self.body()
            self.told(name, key, 202)

    def body(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.registry.received += len(data)
        return data

    def drain(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def told(self, name: str, key: str, code: int) -> None:
        there = len(self.registry.uploads[key])
        self.reply(
            code, b"", {"Location": f"/v2/{name}/blobs/uploads/{key}?_state=secret", "Range": f"0-{max(0, there - 1)}"}
        )

    def reply(
        self, code: int, body: bytes, headers: Mapping[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(code)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if code != 204:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
