"""Parts of the host side of a box: notices, what follows an attempt, the keeper, and what wakes runs after a reboot."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from launcher.box import boots, deciding, keeper, keeping, left, notices
from launcher.box.model import Order
from launcher.node.deciding import Seen
from launcher.profiles.model import Box, Engine, Profile
from launcher.records import Attempt, Record
from launcher.store.access import Access

AWS = {"action": "terminate", "time": "2026-01-01T00:02:00Z"}
AZURE = {"Events": [{"EventType": "Freeze"}, {"EventType": "Preempt", "NotBefore": "Mon, 19 Sep 2026 18:29:47 GMT"}]}


class Metadata(BaseHTTPRequestHandler):
    """What clouds tell at their link-local address; `pages` maps a path to what it says."""

    pages: Mapping[str, str] = {}
    wants: Mapping[str, str] = {
        "/latest/meta-data": "X-aws-ec2-metadata-token",
        "/computeMetadata": "Metadata-Flavor",
        "/metadata/scheduledevents": "Metadata",
    }

    def do_GET(self) -> None:
        header = next((name for path, name in self.wants.items() if self.path.startswith(path)), None)
        said = self.pages.get(self.path) if header is None or self.headers.get(header) else None
        self.send_response(404 if said is None else 200)
        self.end_headers()
        self.wfile.write((said or "").encode())

    def do_PUT(self) -> None:
        self.send_response(200 if self.headers.get("X-aws-ec2-metadata-token-ttl-seconds") else 400)
        self.end_headers()
        self.wfile.write(b"token")

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def metadata() -> Iterator[tuple[str, type[Metadata]]]:
    class Handler(Metadata):
        pages: Mapping[str, str] = {}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", Handler
    server.shutdown()
    thread.join()
    server.server_close()


def test_clouds_are_asked_as_they_want_it(metadata: tuple[str, type[Metadata]]) -> None:
    url, handler = metadata
    assert notices.first(("aws", "gcp", "azure"), url) is None
    events = "/metadata/scheduledevents?api-version=2020-07-01"
    for name, page, quiet, said in (
        ("aws", "/latest/meta-data/spot/instance-action", None, json.dumps(AWS)),
        ("gcp", "/computeMetadata/v1/instance/preempted", "FALSE", "TRUE\n"),
        ("azure", events, json.dumps({"Events": [{"EventType": "Freeze"}]}), json.dumps(AZURE)),
    ):
        handler.pages = {page: quiet} if quiet else {}
        assert notices.one(name, url) is None
        handler.pages = {page: said}
        assert notices.one(name, url)
        handler.pages = {page: "<html>no json</html>"}
        assert notices.one(name, url) is None
    handler.pages = {events: json.dumps(AZURE)}
    assert notices.azure(url) == "Azure: Preempt at Mon, 19 Sep 2026 18:29:47 GMT"


def test_pages_and_files_are_notices_too(metadata: tuple[str, type[Metadata]], tmp_path: Path) -> None:
    url, handler = metadata
    handler.pages = {"/no": "false", "/yes": "going at noon"}
    assert notices.one(f"{url}/no") is None
    assert notices.one(f"{url}/nothing") is None
    assert notices.one(f"{url}/yes") == f"{url}/yes says so"
    assert notices.one(str(tmp_path / "going")) is None
    (tmp_path / "going").touch()
    assert notices.first(("http://127.0.0.1:1/", str(tmp_path / "going"))) == f"there is {tmp_path / 'going'}"


def record(*attempts: Mapping[str, Any], **more: Any) -> Record:
    made = tuple(Attempt(**{"attempt": k + 1, "state": "killed", **one}) for k, one in enumerate(attempts))
    return Record(run="r", state=made[-1].state, attempts=made, **more)


FAILED = {"state": "failed", "code": 3, "reason": "the command ended with code 3"}
LOST = {"reason": "its container is gone", "parted": {"cause": "lost"}}
STOPPED = {"asked_to_stop": "SIGTERM", "code": 143, "reason": "asked to stop"}


@pytest.mark.parametrize(
    ("attempts", "seen", "wish", "decision", "code"),
    [
        ([{"state": "succeeded", "code": 0}], Seen(asked="cancelled"), {}, "done", 0),
        ([STOPPED], Seen(asked="cancelled"), {}, "cancelled", 143),
        ([STOPPED], Seen(asked="notice"), {}, "hold", 75),
        ([STOPPED], Seen(asked="SIGTERM"), {}, "hold", 75),
        ([STOPPED], Seen(), {}, "again", 75),  # its engine was stopped, not the run
        ([STOPPED], Seen(), {"restart": False}, "failed", 137),
        ([LOST], Seen(), {}, "again", 75),
        ([LOST], Seen(), {"restart": False}, "failed", 137),
        ([LOST] * 5, Seen(), {}, "failed", 75),
        ([FAILED], Seen(), {}, "failed", 3),
        ([FAILED], Seen(asked="SIGTERM"), {}, "failed", 3),
        ([FAILED], Seen(), {"retries": 1}, "again", 75),
        ([FAILED, FAILED], Seen(), {"retries": 1}, "failed", 3),
        ([{**FAILED, "parted": {"cause": "command"}}, FAILED], Seen(), {"retries": 1, "first": 2}, "again", 75),
        ([{"state": "killed", "code": 137}], Seen(memory=1), {"retries": 3}, "failed", 137),
        ([{"state": "killed", "signal": "SIGKILL", "code": 137}], Seen(memory=0), {}, "again", 75),
        ([{"state": "killed", "code": 143, "superseded": {"by": 2, "host": "x"}}], Seen(), {}, "failed", 75),
    ],
)
def test_what_follows(attempts: Any, seen: Seen, wish: dict[str, Any], decision: str, code: int) -> None:
    attempts = [{**one, "parted": {"cause": "command"}} if one is FAILED else one for one in attempts]
    found = record(*attempts)
    told = {"first": 1, "retries": 0, "restart": True, **wish}
    verdict = deciding.decide(found, len(attempts), replace(seen, tries=2), **told)
    assert (verdict.decision, verdict.code) == (decision, code), verdict


def test_a_later_attempt_has_the_run() -> None:
    verdict = deciding.decide(record(LOST, LOST), 1, Seen(), first=1, retries=0, restart=True)
    assert (verdict.decision, verdict.cause) == ("failed", "superseded")


def order(folder: str = "/root/.launcher", **more: Any) -> Order:
    profile = Profile(name="box", kind="ssh", shared=folder, **{"runtime": "docker", **more})
    job = {"resources": {"gpus": {"count": 1}}}
    return Order(
        run="r", job=job, attempt=1, tools=f"{folder}/tools/x", profile=profile, store=Access("file:///s"),
        ship="relay", image="1" * 64, reference="launcher:x",
    )  # fmt: skip


def test_a_keeper_has_next_to_no_rights_and_tells_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:hunter2@proxy.example.org")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter3")
    asked = keeper.options(order(), ["/t/bin/python3", "-I", "-m", "launcher.box", "/j/a $b\n'c"])
    host = asked["host"]
    assert host["cap_drop"] == ["ALL"]
    assert set(host["cap_add"]) == {"SYS_CHROOT", "SETUID", "SETGID"}
    assert "no-new-privileges" in host["security_opt"]
    assert "privileged" not in host
    assert "hunter" not in json.dumps(asked, default=str)
    assert json.loads(asked["command"][0])["argv"][-1] == "/j/a $b\n'c"


def test_what_is_kept_of_the_environment_is_this_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:hunter2@proxy.example.org")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter3")
    keeping.write_environment(tmp_path)
    path = tmp_path / keeping.ENVIRONMENT
    assert path.stat().st_mode & 0o777 == 0o600
    assert "hunter3" not in path.read_text()
    monkeypatch.delenv("https_proxy")
    keeping.load_environment(tmp_path)
    assert os.environ["https_proxy"].startswith("http://me:")


@pytest.mark.parametrize(
    ("profile", "kept"),
    [
        ({}, True),
        ({"runtime": "apptainer"}, False),
        ({"box": Box(boot="docker", engines=(Engine(name="docker"),))}, True),
        ({"box": Box(boot="docker", engines=(Engine(name="docker", rootless=True),))}, False),
        ({"box": Box(boot="cron", engines=(Engine(name="docker"),))}, False),
    ],
)
def test_who_is_kept_by_the_engine(profile: dict[str, Any], kept: bool) -> None:
    assert keeping.keeps(order(**profile)) == kept


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a crontab and a systemctl before the machine's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    crontab = f'#!/bin/sh\n[ "$1" = -l ] && exec cat {tmp_path}/table\ncat >{tmp_path}/table\n'
    said = f'#!/bin/sh\necho "$(basename $0) $@" >>{tmp_path}/said\n'
    for name, text in (("crontab", crontab), ("systemctl", said), ("loginctl", said), ("systemd-run", said)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_cron_gets_one_line_for_a_folder_and_keeps_the_others(programs: Path) -> None:
    (programs / "table").write_text("0 5 * * * mine\n")
    for tools in ("a", "b"):
        boots.install("cron", replace(order("/home/a b/100%"), tools=f"/home/a b/100%/tools/{tools}"))
    boots.install("cron", order("/other"))
    lines = (programs / "table").read_text().splitlines()
    assert lines[0] == "0 5 * * * mine"
    assert lines[1] == (
        r"@reboot '/home/a b/100\%/tools/b/bin/python3' -I -m launcher.box.agent wake '/home/a b/100\%' # launcher"
    )
    assert len(lines) == 3


def test_systemd_gets_a_unit_of_this_user(programs: Path) -> None:
    boots.install("systemd", order("/home/a b/$x%"))
    unit = (programs / "config/systemd/user" / boots.UNIT).read_text()
    assert (
        'ExecStart="/home/a b/$$x%%/tools/x/bin/python3" "-I" "-m" "launcher.box.agent" "wake" "/home/a b/$$x%%"'
        in unit
    )
    said = (programs / "said").read_text()
    assert "enable launcher-wake.service" in said
    assert "loginctl enable-linger" in said
    assert boots.in_unit("r", ["python", "x"], programs / "log")


def test_only_what_is_not_known_of_a_containers_output_is_passed_on() -> None:
    assert b"".join(left.beyond([b"abc", b"def", b"g"], 4)) == b"efg"
    assert b"".join(left.beyond([b"abc"], 0)) == b"abc"
    assert b"".join(left.beyond([b"abc"], 9)) == b""
