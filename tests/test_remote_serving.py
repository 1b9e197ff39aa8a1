"""The registry that a box's engine pulls from: for who knows the secret alone, from any byte on; and what arrives."""

from __future__ import annotations

import fcntl
import http.client
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from launcher.cache import Cache
from launcher.digest import sha256_bytes
from launcher.errors import LauncherError, TargetError
from launcher.image.oci import Image
from launcher.image.tree import Bytes, Entry
from launcher.progress import SILENT, SilentTask
from launcher.remote.arriving import Arriving, Source, Traffic
from launcher.remote.engine import Known, same, shared
from launcher.remote.host import LostWayError, no_way, parse
from launcher.remote.looking import look, peek
from launcher.remote.persistence import Counting, through_cuts
from launcher.remote.serving import PIECES, Registry, offer, serving
from launcher.remote.wire import image_json
from tests.conftest import Notes
from tests.rootfs import image as image_of

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def image(tmp_path: Path) -> Image:
    entries = [
        {name: Entry(path=name, kind="file", mode=0o644, content=Bytes(name.encode() * 700_000))} for name in "ab"
    ]
    return image_of(Cache(tmp_path / "cache"), entries)


@pytest.fixture
def registry(image: Image) -> Iterator[Registry]:
    with serving(offer(image, SilentTask())) as server:
        yield server


def ask(registry: Registry, path: str, method: str = "GET", **headers: str) -> Answer:
    client = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=30)
    try:
        client.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = client.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        client.close()


def blob(registry: Registry, digest: str) -> str:
    return f"/v2/{registry.offer.secret}/blobs/{digest}"


def test_what_an_engine_asks_for(registry: Registry, image: Image) -> None:
    assert ask(registry, "/v2/")[0] == 200
    for name in ("latest", f"sha256:{sha256_bytes(image.manifest)}"):
        status, headers, body = ask(registry, f"/v2/{registry.offer.secret}/manifests/{name}")
        assert (status, body) == (200, image.manifest)
        assert headers["docker-content-digest"] == f"sha256:{sha256_bytes(image.manifest)}"
        assert headers["content-type"] == "application/vnd.oci.image.manifest.v1+json"
    assert ask(registry, blob(registry, f"sha256:{image.id}"))[2] == image.config
    for layer in image.layers:
        whole = layer.path.read_bytes()
        status, headers, body = ask(registry, blob(registry, f"sha256:{layer.diff_id}"))
        assert (status, body, headers["content-length"]) == (200, whole, str(layer.size))
        status, headers, body = ask(registry, blob(registry, f"sha256:{layer.diff_id}"), "HEAD")
        assert (status, body, headers["content-length"]) == (200, b"", str(layer.size))
        assert headers["etag"] == f'"sha256:{layer.diff_id}"'


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("bytes=0-", 206, 0, None),
        ("bytes=5-9", 206, 5, 10),
        ("bytes=1000-", 206, 1000, None),
        ("bytes=5-99999999999", 206, 5, None),
        ("bytes=1-2,4-5", 200, 0, None),
        ("lines=1-2", 200, 0, None),
        ("bytes=99999999999-", 416, 0, 0),
        ("bytes=9-5", 416, 0, 0),
    ],
)
def test_ranges(registry: Registry, image: Image, asked: str, status: int, start: int, end: int | None) -> None:
    layer = image.layers[0]
    whole = layer.path.read_bytes()
    got, headers, body = ask(registry, blob(registry, f"sha256:{layer.diff_id}"), Range=asked)
    assert (got, body) == (status, whole[start:end])
    if status == 206:
        assert headers["content-range"] == f"bytes {start}-{(end or layer.size) - 1}/{layer.size}"
    other = ask(registry, blob(registry, f"sha256:{layer.diff_id}"), Range="bytes=5-9", If_Range='"another"')
    assert other[2] == whole


@pytest.mark.parametrize("path", ["/", "/v2/x/manifests/latest", "/v2/{}/manifests/other", "/v2/{}/blobs/sha256:0"])
def test_who_does_not_know_finds_nothing(registry: Registry, path: str) -> None:
    status, _, body = ask(registry, path.format(registry.offer.secret))
    assert (status, body) == (404, b"")
    assert registry.asked.is_set() == ("{}" in path)
    layer = next(iter(registry.offer.blobs))
    for secret in ("", "0" * 64, registry.offer.secret[:-1], registry.offer.secret.upper()):
        assert ask(registry, f"/v2/{secret}/blobs/{layer}")[0] == 404 or secret == registry.offer.secret


