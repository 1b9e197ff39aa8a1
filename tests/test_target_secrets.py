"""A store's credentials on their way to an attempt: where they lie, who may read them, when they go."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import AccessError, LauncherError
from launcher.store.access import Access
from launcher.target import secrets
from tests.patience import LONG_S

S3 = Access("s3://bucket")


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in memory of this test's own, and a login that AWS's tools would find."""
    place = tmp_path / "runtime"
    place.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "first")
    return place / f"launcher-{os.getuid()}"


@pytest.fixture
def handed(cache: Cache) -> Iterator[secrets.Handed]:
    found = secrets.hand_over(S3, cache)
    assert found is not None
    yield found
    if found.folder.exists():
        found.release()


def secret(handed: secrets.Handed) -> str:
    return str(json.loads((handed.folder / "store.json").read_bytes())["secret_access_key"])


def test_only_the_owner_may_read_them(handed: secrets.Handed, memory: Path) -> None:
    assert handed.folder.parent == memory
    assert stat.S_IMODE(memory.stat().st_mode) == stat.S_IMODE(handed.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in handed.folder.iterdir()} == {0o600}
    assert secret(handed) == "first"


def test_they_go_with_the_attempt(handed: secrets.Handed, memory: Path) -> None:
    handed.release()
    assert [path.name for path in memory.iterdir()] == ["lock"]


def test_renewed_ones_take_their_place(handed: secrets.Handed, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (handed.folder / "store.json").stat().st_ino
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "second")
    handed.renew()
    assert secret(handed) == "second"
    assert (handed.folder / "store.json").stat().st_ino != before, "by a rename: nobody reads half of them"


def test_a_thread_renews_them(handed: secrets.Handed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "LOOK_S", 0.02)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "second")
    handed.keep_fresh()
    until = time.monotonic() + LONG_S
    while secret(handed) != "second" and time.monotonic() < until:
        time.sleep(0.01)
    assert secret(handed) == "second"


def test_what_can_not_be_renewed_is_told_once_and_the_old_ones_stay(
    handed: secrets.Handed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with caplog.at_level(logging.WARNING):
        handed.renew()
        handed.renew()
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith("the credentials of s3://bucket can't be renewed: AWS_ACCESS_KEY_ID is set without")
    assert secret(handed) == "first"


def test_what_a_killed_client_left_goes_with_the_next(handed: secrets.Handed, cache: Cache) -> None:
    os.close(handed.descriptor)  # as the kernel does when it is killed
    again = secrets.hand_over(S3, cache)
    assert again is not None and not handed.folder.exists()
    handed.descriptor = os.open(os.devnull, os.O_RDONLY)
    again.release()


def test_but_not_while_its_runner_lives(handed: secrets.Handed, cache: Cache) -> None:
    """A container of an engine goes on without the client, and reads its credentials again when they are refused."""
    runner = os.open(handed.folder / "held", os.O_RDONLY)
    fcntl.flock(runner, fcntl.LOCK_SH)
    os.close(handed.descriptor)
    again = secrets.hand_over(S3, cache)
    assert again is not None and secret(handed) == "first"
    os.close(runner)
    handed.descriptor = os.open(os.devnull, os.O_RDONLY)
    again.release()


def test_a_store_without_credentials_gets_none(cache: Cache, memory: Path) -> None:
    assert secrets.hand_over(Access("s3://public", {"anonymous": "true"}), cache) is None
    assert [path.name for path in memory.iterdir()] == ["lock"]


def test_credentials_that_are_missing_are_told_and_leave_nothing(
    cache: Cache, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessError):
        secrets.hand_over(S3, cache)
    assert [path.name for path in memory.iterdir()] == ["lock"]


@pytest.mark.parametrize("trap", ["link", "open", "file"])
def test_a_place_that_others_made_is_not_used(cache: Cache, memory: Path, tmp_path: Path, trap: str) -> None:
    """/dev/shm belongs to everybody: what stands there under our name may be a trap."""
    if trap == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        memory.symlink_to(tmp_path / "elsewhere")
    elif trap == "open":
        memory.mkdir()
        memory.chmod(0o777)
    else:
        memory.write_text("")
    found = secrets.place(cache)
    assert found != memory and found.stat().st_uid == os.getuid()


def test_without_memory_they_lie_in_the_cache(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    private = secrets.private
    monkeypatch.setattr(secrets, "private", lambda folder: private(folder) if folder.name == "secrets" else None)
    assert secrets.place(cache) == cache.root / "secrets"
    (cache.root / "secrets").chmod(0o755)
    with pytest.raises(LauncherError, match="there is no place for credentials"):
        secrets.place(cache)


@pytest.mark.parametrize(("left", "pause"), [(None, 60), (3600, 60), (30, 10), (1, 1), (-5, 1)])
def test_when_to_look_again(left: float | None, pause: float) -> None:
    assert secrets.pause_s(left) == pause


def test_the_end_of_credentials_is_read(handed: secrets.Handed) -> None:
    path = handed.folder / "store.json"
    assert secrets.left_s(path) is None
    path.write_text(json.dumps({"expires_at": "2100-01-01T00:00:00Z"}))
    assert (secrets.left_s(path) or 0) > 1e9


def test_what_has_to_outlive_a_login_is_not_where_a_logout_clears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """logind.conf(5), RemoveIPC, and the runtime directory of pam_systemd(8)."""
    cache, runtime, memory = Cache(tmp_path / "cache"), tmp_path / "own-runtime", tmp_path / "own-memory"
    for folder in (runtime, memory):
        folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setattr(secrets, "MEMORY", str(memory))
    for lasts, detached, top in ((True, False, runtime), (True, True, memory), (False, True, cache.root)):
        monkeypatch.setattr(secrets, "outlives_logins", lambda lasts=lasts: lasts)
        assert secrets.place(cache, detached=detached).is_relative_to(top)
