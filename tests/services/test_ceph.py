"""Ceph's radosgw keeps the promises that a mock can't show: one winner of a race, refused secrets, whole multiparts.

With LAUNCHER_HEAVY=1. Every other test of tests/services that asks for `s3` runs over it with LAUNCHER_TEST_S3=ceph.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import store as stores
from launcher.access.narrowing import for_run
from launcher.digest import sha256_bytes
from launcher.errors import AccessError, ObjectExistsError, ObjectMissingError
from launcher.store.access import Access
from launcher.store.objects import Store
from tests.object_stores import ObjectStore, empty, forget_settings, new_bucket
from tests.services.test_never_lose import kill_over_and_over

pytestmark = [pytest.mark.services, pytest.mark.heavy]
RACERS, RACES = 8, 25


@pytest.fixture
def ceph_s3(ceph_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A fresh bucket on Ceph."""
    forget_settings(monkeypatch)
    store = new_bucket(ceph_server)
    yield store
    empty(store)


def opened(place: ObjectStore, folder: Path) -> Store:
    return stores.open(Access(place.url, place.settings, str(place.write_secrets(folder / "secrets.json"))))


def test_a_race_of_conditional_creates_has_one_winner(ceph_s3: ObjectStore, tmp_path: Path) -> None:
    ways = [opened(ceph_s3, tmp_path) for _ in range(RACERS)]
    for race in range(RACES):
        won: list[int] = []
        gate = threading.Barrier(RACERS)

        def create(racer: int, key: str, gate: threading.Barrier, won: list[int]) -> None:
            gate.wait()
            try:
                ways[racer].create(key, b"%d" % racer)
                won.append(racer)
            except ObjectExistsError:
                pass

        threads = [threading.Thread(target=create, args=(r, f"claims/{race}", gate, won)) for r in range(RACERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1 and ways[0].get(f"claims/{race}") == b"%d" % won[0]


def test_a_wrong_secret_is_refused(ceph_s3: ObjectStore, tmp_path: Path) -> None:
    wrong = opened(replace(ceph_s3, secret="wrong/secret"), tmp_path)
    with pytest.raises(AccessError) as told:
        wrong.put("a", b"x")
    assert "wrong/secret" not in str(told.value) and ceph_s3.bucket in str(told.value)


@pytest.mark.parametrize("megabytes", [1, 40])
def test_files_go_up_and_come_down_whole(ceph_s3: ObjectStore, tmp_path: Path, megabytes: int) -> None:
    store, data = opened(ceph_s3, tmp_path), secrets.token_bytes(megabytes << 20)
    (tmp_path / "up").write_bytes(data)
    store.put_file("a/b", tmp_path / "up")
    store.get_file("a/b", tmp_path / "down", sha256=sha256_bytes(data))
    assert (tmp_path / "down").read_bytes() == data
    assert store.size("a/b") == len(data) and store.get_range("a/b", 9 << 16, 1000) == data[9 << 16 :][:1000]
    assert not ceph_s3.client().list_multipart_uploads(Bucket=ceph_s3.bucket).get("Uploads")


def test_it_tells_its_clock_and_lists_what_comes_after_a_key(ceph_s3: ObjectStore, tmp_path: Path) -> None:
    store = opened(ceph_s3, tmp_path)
    store.put_many((f"k/{number:04d}", b"x") for number in range(1200))
    keys = [entry.key for entry in store.list("k/")]
    assert len(keys) == 1200 and keys == sorted(keys)
    assert [entry.key for entry in store.list("k/", after="k/1197")] == ["k/1198", "k/1199"]
    assert abs((store.now() - store.list("k/", after="k/1198")[0].modified).total_seconds()) < 60


@pytest.mark.slow
def test_kills_lose_nothing_that_was_committed(ceph_server: ObjectStore, ceph_s3: ObjectStore, tmp_path: Path) -> None:
    kill_over_and_over(tmp_path, ceph_server, kills=30)


@pytest.fixture
def role(ceph_s3: ObjectStore) -> Iterator[str]:
    """A role that may do everything in all buckets, and that the tests' user may assume."""
    iam, name = ceph_s3.client("iam"), f"runs-{secrets.token_hex(4)}"
    version = {"Version": "2012-10-17"}
    trust = {"Effect": "Allow", "Action": ["sts:AssumeRole"], "Principal": {"AWS": ["arn:aws:iam:::user/tests"]}}
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(version | {"Statement": [trust]}))
    rights = {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*"}
    policy = json.dumps(version | {"Statement": [rights]})
    iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=policy)
    yield made["Role"]["Arn"]
    iam.delete_role_policy(RoleName=name, PolicyName="all")
    iam.delete_role(RoleName=name)
    iam.close()


def test_a_session_of_a_role_opens_one_run_and_is_told_what_is_missing(
    ceph_s3: ObjectStore, role: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A real server's opinion of our policy; tests/test_access_narrowing.py asks the mock about more."""
    ceph_s3.use(monkeypatch)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "launcher").mkdir()
    (tmp_path / "launcher" / "config.toml").write_text(f'[store."{ceph_s3.url}"]\nrole = "{role}"\n')
    access, whole = Access(ceph_s3.url + "/lab", ceph_s3.settings), opened(ceph_s3, tmp_path)
    found = for_run(access, "mine")
    assert found is not None and found.narrow, found.note if found else None
    session = stores.open(access, lambda: found.secrets)
    whole.put("lab/runs/other/job.json", b"other")
    session.create("runs/mine/job.json", b"mine")
    with pytest.raises(ObjectExistsError):
        session.create("runs/mine/job.json", b"again")
    (tmp_path / "up").write_bytes(data := secrets.token_bytes(20 << 20))
    session.put_file("runs/mine/blobs/a", tmp_path / "up")
    session.get_file("runs/mine/blobs/a", tmp_path / "down", sha256=sha256_bytes(data))
    assert [entry.key for entry in session.list("runs/mine/")] == ["runs/mine/blobs/a", "runs/mine/job.json"]
    assert not session.exists("runs/mine/record.json")
    with pytest.raises(ObjectMissingError):
        session.get("runs/mine/record.json")
    session.delete_many(["runs/mine/blobs/a"])
    session.put("journal/20260101T000000Z-0001-mine", b"")
    assert session.now().year >= 2026
    for refused in (
        lambda: session.get("runs/other/job.json"),
        lambda: session.put("runs/other/job.json", b"x"),
        lambda: session.put("journal/20260101T000000Z-0001-other", b""),
        lambda: session.list("runs/other/"),
        lambda: session.list(),
        lambda: session.delete("runs/other/job.json"),
    ):
        with pytest.raises(AccessError):
            refused()
    assert whole.get("lab/runs/other/job.json") == b"other"