def test_a_registry_can_only_be_read(registry: Registry, image: Image) -> None:
    for method in ("PUT", "POST", "PATCH", "DELETE"):
        assert ask(registry, blob(registry, f"sha256:{image.id}"), method)[0] == 501


def test_many_at_once(registry: Registry, image: Image) -> None:
    layers = [layer for layer in image.layers for _ in range(8)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda x: ask(registry, blob(registry, f"sha256:{x.diff_id}"))[2], layers))
    assert [sha256_bytes(body) for body in found] == [x.diff_id for x in layers]


def arriving(registry: Registry | None, image: Image, place: Path, traffic: Traffic) -> Arriving:
    source = Source(port=registry.port, secret=registry.offer.secret) if registry else None
    layer = image.layers[0]
    return Arriving(diff_id=layer.diff_id, size=layer.size, shared=str(place), source=source, traffic=traffic)


def read(one: Arriving, start: int = 0) -> bytes:
    return b"".join(one.chunks(start))


def test_a_layer_arrives_once_for_all_who_ask(registry: Registry, image: Image, tmp_path: Path) -> None:
    """And compressed on the way."""
    traffic = Traffic()
    one = arriving(registry, image, tmp_path, traffic)
    starts = [0, 0, 10, 700_000]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda start: read(one, start), starts))
    whole = image.layers[0].path.read_bytes()
    assert found == [whole[start:] for start in starts]
    assert traffic.fetched == one.size == one.have()
    coded = ask(registry, blob(registry, f"sha256:{one.diff_id}"), Accept_Encoding=PIECES)[2]
    assert len(coded) < one.size / 20


def test_a_layer_goes_on_from_what_there_is(registry: Registry, image: Image, tmp_path: Path) -> None:
    traffic = Traffic()
    one = arriving(registry, image, tmp_path, traffic)
    whole = image.layers[0].path.read_bytes()
    one.part.parent.mkdir(parents=True)
    one.part.write_bytes(whole[:500_000])
    assert read(one) == whole
    assert traffic.fetched == one.size - 500_000


def test_what_somebody_else_brings_is_waited_for(image: Image, tmp_path: Path) -> None:
    traffic = Traffic()
    one = arriving(None, image, tmp_path, traffic)
    whole = image.layers[0].path.read_bytes()
    one.part.parent.mkdir(parents=True)
    with one.part.open("wb", buffering=0) as stream, ThreadPoolExecutor(1) as pool:
        fcntl.flock(stream, fcntl.LOCK_EX)
        reading = pool.submit(read, one)
        for at in range(0, len(whole), 300_000):
            stream.write(whole[at : at + 300_000])
            time.sleep(0.01)
        assert reading.result(30) == whole


def test_what_nobody_brings_is_told(image: Image, tmp_path: Path) -> None:
    traffic = Traffic()
    with pytest.raises(OSError, match="is not here"):
        read(arriving(None, image, tmp_path, traffic))
    assert traffic.lacking == {image.layers[0].diff_id} and traffic.over.is_set()


def test_a_source_that_goes_leaves_what_came(image: Image, tmp_path: Path) -> None:
    with serving(offer(image, SilentTask())) as registry:
        traffic = Traffic()
        one = replace(arriving(registry, image, tmp_path, traffic), size=image.layers[0].size + 1)
        with pytest.raises(OSError, match=r"."):
            read(one)
    assert one.part.stat().st_size == image.layers[0].size, "what came is kept"
    gone = replace(one, traffic=Traffic())
    with pytest.raises(OSError, match=r"."):
        read(gone)
    assert "refused" in gone.traffic.lost


def test_what_is_damaged_is_removed(image: Image, tmp_path: Path) -> None:
    one = arriving(None, image, tmp_path, Traffic())
    one.part.parent.mkdir(parents=True)
    one.part.write_bytes(image.layers[0].path.read_bytes())
    assert not one.drop_if_damaged()
    one.part.write_bytes(bytes(one.size))
    assert one.drop_if_damaged() and not one.part.exists()


