"""Inputs from the web and from `.dvc` files: read once, resumed, checked, and no secret told."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from launcher import spec as specs
from launcher.cache import Cache
from launcher.cli.inputs import code_of, recalled, remember
from launcher.code import snapshot
from launcher.errors import FetchError, IntegrityError, SpecError, Where
from launcher.inputs import Fit, pin, stage
from launcher.inputs.check import compare
from launcher.inputs.dvc_config import address
from launcher.inputs.shelf import Shelf
from launcher.inputs.web import Web
from launcher.progress import SILENT
from launcher.spec.model import DataSpec

DATA = bytes(range(256)) * 4000


class Site:
    """A web server with one file: what it tells of it, and what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.data = DATA
        self.headers = {"ETag": '"v1"'}
        self.cut: int | None = None  # after so many bytes of one answer it hangs up
        self.asked: list[str] = []
        self.sent = 0


class Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        return

    def do_GET(self) -> None:
        site, start = self.site, 0
        site.asked.append(f"{self.path} {self.headers.get('Range', '')}".strip())
        if not self.path.startswith("/data.tar"):
            self.answer(404, {}, b"")
            return
        if (said := self.headers.get("Range")) and self.headers.get("If-Range") == site.headers.get("ETag"):
            start = int(said.removeprefix("bytes=").rstrip("-"))
        body = site.data[start:]
        told = {**site.headers, "Content-Length": str(len(body))}
        if start:
            told["Content-Range"] = f"bytes {start}-{len(site.data) - 1}/{len(site.data)}"
        if site.cut is not None:
            body, site.cut = body[: site.cut], None
            self.close_connection = True
        self.answer(206 if start else 200, told, body)

    def answer(self, code: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
            self.site.sent += len(body)
        except OSError:  # it read the headers only
            self.close_connection = True


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"site": made}))
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # they hang up early
    made.url = f"http://127.0.0.1:{server.server_port}/data.tar"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LAUNCHER_INPUTS", "LAUNCHER_INPUTS_MAX", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


# The web


def test_a_file_of_the_web_is_read_once_and_stays_packed(site: Site, cache: Cache) -> None:
    source = DataSpec(name="d", url=site.url)
    pinned = pin(source, cache)
    assert (pinned.kind, pinned.size, pinned.sha256) == ("file", len(DATA), hashlib.sha256(DATA).hexdigest())
    staged = stage(pinned, source, cache)
    assert staged.path.read_bytes() == DATA
    assert not any("Range" in line for line in site.asked) and len(site.asked) == 2
    assert pin(source, cache) == pinned and len(site.asked) == 3, "its headers are asked for, its bytes aren't"


def test_a_cut_file_goes_on_where_it_was(site: Site, cache: Cache) -> None:
    source, shelf = DataSpec(name="d", url=site.url), Shelf.of(cache)
    part = shelf.part("web-" + hashlib.sha256(site.url.encode()).hexdigest())
    part.write_bytes(DATA[:500_000])  # what a command left that was killed
    part.with_suffix(".mark").write_text(json.dumps(["etag", '"v1"', len(DATA)]))
    assert pin(source, cache).sha256 == hashlib.sha256(DATA).hexdigest()
    assert site.asked[-1] == "/data.tar bytes=500000-"
    assert not list((shelf.root / "partial").iterdir())


def test_a_part_of_another_version_is_begun_anew(site: Site, cache: Cache) -> None:
    part = Shelf.of(cache).part("web-" + hashlib.sha256(site.url.encode()).hexdigest())
    part.write_bytes(b"old" * 1000)
    part.with_suffix(".mark").write_text(json.dumps(["etag", '"v0"', len(DATA)]))
    assert pin(DataSpec(name="d", url=site.url), cache).sha256 == hashlib.sha256(DATA).hexdigest()


def test_a_connection_that_is_cut_is_opened_again(site: Site, cache: Cache) -> None:
    web = Web("d", site.url)
    [item] = web.items()
    site.cut = 300_000
    from launcher.inputs.gather import Inbox
    from launcher.progress import SilentTask

    inbox = Inbox(Shelf.of(cache), SilentTask())
    web.bring([item], inbox)
    assert inbox.found[""].sha256 == hashlib.sha256(DATA).hexdigest()
    assert site.asked[-1] == "/data.tar bytes=300000-"


