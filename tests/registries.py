"""Real registries (Debian's docker-registry) on loopback, and a proxy before one that cuts, counts and lies."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.patience import LONG_S

USER, PASSWORD = "ada", "correct horse"
# htpasswd's line for the two above: bcrypt, the only kind that the registry reads
HTPASSWD = "ada:$2b$05$C85ynU/YXM1Yd.sGGzxcyewOlJUsh116RaLnfwiCJaLhffD2ER/A2\n"
CONFIG = """
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}
http: {{addr: "{address}:{port}", secret: for-tests}}
{auth}
"""


@contextlib.contextmanager
def docker_registry(folder: Path, *, login: bool = False, address: str = "127.0.0.1") -> Iterator[str]:
    """Run docker-registry on a port of loopback, or of another address of this machine's, until the end of the block;
    give "ADDRESS:PORT"."""
    if not shutil.which("docker-registry"):
        pytest.skip("needs docker-registry (Debian: docker-registry)")
    port = free_port()
    auth = ""
    if login:
        (folder / "htpasswd").write_text(HTPASSWD)
        auth = f"auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}"
    (folder / "registry.yml").write_text(CONFIG.format(folder=folder, address=address, port=port, auth=auth))
    with (folder / "log").open("wb") as log:
        args = ["docker-registry", "serve", str(folder / "registry.yml")]
        env = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
        server = subprocess.Popen(args, stdout=log, stderr=log, env=env, start_new_session=True)
    try:
        wait_for(f"{address}:{port}", server, folder / "log")
        yield f"{address}:{port}"
    finally:
        server.terminate()
        server.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(host: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + LONG_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < until and server.poll() is None:
        try:
            opener.open(f"http://{host}/v2/", timeout=5).close()
            return
        except urllib.error.HTTPError as e:  # a registry that wants a login is there, too
            e.close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail("docker-registry did not start:\n" + log.read_text(errors="replace")[-2000:])


class Proxy:
    """Passes bytes on between clients and a registry. `up` and `down` count them.

    `cut_up` and `cut_down` hold numbers of bytes: the next connection that has carried so many in that direction is
    reset. `change` may alter what comes down. The Host header stays what the client wrote, so that links lead here.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.up = self.down = self.cuts = 0
        self.cut_up: list[int] = []
        self.cut_down: list[int] = []
        self.change: Callable[[bytes], bytes] = lambda data: data
        self.guard = threading.Lock()
        self.threads: list[threading.Thread] = []
        self.open: set[socket.socket] = set()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self.server.getsockname()[1]}"
        self.closing = False
        self.start(self.accept)

    def start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args)
        self.threads.append(thread)
        thread.start()

    def accept(self) -> None:
        while not self.closing:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            name, _, port = self.upstream.rpartition(":")
            registry = socket.create_connection((name, int(port)))
            self.open |= {client, registry}
            self.start(self.carry, client, registry, "up")
            self.start(self.carry, registry, client, "down")

    def carry(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                with self.guard:
                    cuts = self.cut_up if way == "up" else self.cut_down
                    if cuts and passed >= cuts[0]:
                        cuts.pop(0)
                        self.cuts += 1
                        break
                    setattr(self, way, getattr(self, way) + len(data))
                sink.sendall(self.change(data) if way == "down" else data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self.closing = True
        for one in (self.server, *self.open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self.threads:
            thread.join(10)


@contextlib.contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """Stand before a registry until the end of the block."""
    one = Proxy(upstream)
    try:
        yield one
    finally:
        one.close()
