"""A mirror over HTTP: what a warm lock costs, keys in every notation, replays, and .debs as artifacts."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import FetchError, IntegrityError, LauncherError
from launcher.fetch import fetch
from launcher.indexes.apt import AptConfig
from launcher.indexes.apt_format import parse_sources
from launcher.indexes.apt_source import AptMirror
from launcher.indexes.apt_suite import Suite, open_suite
from launcher.lock.model import Deb
from tests.conftest import Notes
from tests.debian_mirror import BASE, Handler, MirrorTree, Signer, package, serving


@pytest.fixture
def tree(tmp_path: Path, signer: Signer) -> MirrorTree:
    return MirrorTree(tmp_path / "mirror", signer)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.indexes.apt_web.PAUSE_S", 0)


def write_sources(work: Path, root: str, signed_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"Types: deb\nURIs: {root}\nSuites: bookworm\nComponents: main\nSigned-By: {signed_by}\n"
    (work / "mirror.sources").write_text(text)
    monkeypatch.setenv("LAUNCHER_APT_SOURCES", str(work / "mirror.sources"))


def read_suite(work: Path, notes: Notes | None = None) -> dict[str, str]:
    suite: Suite = open_suite("bookworm", "amd64", Cache(work / "cache"), notes or Notes())
    found = {name: max(p.version for p in index.named(name)) for index in suite.indexes for name in index.names()}
    for index in suite.indexes:
        index.close()
    return found


def test_a_second_look_costs_small_questions_only(
    tree: MirrorTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.publish(BASE)
    (tmp_path / "keys.gpg").write_bytes(tree.signer.public())
    with serving(tree.root) as (url, seen):
        write_sources(tmp_path, url, str(tmp_path / "keys.gpg"), monkeypatch)
        first = read_suite(tmp_path)
        assert ("/dists/bookworm/main/binary-amd64/Packages.gz", 200) in seen
        seen.clear()
        monkeypatch.setenv("PATH", "")  # gpgv isn't asked again either
        assert read_suite(tmp_path) == first
    asked = {entry for entry in seen if "bookworm-updates" not in entry[0]}
    assert asked == {("/dists/bookworm/InRelease", 304)}


def test_a_server_without_validators_costs_no_more_than_the_release(
    tree: MirrorTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful(Handler):
        def send_header(self, keyword: str, value: str) -> None:
            if keyword != "Last-Modified":
                super().send_header(keyword, value)

    tree.publish(BASE)
    (tmp_path / "keys.gpg").write_bytes(tree.signer.public())
    with serving(tree.root, Forgetful) as (url, seen):
        write_sources(tmp_path, url, str(tmp_path / "keys.gpg"), monkeypatch)
        first = read_suite(tmp_path)
        seen.clear()
        monkeypatch.setenv("PATH", "")
        assert read_suite(tmp_path) == first
    assert {entry for entry in seen if "bookworm-updates" not in entry[0]} == {("/dists/bookworm/InRelease", 200)}


def test_other_keys_mean_another_look_at_the_signature(
    tree: MirrorTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.publish(BASE)
    (tmp_path / "keys.gpg").write_bytes(tree.signer.public())
    write_sources(tmp_path, f"file://{tree.root}", str(tmp_path / "keys.gpg"), monkeypatch)
    read_suite(tmp_path)
    stranger = Signer.make(tmp_path / "stranger", "stranger")
    (tmp_path / "keys.gpg").write_bytes(stranger.public())
    stranger.stop()
    with pytest.raises(FetchError, match="signed by a key that is not known here"):
        read_suite(tmp_path)


@pytest.mark.parametrize("notation", ["binary", "armoured", "inline", "fingerprint", "two-files"])
def test_keys_in_every_notation(
    notation: str, tree: MirrorTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.publish(BASE)
    (tmp_path / "keys.gpg").write_bytes(tree.signer.public())
    (tmp_path / "keys.asc").write_bytes(tree.signer.public(armour=True))
    block = tree.signer.public(armour=True).decode().splitlines()
    signed_by = {
        "binary": f"{tmp_path}/keys.gpg",
        "armoured": f"{tmp_path}/keys.asc",
        "inline": "".join(f"\n {line or '.'}" for line in block),
        "fingerprint": f"{tmp_path}/keys.gpg {tree.signer.fingerprint()}",
        "two-files": f"{tmp_path}/keys.asc, {tmp_path}/keys.gpg",
    }[notation]
    write_sources(tmp_path, f"file://{tree.root}", signed_by, monkeypatch)
    assert "python3" in read_suite(tmp_path)


def test_a_fingerprint_narrows_the_keys(tree: MirrorTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.publish(BASE)
    (tmp_path / "keys.gpg").write_bytes(tree.signer.public())
    write_sources(tmp_path, f"file://{tree.root}", f"{tmp_path}/keys.gpg {'A' * 40}", monkeypatch)
    with pytest.raises(FetchError, match="no valid signature"):
        read_suite(tmp_path)


def test_release_with_a_detached_signature(tree: MirrorTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.publish(BASE, detached=True)
    (tmp_path / "keys.gpg").write_bytes(tree.signer.public())
    write_sources(tmp_path, f"file://{tree.root}", f"{tmp_path}/keys.gpg", monkeypatch)
    assert "python3" in read_suite(tmp_path)
    release = tree.root / "dists" / "bookworm" / "Release"
    release.write_bytes(release.read_bytes().replace(b"amd64", b"arm64", 1))
    with pytest.raises(FetchError, match="changed after it was signed"):
        read_suite(tmp_path)


def test_an_old_index_does_not_come_back(tree: MirrorTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys.gpg").write_bytes(tree.signer.public())
    write_sources(tmp_path, f"file://{tree.root}", f"{tmp_path}/keys.gpg", monkeypatch)
    tree.publish([*BASE, package("safe", "2")])
    assert read_suite(tmp_path)["safe"] == "2"
    tree.publish([*BASE, package("safe", "1")], date=datetime.now(timezone.utc) - timedelta(days=3))
    notes = Notes()
    assert read_suite(tmp_path, notes)["safe"] == "2"
    assert any("has gone back from" in said for said in notes.said)
    tree.publish([*BASE, package("safe", "3")])
    assert read_suite(tmp_path)["safe"] == "3"


def test_an_expired_index_where_the_source_says_so(
    tree: MirrorTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.publish(BASE, date=datetime.now(timezone.utc) - timedelta(days=30), valid_days=7)
    (tmp_path / "keys.gpg").write_bytes(tree.signer.public())
    signed_by = f"{tmp_path}/keys.gpg\nCheck-Valid-Until: no"
    write_sources(tmp_path, f"file://{tree.root}", signed_by, monkeypatch)
    notes = Notes()
    assert "python3" in read_suite(tmp_path, notes)
    assert any("expired on" in said for said in notes.said)


def test_an_expired_index_is_not_saved_by_the_cache(
    tree: MirrorTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys.gpg").write_bytes(tree.signer.public())
    write_sources(tmp_path, f"file://{tree.root}", f"{tmp_path}/keys.gpg", monkeypatch)
    tree.publish(BASE, valid_days=7)
    read_suite(tmp_path)

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(timezone.utc) + timedelta(days=8)

    monkeypatch.setattr("launcher.indexes.apt_release.datetime", Later)
    with pytest.raises(FetchError, match="no longer vouched for"):
        read_suite(tmp_path)


def test_somebody_elses_repository_is_left_alone(
    tree: MirrorTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.publish(BASE)
    other = MirrorTree(tmp_path / "other", tree.signer)
    other.publish([package("python3", "99")], Origin="Somebody")
    (tmp_path / "keys.gpg").write_bytes(tree.signer.public())
    roots = f"file://{other.root} file://{tree.root}"
    write_sources(tmp_path, roots, f"{tmp_path}/keys.gpg", monkeypatch)
    assert read_suite(tmp_path)["python3"] == "3.11.2-1+b1"


def test_a_damaged_database_is_made_again(tree: MirrorTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.publish(BASE)
    (tmp_path / "keys.gpg").write_bytes(tree.signer.public())
    write_sources(tmp_path, f"file://{tree.root}", f"{tmp_path}/keys.gpg", monkeypatch)
    first = read_suite(tmp_path)
    files = [p for p in (tmp_path / "cache" / "artifacts").rglob("*") if p.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:100] + b"\0" * 50)
    assert read_suite(tmp_path) == first


def deb_of(tree: MirrorTree, name: str = "git") -> Deb:
    tree.publish([*BASE, package(name, "1:2.39-1")])
    path = next((tree.root / "pool").rglob(f"{name}_*.deb"))
    data = path.read_bytes()
    return Deb(
        name=name,
        version="1:2.39-1",
        filename=path.name,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        architecture="amd64",
        group="apt",
        pool=str(path.relative_to(tree.root)),
    )


def mirror_of(*roots: str) -> AptMirror:
    text = "".join(f"deb {root} bookworm main\n" for root in roots)
    return AptMirror(AptConfig(entries=parse_sources(text, "a.list")))


def test_a_deb_comes_from_the_first_root_that_has_it(tree: MirrorTree, tmp_path: Path) -> None:
    deb = deb_of(tree)
    (tmp_path / "empty").mkdir()
    with serving(tmp_path / "empty") as (empty, _), serving(tree.root) as (full, seen):
        paths = fetch([deb], Cache(tmp_path / "cache"), [mirror_of("http://127.0.0.1:1", empty, full)])
    assert paths[deb.sha256].stat().st_size == deb.size
    assert seen == [(f"/{deb.pool}", 200)]


def test_a_deb_with_other_bytes_is_refused(tree: MirrorTree, tmp_path: Path) -> None:
    deb = deb_of(tree)
    (tree.root / deb.pool).write_bytes(b"!<arch>\n" + b"x" * (deb.size - 8))
    with serving(tree.root) as (url, _), pytest.raises(IntegrityError):
        fetch([deb], Cache(tmp_path / "cache"), [mirror_of(url)])


def test_a_deb_that_is_nowhere(tree: MirrorTree, tmp_path: Path) -> None:
    deb = deb_of(tree)
    (tree.root / deb.pool).unlink()
    with serving(tree.root) as (url, _), pytest.raises(LauncherError, match="git"):
        fetch([deb], Cache(tmp_path / "cache"), [mirror_of(url)])


def test_a_cut_download_goes_on(tree: MirrorTree, tmp_path: Path) -> None:
    deb = deb_of(tree)
    data = (tree.root / deb.pool).read_bytes()

    class Cutting(Handler):
        def do_GET(self) -> None:  # noqa: N802
            begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(data) - begin))
            self.end_headers()
            self.wfile.write(data[begin : begin + 300] if not begin else data[begin:])

    with serving(tree.root, Cutting) as (url, seen), mirror_of(url).open(deb) as stream:
        assert stream is not None
        parts = list(iter(lambda: stream.read(256), b""))
    assert b"".join(parts) == data
    assert [status for _, status in seen] == [200, 206]