def test_layers_that_another_image_brings() -> None:
    assert shared("abc", "abd", prefix=True) == ["a", "b"]
    assert shared("xbc", "abc", prefix=True) == []
    assert shared("xbc", "abc", prefix=False) == ["b", "c"]
    assert shared("ab", "abc", prefix=True) == ["a", "b"]
    assert shared("abc", "ab", prefix=True) == ["a", "b"]


def test_an_image_is_known_by_its_layers_and_settings(image: Image) -> None:
    settings = {"Env": ["PATH=/usr/bin:/bin", "OF_IMAGE=yes"], "Cmd": None, "Labels": {}}
    layers = tuple(image.diff_ids)
    assert same(Known(id=f"sha256:{image.id}", layers=layers), image)
    assert same(Known(id="sha256:0", layers=layers, settings=settings), image)
    assert not same(Known(id="sha256:0", layers=layers, settings={**settings, "Cmd": ["sh"]}), image)
    assert not same(Known(id=f"sha256:{image.id}", layers=layers[:1]), image)


def test_patience_is_for_ways_that_were_there() -> None:
    host, tries = parse("box"), list[int]()

    def work() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise LostWayError("cut")
        if len(tries) < 4:
            raise no_way(host, "ssh: connect to host box port 22: Connection refused")
        return "there"

    assert through_cuts(work, SILENT, pause_s=0) == "there"
    assert len(tries) == 4
    for first in (no_way(host, "Connection refused"), TargetError("no")):
        with pytest.raises(LauncherError) as raised:
            through_cuts(raising(first), SILENT, pause_s=0)
        assert raised.value is first
    with pytest.raises(LostWayError):
        through_cuts(raising(LostWayError("for good")), SILENT, patience_s=0.1, pause_s=0.01)
    with pytest.raises(LostWayError):
        through_cuts(raising(LostWayError("for good")), SILENT, lambda: 1, patience_s=0.1, pause_s=0.01)
    tries.clear()

    def refused() -> None:
        tries.append(1)
        raise LostWayError("cut") if len(tries) == 1 else no_way(host, "Host key verification failed.")

    with pytest.raises(TargetError, match="Host key"):
        through_cuts(refused, SILENT, pause_s=0)
    assert len(tries) == 2


def test_a_cut_is_told_once_and_only_where_it_goes_on() -> None:
    notes = Notes()
    for error in (no_way(parse("box"), "Host key verification failed."), TargetError("no")):
        with pytest.raises(TargetError):
            through_cuts(raising(error), notes, pause_s=0)
    assert not notes.said, "nothing was ever connected"
    with pytest.raises(LostWayError):
        through_cuts(raising(LostWayError("for good")), notes, patience_s=0.1, pause_s=0.01)
    assert len(notes.said) == 1


def raising(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def test_what_gets_through_renews_patience() -> None:
    counted, tries = Counting(SILENT), list[float]()

    def work() -> str:
        tries.append(time.monotonic())
        with counted.task("x") as task:
            threading.Event().wait(0.05)
            task.advance(1)
        if len(tries) < 6:
            raise LostWayError("cut")
        return "there"

    assert through_cuts(work, counted, lambda: counted.moved, patience_s=0.12, pause_s=0) == "there"
    assert tries[-1] - tries[0] > 0.12


def test_an_engine_is_asked_by_its_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Image) -> None:
    told = {"Id": f"sha256:{image.id}", "RootFS": {"Layers": image.diff_ids}, "RepoTags": [image.tag], "Config": {}}
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine")
    assert peek(image.tag) is None, "nobody answers"
    with engine(tmp_path / "engine", {f"/images/{image.tag}/json": told}):
        assert peek("other:1") is None
        assert look({"runtime": "docker", "image": json.loads(json.dumps(image_json(image)))}) == {"there": True}
        monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
        assert peek(image.tag) is None


@contextmanager
def engine(path: Path, answers: dict[str, object]) -> Iterator[None]:
    class Engine(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in answers else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answers.get(self.path, {})).encode())

        def log_message(self, format: str, *args: object) -> None: ...

    class Server(socketserver.UnixStreamServer):
        def get_request(self) -> tuple[Any, Any]:
            return self.socket.accept()[0], ("engine", 0)

    with Server(str(path), Engine) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield
        server.shutdown()
        thread.join()