def test_a_changed_file_is_refused(site: Site, cache: Cache) -> None:
    source = DataSpec(name="d", url=site.url)
    pinned = pin(source, cache)
    site.data, site.headers = b"other", {"ETag": '"v2"'}
    other = Cache(cache.root.with_name("other"))
    with pytest.raises(IntegrityError, match=r"changed: the file \(1024000 bytes, now 5\)"):
        stage(pinned, source, other)
    site.data = DATA[:-1] + b"!"
    with pytest.raises(IntegrityError, match=r"\n  changed: the file"):
        stage(pinned, source, other)


def test_a_file_that_is_not_there(site: Site, cache: Cache) -> None:
    with pytest.raises(FetchError, match="there is nothing at"):
        pin(DataSpec(name="d", url=site.url.replace("data.tar", "no")), cache)


def test_a_source_that_is_gone_leaves_the_lock_alone(site: Site, cache: Cache) -> None:
    pinned = pin(DataSpec(name="d", url=site.url), cache)
    found, place = Fit(), DataSpec(name="d", url=site.url.replace("data.tar", "no"))
    compare(found, pinned, place, Where(file="a"), cache, SILENT)
    assert not found.changed and "there is nothing at" in found.unknown[0]
    assert stage(pinned, place, cache).origin == "cache"


