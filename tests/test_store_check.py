"""`launcher store check`: a good store passes, and each lack is found, named, and told in the exit code."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from launcher import access, store
from launcher.access import probing, reach
from launcher.cache import Cache
from launcher.cli import invoke
from launcher.errors import ObjectExistsError, StoreError
from launcher.store.access import Access
from launcher.store.objects import Store
from tests.object_stores import ObjectStore, WithUsers, forget_settings
from tests.registries import free_port

ALL = ("list", "write", "read", "overwrite", "ranges", "after", "multipart", "create", "race", "clock", "latency")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_settings(monkeypatch)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))


class Checks:
    """Calls the verb, and keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys, self.code, self.stdout = capsys, 0, ""

    def __call__(self, *words: str) -> dict[str, dict[str, str]]:
        """Return the findings by their subjects, of a call with --json."""
        self.code = invoke(["store", "check", *words])
        self.stdout = self.capsys.readouterr().out
        return {found["subject"]: found for found in json.loads(self.stdout)["findings"]} if "--json" in words else {}


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Checks:
    return Checks(capsys)


def test_a_folder_passes(tmp_path: Path, check: Checks) -> None:
    found = check(str(tmp_path), "--quick", "--json")
    assert check.code == 0
    assert tuple(found) == (*ALL, "delete")
    assert {finding["verdict"] for finding in found.values()} == {"ok"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_bucket_passes_and_is_left_as_it_was(s3: ObjectStore, check: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.use(monkeypatch)
    check(s3.url + "/below")
    assert check.code == 0, check.stdout
    assert "MB/s" in check.stdout and "a run can rely on it" in check.stdout
    assert store.open(Access(s3.url, s3.settings), lambda: s3.credentials).list() == []


def test_a_server_that_overwrites_is_refused(
    rclone_s3: ObjectStore, check: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    rclone_s3.use(monkeypatch)
    found = check(rclone_s3.url, "--quick", "--json")
    assert check.code == StoreError.exit_code == 74
    assert {name for name, finding in found.items() if finding["verdict"] == "refused"} >= {"create", "race"}
    assert "If-None-Match was ignored" in found["create"]["says"]
    assert "two attempts of one run" in found["create"]["hint"]


def test_missing_rights_are_named_with_their_purpose(
    s3_with_users: WithUsers, check: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_with_users.read_only.use(monkeypatch)
    found = check(s3_with_users.url, "--quick", "--json")
    assert (found["list"]["verdict"], found["write"]["verdict"], check.code) == ("ok", "refused", 77)
    assert (found["read"]["verdict"], found["delete"]["verdict"]) == ("ok", "warning")
    assert found["delete"]["hint"].startswith("s3:DeleteObject is missing")
    assert found["write"]["hint"] == "s3:PutObject is missing: every log, checkpoint and record is written"
    s3_with_users.user("writer", ("s3:PutObject", "s3:DeleteObject")).use(monkeypatch)
    found = check(s3_with_users.url, "--quick", "--json")
    assert check.code == 77
    for name, right in (("list", "s3:ListBucket"), ("read", "s3:GetObject"), ("ranges", "s3:GetObject")):
        assert found[name]["hint"].startswith(right + " is missing")
    no_delete = s3_with_users.user("keeper", ("s3:GetObject", "s3:ListBucket", "s3:PutObject"))
    no_delete.use(monkeypatch)
    found = check(s3_with_users.url, "--quick", "--json")
    assert (found["delete"]["verdict"], check.code) == ("warning", 0)
    assert "s3:DeleteObject is missing" in found["delete"]["hint"]


def test_what_is_hopeless_is_told_once(
    s3_with_users: WithUsers, check: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_with_users.wrong.use(monkeypatch)
    found = check(s3_with_users.url, "--json")
    assert (check.code, list(found)) == (77, ["list"])
    assert s3_with_users.wrong.secret not in check.stdout
    s3_with_users.use(monkeypatch)
    found = check("s3://nobody-made-this", "--json")
    assert (check.code, list(found)) == (77, ["list"])
    assert "no such bucket" in found["list"]["says"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    found = check(s3_with_users.url, "--json")
    assert (check.code, list(found)) == (75, ["list"])


def test_an_interrupted_check_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(probing, "latency", interrupted)
    opened = store.open(str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        probing.check(opened)
    assert opened.list() == []


class Lying(Store):
    """A store that keeps one promise less."""

    broken = ""

    def create(self, key: str, data: bytes) -> None:
        if self.broken == "race" and "race" in key:  # looks, then writes
            if self.exists(key):
                raise ObjectExistsError("there")
            threading.Event().wait(0.05)
            self.put(key, data)
            return
        super().create(key, data)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return super().get_range(key, start + (self.broken == "ranges"), length)

    def delete(self, key: str) -> None:
        if self.broken != "delete" or "checks" not in key:
            super().delete(key)


@pytest.mark.parametrize("broken", ["race", "ranges", "delete"])
def test_lies_are_found(tmp_path: Path, broken: str) -> None:
    opened = Lying(Access(str(tmp_path)), str(tmp_path))
    opened.broken = broken
    found = probing.check(opened, quick=True)
    assert [finding.subject for finding in found.findings if finding.verdict != "ok"] == [broken]
    assert found.exit_code == (0 if broken == "delete" else 74)


def test_reach_is_quick_and_remembers(
    s3: ObjectStore, rclone_s3: ObjectStore, cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert reach(access.of(str(tmp_path / "new")), cache).verdict == "ok"
    rclone_s3.use(monkeypatch)
    found = reach(access.of(rclone_s3.url), cache)
    assert found.verdict == "refused" and "conditional create" in found.says
    s3.use(monkeypatch)
    assert reach(access.of(s3.url), cache).verdict == "ok"
    opened = access.open(s3.url)
    assert opened.list() == []
    assert reach(access.of(s3.url + "/elsewhere"), cache).verdict == "ok"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    found = reach(access.of(s3.url), cache)
    assert found.verdict == "refused" and found.hint
