"""What of a run nothing counts on is named, with a reason; what counts is never touched, nor a run under way."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from launcher import store as stores
from launcher.digest import sha256_bytes
from launcher.records import leftovers, sweeping
from launcher.runner.clock import stamp
from launcher.store import keys
from launcher.store.access import Access
from launcher.store.objects import Store
from launcher.store.uploads import Uploads

RUN = "20260101-000000-a-abcdef"
NONE, DAY = timedelta(0), timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return stores.open(str(tmp_path / "store"))


def blob(store: Store, data: bytes, mark: str = "") -> dict[str, object]:
    store.put(keys.blob(RUN, sha256_bytes(data), mark), data)
    return {"path": "model", "mode": "0644", "size": len(data), "sha256": sha256_bytes(data), "mark": mark}


def manifest(store: Store, attempt: int, seq: int, *files: dict[str, object]) -> str:
    key = keys.checkpoint(RUN, attempt, seq)
    store.create(key, json.dumps({"name": "c", "kind": "file", "files": files}).encode())
    return key


def claim(store: Store, epoch: int, attempt: int, inherits: list[str]) -> None:
    told = {"epoch": epoch, "attempt": attempt, "owner": "x", "host": "h", "time": stamp(), "inherits": inherits}
    store.create(keys.claim(RUN, epoch), json.dumps(told).encode())


def event(store: Store, attempt: int, seq: int, kind: str, **facts: object) -> None:
    told = {"kind": kind, "time": stamp(), "attempt": attempt, "seq": seq, **facts}
    store.create(keys.event(RUN, attempt, seq), json.dumps(told).encode())


def begun(store: Store, attempt: int = 1, ended: bool = True) -> None:
    if not store.exists(keys.job(RUN)):
        store.create(keys.job(RUN), json.dumps({"run": RUN}).encode())
    event(store, attempt, 0, "queued", who="me")
    event(store, attempt, 1, "started", runner="1")
    if ended:
        event(store, attempt, 2, "ended", by="client", code=None, signal=None, reason="it was killed")


def names(found: tuple[leftovers.Leftover, ...]) -> dict[str, str]:
    return {one.key: one.why for one in found}


def test_what_no_manifest_names_is_named(store: Store) -> None:
    begun(store)
    kept, orphan = blob(store, b"kept"), blob(store, b"orphan")
    again = blob(store, b"kept", "2-0")
    manifest(store, 1, 0, kept, {"path": "link", "link": "model"})
    store.put(keys.output(RUN, 1, "half.txt"), b"1")
    found = names(leftovers.named(store, RUN))
    assert found == {
        keys.blob_of(RUN, orphan): "a checkpoint's file that no manifest names",
        keys.blob_of(RUN, again): "a checkpoint's file that no manifest names",
        keys.output(RUN, 1, "half.txt"): "an output that no manifest names",
    }


def test_outputs_of_a_manifest_are_kept_others_beside_it_are_not(store: Store) -> None:
    begun(store)
    for name in ("a b", "left"):
        store.put(keys.output(RUN, 1, name), b"1")
    store.put(keys.output(RUN, 2, "a b"), b"1")
    store.put(keys.output_manifest(RUN, 1), json.dumps({"files": [{"path": "a b"}]}).encode())
    assert list(names(leftovers.named(store, RUN))) == [keys.output(RUN, 1, "left"), keys.output(RUN, 2, "a b")]


def test_a_late_manifest_of_an_older_attempt_goes_with_its_blobs(store: Store) -> None:
    begun(store)
    begun(store, 2)
    first = manifest(store, 1, 0, blob(store, b"first"))
    late = manifest(store, 1, 1, blob(store, b"late"))
    mine = manifest(store, 2, 0, blob(store, b"mine"), blob(store, b"first"))
    claim(store, 1, 1, [])
    claim(store, 2, 2, [first])
    found = names(leftovers.named(store, RUN))
    assert set(found) == {late, keys.blob(RUN, sha256_bytes(b"late"))}
    assert "another attempt had taken over" in found[late]
    removed = leftovers.remove(store, RUN, NONE)
    assert {one.key for one in removed} == set(found)
    assert leftovers.named(store, RUN) == () and store.exists(first) and store.exists(mine)


def test_what_a_record_names_stays(store: Store) -> None:
    begun(store)
    late = manifest(store, 1, 0, blob(store, b"late"))
    claim(store, 1, 2, [])
    store.put(keys.record(RUN), json.dumps({"checkpoints": [{"key": late}], "outputs": None}).encode())
    assert leftovers.named(store, RUN) == ()


def test_with_a_damaged_manifest_nothing_is_deleted(store: Store) -> None:
    begun(store)
    blob(store, b"whose")
    store.put(keys.checkpoint(RUN, 1, 0), b'{"files": [')
    assert leftovers.named(store, RUN) == ()


def test_a_run_under_way_is_left_alone_and_a_silent_one_is_not(store: Store) -> None:
    begun(store, ended=False)
    blob(store, b"on its way")
    assert len(leftovers.named(store, RUN)) == 1
    now = datetime.now(timezone.utc)
    assert leftovers.removable(store, RUN, NONE, now + timedelta(seconds=-1)) == ()
    assert leftovers.removable(store, RUN, timedelta(hours=1), now) == (), "too young"
    assert len(leftovers.removable(store, RUN, timedelta(hours=1), now + timedelta(hours=2))) == 1, "silent for hours"
    event(store, 1, 2, "closed", missing=[])
    assert len(leftovers.removable(store, RUN, NONE, now + timedelta(seconds=9))) == 1


def test_a_next_attempt_that_is_queued_counts_as_under_way(store: Store) -> None:
    begun(store)
    orphan = blob(store, b"orphan")
    now = store.now() + timedelta(minutes=1)
    assert [one.key for one in leftovers.removable(store, RUN, timedelta(seconds=30), now)] == [
        keys.blob_of(RUN, orphan)
    ]
    later = {"kind": "queued", "time": stamp(int(now.timestamp() * 1e9)), "attempt": 2, "seq": 0}
    store.create(keys.event(RUN, 2, 0), json.dumps(later).encode())
    assert leftovers.removable(store, RUN, timedelta(seconds=30), now) == ()


def old(path: Path) -> None:
    then = path.stat().st_mtime - 2 * 86400
    os.utime(path, (then, then))


def test_what_no_listing_shows_is_found_and_deleted(store: Store, tmp_path: Path) -> None:
    begun(store)
    folder = Path(store.folder or "")
    killed, fresh = folder / f"{keys.blob(RUN, 'a' * 64)}#1", folder / f"{keys.job(RUN)}#23"
    for path in (killed, fresh):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    old(killed)
    for day in (1, 2, 3):
        store.put(keys.snapshot(f"2026-01-0{day}T00:00:00.000000Z"), b"s")
        old(folder / keys.snapshot(f"2026-01-0{day}T00:00:00.000000Z"))
    for run in (RUN, "20250101-000000-gone-abcdef"):
        store.put(keys.journal("2026-01-01T00:00:00.000000Z", 1, run), b"")
        old(folder / keys.journal("2026-01-01T00:00:00.000000Z", 1, run))
    store.put(keys.checks("x") + "big", b"1")
    old(folder / (keys.checks("x") + "big"))
    found = sweeping.look(store, DAY)
    assert {one.why for one in found} == {
        "a file whose writer was killed",
        "what a `launcher store check` that was killed had written",
        "a snapshot that newer ones have replaced",
        "the journal's entry of a run that is gone",
    }
    assert len(found) == 4
    assert set(sweeping.clear(store, found, DAY)) == set(found)
    assert sweeping.look(store, DAY) == () and fresh.exists() and not killed.exists()
    assert store.exists(keys.job(RUN)) and len(store.list(keys.snapshot())) == 2


def test_a_file_that_a_living_run_is_writing_stays(store: Store) -> None:
    begun(store, ended=False)
    told = {"kind": "started", "time": stamp(int((store.now().timestamp() + 3600) * 1e9)), "attempt": 1, "seq": 3}
    store.create(keys.event(RUN, 1, 3), json.dumps(told).encode())
    half = Path(store.folder or "") / f"{keys.blob(RUN, 'a' * 64)}#1"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    assert sweeping.look(store, NONE) == ()
    event(store, 1, 2, "closed", missing=[])
    assert [one.kind for one in sweeping.look(store, NONE)] == ["file"]


def test_one_run_alone_can_be_swept(store: Store) -> None:
    begun(store)
    orphan = blob(store, b"orphan")
    store.put(keys.run("other") + "blobs/sha256/aa/" + "a" * 64, b"1")
    found = sweeping.look(store, NONE, only=[RUN])
    assert [one.key for one in found] == [keys.blob_of(RUN, orphan)]
    assert len(sweeping.look(store, NONE)) == 2, "a run of which nothing but a blob was written counts too"
    assert sweeping.clear(store, found, NONE) == found


def test_a_request_is_signed_as_amazon_shows() -> None:
    """The example "GET Bucket Lifecycle" of "Signature Calculations for the Authorization Header" in Amazon's
    reference of S3's API."""
    access = Access("s3://examplebucket", {"region": "us-east-1"})
    secrets = {
        "access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    }
    uploads = Uploads(access, secrets)
    assert uploads.base() == "https://examplebucket.s3.us-east-1.amazonaws.com"
    then = datetime(2013, 5, 24, tzinfo=timezone.utc)
    signed = uploads.signed("GET", "https://examplebucket.s3.amazonaws.com/?lifecycle=", then)
    expected = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    assert signed["authorization"].endswith(f"Signature={expected}")


def test_where_a_bucket_is_asked() -> None:
    secrets = {"access_key_id": "a", "secret_access_key": "b"}
    by_path = Uploads(Access("s3://bucket/below/here/", {"endpoint": "http://127.0.0.1:9000/"}), secrets)
    assert (by_path.base(), by_path.prefix) == ("http://127.0.0.1:9000/bucket", "below/here/")
    by_host = Uploads(Access("s3://b", {"endpoint": "https://s3.example.org", "style": "virtual"}), secrets)
    assert (by_host.base(), by_host.prefix) == ("https://b.s3.example.org", "")