def test_a_signed_url_is_told_to_nobody(site: Site, cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    source = DataSpec(name="d", url=site.url + "?X-Amz-Signature=verysecret&X-Amz-Expires=60")
    with caplog.at_level(logging.INFO):
        staged = stage(pin(source, cache), source, cache)
    assert "127.0.0.1" in caplog.text and "verysecret" not in caplog.text
    remember(cache, "0" * 64, source)
    assert recalled(cache, "d", "0" * 64) is None
    kept = b"".join(path.read_bytes() for path in cache.root.rglob("*") if path.is_file() and path != staged.path)
    assert b"verysecret" not in kept
    with pytest.raises(FetchError) as caught:
        pin(DataSpec(name="d", url=site.url.replace("data", "no") + "?sig=verysecret"), cache)
    assert "verysecret" not in str(caught.value)
    asked = len(site.asked)
    pin(DataSpec(name="d", url=site.url + "?X-Amz-Signature=another"), cache)
    assert site.asked[asked:] == ["/data.tar?X-Amz-Signature=another"], "signed anew, it is the same file"


# DVC


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def repository(root: Path, files: dict[str, bytes], *, legacy: bool = False) -> tuple[Path, Path]:
    """Write a `.dvc` file for a folder, and its contents into DVC's cache; return the file and the cache."""
    unix = {name: data.replace(b"\r\n", b"\n") if legacy else data for name, data in files.items()}
    rows = [{"md5": md5(data), "relpath": name} for name, data in sorted(unix.items())]
    listing = json.dumps(rows).encode()
    cache = root / ".dvc" / "cache" / ("" if legacy else "files/md5")
    for digest, data in [(md5(unix[name]), files[name]) for name in files] + [(md5(listing) + ".dir", listing)]:
        (cache / digest[:2]).mkdir(parents=True, exist_ok=True)
        (cache / digest[:2] / digest[2:]).write_bytes(data)
    pinned = root / "sub" / "data.dvc"
    pinned.parent.mkdir(exist_ok=True)
    hashed = "" if legacy else "  hash: md5\n"
    pinned.write_text(f"outs:\n- md5: {md5(listing)}.dir\n  size: 9\n  nfiles: {len(files)}\n{hashed}  path: data\n")
    return pinned, cache


FILES = {"a.txt": b"one\r\n", "b/c.bin": b"\x00\r\n\x01", "b/d": b""}


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("legacy", [False, True], ids=["dvc 3", "dvc 2"])
def test_dvc_cache_beside_and_folder_give_one_digest(cache: Cache, tmp_path: Path, legacy: bool) -> None:
    files = {name: data for name, data in FILES.items() if not legacy or b"\0" not in data}
    pinned_by, _ = repository(tmp_path / "repo", files, legacy=legacy)
    source = DataSpec(name="d", path=pinned_by)
    pinned = pin(source, cache)
    assert pinned == pin(DataSpec(name="d", path=lay(tmp_path / "same", files)), cache)
    staged = stage(pinned, source, cache)
    assert {
        p.relative_to(staged.path).as_posix(): p.read_bytes() for p in staged.path.rglob("*") if p.is_file()
    } == files
    lay(pinned_by.parent / "data", files)  # `dvc checkout`
    beside = stage(pin(source, cache), source, cache)
    assert (beside.origin, beside.path) == ("place", pinned_by.parent / "data")


def test_what_lies_beside_must_be_what_is_pinned(cache: Cache, tmp_path: Path) -> None:
    pinned_by, _ = repository(tmp_path / "repo", FILES)
    lay(pinned_by.parent / "data", {**FILES, "a.txt": b"two"})
    with pytest.raises(IntegrityError, match=r"is not what data.dvc pins(.|\n)*dvc checkout"):
        pin(DataSpec(name="d", path=pinned_by), cache)


def test_a_damaged_or_missing_content_of_dvc(cache: Cache, tmp_path: Path) -> None:
    pinned_by, kept = repository(tmp_path / "repo", FILES)
    digest = md5(FILES["a.txt"])
    (kept / digest[:2] / digest[2:]).write_bytes(b"!")
    with pytest.raises(IntegrityError, match=f"{digest} is pinned"):
        pin(DataSpec(name="d", path=pinned_by), cache)
    (kept / digest[:2] / digest[2:]).unlink()
    with pytest.raises(FetchError, match=r"in no cache or remote of DVC(.|\n)*dvc pull"):
        pin(DataSpec(name="d", path=pinned_by), cache)


def test_one_file_of_dvc(cache: Cache, tmp_path: Path) -> None:
    root = tmp_path / "repo"
    (root / ".dvc").mkdir(parents=True)
    (root / "w.bin").write_bytes(b"weights")
    pinned_by = root / "w.bin.dvc"
    pinned_by.write_text(f"outs:\n- md5: {md5(b'weights')}\n  size: 7\n  hash: md5\n  path: w.bin\n")
    pinned = pin(DataSpec(name="d", path=pinned_by), cache)
    assert (pinned.kind, pinned.sha256) == ("file", hashlib.sha256(b"weights").hexdigest())


@pytest.mark.parametrize("text", ["", "outs: []", "outs: [{path: a}]", "outs: [{md5: x, path: a}]", "a: [", "- 1"])
def test_what_is_no_pin(cache: Cache, tmp_path: Path, text: str) -> None:
    (tmp_path / "a.dvc").write_text(text)
    with pytest.raises(SpecError, match=r"a.dvc"):
        pin(DataSpec(name="d", path=tmp_path / "a.dvc"), cache)


def test_remotes_in_our_words(tmp_path: Path) -> None:
    assert address("s3://b/x", tmp_path) == "s3://b/x"
    assert address("azure://c/x", tmp_path) == "az://c/x"
    assert address("../../far", tmp_path / "a" / "b") == str(tmp_path / "far")
    with pytest.raises(SpecError, match="dvc pull"):
        address("ssh://host/x", tmp_path)


def test_a_spec_with_a_signed_url_is_no_code(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "train.py").write_text("")
    text = "name: a\nrun: python train.py\ndata:\n  w: https://example.org/w?X-Amz-Signature={}\n"
    found = set()
    for signature in ("abc", "def"):
        (tmp_path / "my spec!.yaml").write_text(text.format(signature))
        spec = specs.load(tmp_path / "my spec!.yaml")
        code = snapshot(code_of(spec, SILENT), cache)
        assert code.files == 1
        assert signature.encode() not in code.archive.read_bytes()
        found.add(code.digest)
    assert len(found) == 1
    (tmp_path / "my spec!.yaml").write_text(text.format("x").replace("X-Amz-Signature", "version"))
    assert snapshot(code_of(specs.load(tmp_path / "my spec!.yaml"), SILENT), cache).files == 2
