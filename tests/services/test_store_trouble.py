"""Trouble with an object store in mid-run: what is wrong is said clearly, nothing is lost, and it goes on by itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import AccessError
from launcher.store.access import Access
from tests.attempts import Bench, wait_for
from tests.certificates import Certificate
from tests.fault_proxy import fault_proxy
from tests.object_stores import Faulty, ObjectStore, WithUsers, behind
from tests.patience import LONG_S
from tests.test_runner_checkpoints import end_commands

pytestmark = [pytest.mark.services, pytest.mark.storms]
SAVES = """
folder, out = os.environ['LAUNCHER_CHECKPOINT_DIR'], os.environ['LAUNCHER_OUTPUT_DIR']
there = sorted(os.listdir(folder))
first = json.load(open(os.path.join(folder, there[-1])))['step'] + 1 if there else 0
print('begins at', first, flush=True)
for step in range(first, 1000):
    if os.path.exists('go'): break
    print('step', step, flush=True)
    part = os.path.join(folder, f'{step:04d}.tmp')
    with open(part, 'w') as f: json.dump({'step': step, 'filler': 'x' * 300_000}, f)
    os.rename(part, part[:-4])
    time.sleep(0.3)
open(out + '/done', 'w').write(str(step))
"""
TIMES = {"flush_s": 20.0}
SHORT = {"flush_s": 2.0, "restore_s": 2.0}


class Trouble:
    """A run whose store is seen through `way`; the credentials lie in a file that may be renewed."""

    def __init__(self, root: Path, way: ObjectStore, own: ObjectStore, **settings: str) -> None:
        root.mkdir()
        self.secrets = root / "secrets.json"
        way.write_secrets(self.secrets)
        mine = Access(own.url, own.settings, str(own.write_secrets(root / "own.json")))
        self.bench = Bench(
            root / "run", "run-1", Access(way.url, {**way.settings, **settings}, str(self.secrets)), mine
        )
        self.argv = self.bench.script(SAVES)
        self.started: list[Any] = []

    @property
    def process(self) -> Any:
        return self.started[-1]

    def start(self, attempt: int = 1, times: dict[str, float] = TIMES) -> Trouble:
        self.started.append(self.bench.start(self.argv, attempt, times=times, claim="now"))
        return self

    def close(self) -> None:
        """End what a failed test left."""
        (self.bench.cwd / "go").touch()
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.stdout.close()
            process.stderr.close()
            process.wait()
        end_commands(self.argv[-1])

    def has_committed(self, many: int = 1) -> None:
        before = len(self.bench.events("checkpoint"))
        wait_for(lambda: len(self.bench.events("checkpoint")) >= before + many, 30)

    def says(self, *words: str) -> str:
        """Read what the runner says until a line has all the words; return it."""
        for line in iter(self.process.stderr.readline, b""):
            if all(word in line.decode() for word in words):
                return str(line.decode())
        raise AssertionError(f"it never said {words}")

    def end(self) -> str:
        """Let the command end; return what the runner said."""
        (self.bench.cwd / "go").touch()
        _, err = self.process.communicate(timeout=LONG_S)
        assert self.process.returncode == 0, err.decode()
        return str(err.decode())

    def all_is_there(self) -> None:
        record = self.bench.record()
        assert (record.state, record.complete, list(record.missing)) == ("succeeded", True, [])
        lines = [line for line in self.bench.logs().splitlines() if b" step " in line]
        steps = int(self.bench.store.get("runs/run-1/outputs/0001/files/done"))
        assert len(lines) == steps, "no line of the log is lost"
        assert record.outputs is not None and len(record.checkpoints) > 0


def names_what_is_missing(one: Trouble, said: str) -> None:
    """Hold that a run whose store never came back tells so, and keeps a note."""
    assert "are not in the store" in said
    told = json.loads((one.bench.folder / "missing.json").read_text())
    assert any("checkpoint" in name for name in told["missing"]), told["missing"]
    assert [event["code"] for event in told["events"] if event["kind"] == "ended"] == [0]


def no_secret_is_told(said: str, *stores: ObjectStore) -> None:
    assert not [one for one in stores if one.secret in said or (one.token and one.token in said)]


@pytest.fixture
def trouble(tmp_path: Path) -> Iterator[Callable[..., Trouble]]:
    """Make the run of a test: `trouble(the runner's way to the store, the test's own)`."""
    made: list[Trouble] = []

    def make(way: ObjectStore, own: ObjectStore, **settings: str) -> Trouble:
        made.append(Trouble(tmp_path / "one", way, own, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def refused(trouble: Any, s3_with_users: WithUsers) -> Callable[[ObjectStore], Trouble]:
    return lambda way: trouble(way, s3_with_users)


WRONG = ("AccessError", "the secret does not fit the access key", "SignatureDoesNotMatch", "is it the right key")


def test_a_wrong_secret_is_named_and_the_command_goes_on(refused: Any, s3_with_users: WithUsers) -> None:
    wrong = s3_with_users.wrong
    one = refused(wrong).start(times=SHORT)
    line = one.says(*WRONG)
    assert s3_with_users.endpoint in line and s3_with_users.bucket in line
    said = one.end()
    names_what_is_missing(one, said)
    no_secret_is_told(line + said, wrong, s3_with_users)


def test_when_the_secret_is_put_right_everything_arrives(refused: Any, s3_with_users: WithUsers) -> None:
    one = refused(s3_with_users.wrong).start()
    one.says(*WRONG)
    s3_with_users.write_secrets(one.secrets)
    one.has_committed()
    one.end()
    one.all_is_there()


def test_rights_that_lack_are_named_and_when_they_are_given_it_goes_on(refused: Any, s3_with_users: WithUsers) -> None:
    one = refused(s3_with_users.read_only).start()
    line = one.says("AccessError", "don't have the right", "AccessDenied")
    assert "launcher store check" in line
    s3_with_users.user("writer", ("s3:*",)).write_secrets(one.secrets)
    one.has_committed()
    no_secret_is_told(line + one.end(), s3_with_users)
    one.all_is_there()


def test_a_bucket_that_is_not_there_is_named(trouble: Any, s3: ObjectStore) -> None:
    gone = replace(s3, bucket="bucket-that-is-not-there")
    with pytest.raises(AccessError, match="there is no such bucket") as told:
        trouble(gone, gone).start()
    assert gone.bucket in str(told.value) and gone.endpoint in str(told.value)


def test_when_a_bucket_is_there_again_everything_arrives(trouble: Any, faulty_s3: Faulty) -> None:
    one = trouble(faulty_s3, faulty_s3.direct).start()
    one.has_committed()
    faulty_s3.proxy.fault("answer", status=404, code="NoSuchBucket")
    one.says("AccessError", "there is no such bucket", "NoSuchBucket", faulty_s3.bucket)
    faulty_s3.proxy.clear()
    one.has_committed()
    one.end()
    one.all_is_there()


def test_a_token_that_expires_in_mid_run_is_renewed(trouble: Any, faulty_s3: Faulty) -> None:
    token = replace(faulty_s3, token="the-first-token")
    one = trouble(token, faulty_s3.direct).start()
    one.has_committed()
    expired = faulty_s3.proxy.fault(
        "answer", status=400, code="ExpiredToken", where=lambda r: r.headers.get("x-amz-security-token") == token.token
    )
    line = one.says("AccessError", "the session token has expired", "get new credentials")
    assert expired.done
    time.sleep(1)
    renewed = replace(token, token="the-second-token")
    renewed.write_secrets(one.secrets)
    one.has_committed(2)
    no_secret_is_told(line + one.end(), token, renewed)
    one.all_is_there()


@pytest.mark.parametrize("trusted", [False, True])
def test_a_certificate_that_nobody_signed(
    trouble: Any, s3: ObjectStore, certificate: Certificate, trusted: bool
) -> None:
    settings = {"ca": certificate.path.read_text()} if trusted else {}
    with fault_proxy(s3.endpoint, tls=certificate.server) as proxy:
        one = trouble(behind(s3, proxy), s3, **settings)
        one.start(times=TIMES if trusted else SHORT)
        if trusted:
            one.has_committed()
            one.end()
            one.all_is_there()
        else:
            line = one.says("AccessError", "certificate is signed by nobody known here")
            assert "AWS_CA_BUNDLE" in line and proxy.endpoint in line
            names_what_is_missing(one, one.end())


def test_an_outage_in_mid_run_is_ridden_out(trouble: Any, faulty_s3: Faulty) -> None:
    one = trouble(faulty_s3, faulty_s3.direct).start()
    one.has_committed()
    faulty_s3.proxy.refuse()
    line = one.says("UnreachableError", "the command goes on")
    assert faulty_s3.endpoint in line
    time.sleep(4)
    faulty_s3.proxy.listen()
    one.has_committed(2)
    one.end()
    one.all_is_there()


def test_a_server_that_asks_for_patience_gets_it(trouble: Any, faulty_s3: Faulty) -> None:
    one = trouble(faulty_s3, faulty_s3.direct).start()
    one.has_committed()
    slow = faulty_s3.proxy.fault("answer", status=503, code="SlowDown")
    one.says("UnreachableError", "the store asks for patience")
    before, began = slow.done, time.monotonic()
    time.sleep(5)
    rate = (slow.done - before) / (time.monotonic() - began)
    assert rate < 20, f"it asks {rate:.0f} times a second, of a server that wants to be left alone"
    faulty_s3.proxy.clear()
    one.has_committed()
    one.end()
    one.all_is_there()


def test_an_outage_at_the_end_is_waited_for(trouble: Any, faulty_s3: Faulty) -> None:
    one = trouble(faulty_s3, faulty_s3.direct).start()
    one.has_committed()
    faulty_s3.proxy.refuse()
    (one.bench.cwd / "go").touch()
    time.sleep(4)
    faulty_s3.proxy.listen()
    one.end()
    one.all_is_there()


@pytest.mark.slow
def test_an_upload_that_stalls_for_a_minute_is_given_up_and_made_again(trouble: Any, faulty_s3: Faulty) -> None:
    one = trouble(faulty_s3, faulty_s3.direct)
    stalled = faulty_s3.proxy.fault("stall", only="^PUT .*/blobs/", seconds=60.0, times=1)
    one.start()
    wait_for(lambda: stalled.done)
    wait_for(lambda: one.bench.events("checkpoint"), 45)
    one.end()
    one.all_is_there()


def test_a_store_that_does_not_answer_holds_a_resume_back(trouble: Any, faulty_s3: Faulty) -> None:
    """To begin again from nothing would lose what was computed."""
    one = trouble(faulty_s3, faulty_s3.direct).start()
    one.has_committed(2)
    one.process.kill()
    one.process.communicate()
    faulty_s3.proxy.refuse()
    one.start(2, times=SHORT)
    out, err = one.process.communicate(timeout=LONG_S)
    assert one.process.returncode == 125 and not out, "the command was not started"
    assert "can't be read" in err.decode() and faulty_s3.endpoint in err.decode(), err.decode()
    one.start(3)
    time.sleep(2)
    faulty_s3.proxy.listen()
    one.has_committed()
    one.end()
    assert b"begins at 0" not in b"\n".join(line for line in one.bench.logs(3).splitlines())
    assert one.bench.record().state == "succeeded"


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs")
def test_a_full_disk_of_the_node_costs_no_checkpoint_that_was_there(trouble: Any, s3: ObjectStore) -> None:
    one = trouble(s3, s3)
    place = one.bench.folder
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"mount: {done.stderr.decode()}")
    try:
        one.start()  # it saves 300 KB each time, and never deletes one
        _, err = one.process.communicate(timeout=LONG_S)
        assert one.process.returncode == 1 and b"No space left on device" in err
        saved = [event["name"] for event in one.bench.events("checkpoint")]
        assert len(saved) >= 3 and not [name for name in saved if name.endswith(".tmp")]
        record = one.bench.record()
        assert record.state == "failed" and len(record.checkpoints) == len(saved)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    (one.bench.cwd / "go").touch()
    one.start(2)
    one.process.communicate(timeout=LONG_S)
    [restored] = one.bench.events("restored")
    assert restored["name"] == saved[-1]
