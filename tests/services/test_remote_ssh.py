"""Both transports against a real sshd: bytes, codes, cut connections, host keys, keys, one prompt, one connection."""

from __future__ import annotations

import hashlib
import os
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import TargetError
from launcher.profiles.model import Profile
from launcher.remote import tools as tool_rooms
from launcher.remote.delivery import Delivery, prepare
from launcher.remote.fabric import Fabric
from launcher.remote.items import Item
from launcher.remote.model import Stream
from launcher.remote.openssh import OpenSSH
from launcher.remote.tools import python
from tests.patience import LONG_S
from tests.sshd import Sshd, keygen, running

pytestmark = pytest.mark.services
Way = OpenSSH | Fabric
NASTY = [
    "",
    " ",
    "a b",
    "it's",
    '"',
    "$HOME",
    "`id`",
    "\\",
    "\\n",
    "a\nb",
    "-n",
    "!",
    "*",
    "~",
    "é",
    "\udcff",
    "%s",
    "\t;&|<>",
]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(params=["ssh", "fabric"])
def way(request: pytest.FixtureRequest, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    """A fresh Shell to the server by each transport; connections end with the test."""
    monkeypatch.setenv("LAUNCHER_SSH_CONFIG", str(sshd.config))
    monkeypatch.delenv("SSH_ASKPASS", raising=False)
    shell = shell_of(request.param)
    yield shell
    end(shell)


def shell_of(transport: str) -> Way:
    return OpenSSH("box", control=Path(f"/tmp/launcher-test-{os.getpid()}")) if transport == "ssh" else Fabric("box")


def end(shell: Way) -> None:
    shell.close()
    if isinstance(shell, OpenSSH):
        shell.end()


@pytest.fixture(scope="module", autouse=True)
def control() -> Iterator[None]:
    yield
    folder = Path(f"/tmp/launcher-test-{os.getpid()}")
    for path in folder.glob("*"):
        path.unlink()
    with suppress(FileNotFoundError):
        folder.rmdir()


def test_words_arrive_as_they_are(way: Way) -> None:
    done = way.run(["printf", "%s\\0", *NASTY])
    assert [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]] == NASTY
    assert (done.code, done.stderr) == (0, b"")


@pytest.mark.parametrize("code", [0, 1, 42, 126, 255])
def test_codes_and_both_streams_come_back(way: Way, code: int) -> None:
    done = way.run(["sh", "-c", f"printf out; printf err >&2; exit {code}"])
    assert (done.code, done.stdout, done.stderr) == (code, b"out", b"err")


def test_a_command_that_is_not_there_and_one_that_a_signal_ends(way: Way) -> None:
    assert way.run(["no-such-program"]).code == 127
    assert way.run(["sh", "-c", "kill -9 $$"]).code == 128 + 9


def test_stdin_of_any_size_and_output_of_any_size(way: Way) -> None:
    chunks = [bytes([number]) * (1 << 20) for number in range(64)]
    done = way.run(["tee", "/dev/stderr"], stdin=iter(chunks))
    whole = hashlib.sha256(b"".join(chunks)).digest()
    assert hashlib.sha256(done.stdout).digest() == whole == hashlib.sha256(done.stderr).digest()


def test_a_command_that_reads_nothing_does_not_wait(way: Way) -> None:
    assert way.run(["true"], stdin=iter([b"x" * (1 << 20)] * 64)).code == 0


def test_what_cannot_be_read_here_is_told_as_it_is(way: Way) -> None:
    def broken() -> Iterator[bytes]:
        yield b"some"
        raise FileNotFoundError("the artifact is gone")

    with pytest.raises(FileNotFoundError, match="the artifact is gone"):
        way.run(["cat"], stdin=broken())
    assert way.run(["echo", "still here"]).stdout == b"still here\n"


def test_a_command_that_takes_too_long(way: Way) -> None:
    way.run(["true"])
    began = time.monotonic()
    with pytest.raises(TargetError, match="nothing is known of what the command did") as raised:
        way.run(["sleep", "60"], timeout_s=1)
    assert raised.value.exit_code == 69
    assert time.monotonic() - began < 55


def test_one_connection_carries_all_commands(way: Way, sshd: Sshd) -> None:
    connections, sessions, trips = sshd.connections(), sshd.sessions(), way.trips
    for _ in range(5):
        assert way.run(["true"]).code == 0
    assert sshd.connections() - connections == 1
    assert sshd.sessions() - sessions == way.trips - trips <= 6, "five commands, and one that opens the connection"


def test_a_cut_connection_says_that_nothing_is_known(way: Way, sshd: Sshd, tmp_path: Path) -> None:
    way.run(["true"])
    started = tmp_path / "started"
    threading.Thread(target=lambda: (wait_for(started.exists), sshd.cut())).start()
    with pytest.raises(TargetError, match=r"was lost.*nothing is known of what the command did") as raised:
        way.run(["sh", "-c", f"touch {started}; sleep 60"], timeout_s=60)
    assert raised.value.exit_code == 69
    assert way.run(["echo", "again"]).stdout == b"again\n", "the next command opens a new connection"


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("transport", ["ssh", "fabric"])
def test_a_host_that_nobody_knows_is_refused(
    transport: str, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a person's settings would take it in silence."""
    config = tmp_path / "config"
    text = sshd.config.read_text().replace(str(sshd.home / "known_hosts"), str(tmp_path / "known_hosts"))
    config.write_text(text.replace("StrictHostKeyChecking yes", "StrictHostKeyChecking no"))
    monkeypatch.setenv("LAUNCHER_SSH_CONFIG", str(config))
    monkeypatch.delenv("SSH_ASKPASS", raising=False)
    sessions, shell = sshd.sessions(), shell_of(transport)
    with pytest.raises(TargetError, match="no way to box") as raised:
        shell.run(["true"])
    end(shell)
    assert "compare the fingerprint" in str(raised.value)
    assert sshd.sessions() == sessions
    assert not (tmp_path / "known_hosts").exists()


@pytest.mark.parametrize("transport", ["ssh", "fabric"])
def test_a_host_with_another_key_than_before_is_refused(
    transport: str, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keygen(tmp_path / "other")
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {(tmp_path / 'other.pub').read_text()}")
    (tmp_path / "config").write_text(
        sshd.config.read_text().replace(str(sshd.home / "known_hosts"), str(tmp_path / "known_hosts"))
    )
    monkeypatch.setenv("LAUNCHER_SSH_CONFIG", str(tmp_path / "config"))
    shell = shell_of(transport)
    with pytest.raises(TargetError, match="ssh-keygen -R"):
        shell.run(["true"])
    end(shell)


@pytest.mark.parametrize("transport", ["ssh", "fabric"])
def test_a_key_that_does_not_open(transport: str, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keygen(tmp_path / "wrong")
    text = sshd.config.read_text().replace(str(sshd.home / "user_key"), str(tmp_path / "wrong"))
    (tmp_path / "config").write_text(text)
    monkeypatch.setenv("LAUNCHER_SSH_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("SSH_ASKPASS", raising=False)
    shell = shell_of(transport)
    with pytest.raises(TargetError, match="no way to box") as raised:
        shell.run(["true"])
    end(shell)
    assert "does `ssh box` let you in?" in str(raised.value)


@pytest.mark.parametrize("transport", ["ssh", "fabric"])
def test_one_prompt_for_many_commands(
    transport: str, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key with a passphrase stands for a one-time password: each opening of a connection asks for it."""
    keygen(tmp_path / "locked", "sesame")
    with (sshd.home / "authorized_keys").open("a") as stream:
        stream.write((tmp_path / "locked.pub").read_text())
    text = sshd.config.read_text().replace(str(sshd.home / "user_key"), str(tmp_path / "locked"))
    (tmp_path / "config").write_text(text)
    asker = tmp_path / "ask"
    asker.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/asked\necho sesame\n')
    asker.chmod(0o755)
    monkeypatch.setenv("LAUNCHER_SSH_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("SSH_ASKPASS", str(asker))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    shells = [shell_of(transport)]
    shells += [shell_of(transport)] if transport == "ssh" else []  # as another process would come, later that day
    for shell in shells:
        assert [shell.run(["echo", str(number)]).stdout for number in range(3)] == [b"0\n", b"1\n", b"2\n"]
    end(shells[0])
    assert len((tmp_path / "asked").read_text().splitlines()) == 1


def test_a_port_where_nobody_listens(tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(sshd.config.read_text().replace(f"Port {sshd.port}", "Port 1"))
    monkeypatch.setenv("LAUNCHER_SSH_CONFIG", str(tmp_path / "config"))
    for transport in ("ssh", "fabric"):
        with pytest.raises(TargetError, match="no way to box") as raised:
            shell_of(transport).run(["true"])
        assert raised.value.exit_code == 69


@pytest.fixture
def one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold launcher's digest: somebody may be working on its files."""
    monkeypatch.setattr(tool_rooms, "own_digest", lambda cache: "0" * 64)


@pytest.mark.usefixtures("one_version")
def test_everything_lands_in_two_round_trips(way: Way, tmp_path: Path, cache: Cache) -> None:
    """Contact and transfer; contact alone when all is there. The tools work."""
    way.run(["true"])
    profile = Profile(name="site", host="box", shared=str(tmp_path / "shared folder"))
    big = tmp_path / "big"
    big.write_bytes(os.urandom(3 << 20))
    items = (Item(path="artifacts/big", source=big), Item(path="plan.json", source=b"{}"))
    trips = way.trips
    tools = prepare(way, profile, [Delivery(items=items)], cache)[1]
    assert way.trips - trips == 2
    assert (tmp_path / "shared folder/artifacts/big").read_bytes() == big.read_bytes()
    trips = way.trips
    assert prepare(way, profile, [Delivery(items=items)], cache)[1] == tools
    assert way.trips - trips == 1
    said = way.run([python(tools), "-I", "-c", "import launcher.node, obstore, submitit; print(launcher.__file__)"])
    assert said.stdout.decode().startswith(tools), said.stderr


@pytest.mark.usefixtures("one_version")
def test_a_transfer_that_is_cut_goes_on_by_itself(way: Way, sshd: Sshd, tmp_path: Path, cache: Cache) -> None:
    """What was whole stays, what was half is gone on with, and nothing half has a name."""
    way.run(["true"])
    shared = tmp_path / "shared"
    profile = Profile(name="site", host="box", shared=str(shared))
    (tmp_path / "first").write_bytes(os.urandom(1 << 20))
    big = tmp_path / "big"
    big.write_bytes(os.urandom(64 << 20))
    items = (Item(path="first", source=tmp_path / "first"), Item(path="big", source=big))
    halves = []

    def cut() -> None:
        wait_for(lambda: any(path.stat().st_size for path in (shared / "tmp").glob("*.part")))
        sshd.cut()
        halves.append((shared / "big").exists())

    cutting = threading.Thread(target=cut)
    cutting.start()
    trips = way.trips
    prepare(way, profile, [Delivery(items=items)], cache)
    cutting.join()
    assert halves == [False] and way.trips - trips >= 4, "cut, and gone on with"
    assert (shared / "big").read_bytes() == big.read_bytes()
    wait_for(lambda: not list((shared / "tmp").iterdir()))
    assert not list((shared / "tmp").iterdir())


@pytest.mark.parametrize("transport", ["ssh", "fabric"])
@pytest.mark.parametrize("known", [True, False])
def test_a_jump_host_is_known_or_refused(
    transport: str, known: bool, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host in between counts as much as the one behind it."""
    (tmp_path / "known_hosts").write_text((sshd.home / "known_hosts").read_text() if known else "")
    jump = sshd.config.read_text().replace("Host box", "Host gate")
    jump = jump.replace(str(sshd.home / "known_hosts"), str(tmp_path / "known_hosts"))
    (tmp_path / "config").write_text(sshd.config.read_text() + "    ProxyJump gate\n" + jump)
    monkeypatch.setenv("LAUNCHER_SSH_CONFIG", str(tmp_path / "config"))
    connections, shell = sshd.connections(), shell_of(transport)
    if known:
        assert shell.run(["echo", "through"]).stdout == b"through\n"
        assert sshd.connections() - connections == 2
    else:
        with pytest.raises(TargetError, match="no way to box"):
            shell.run(["true"])
        assert sshd.connections() == connections
    end(shell)


def test_a_persons_own_shared_connection_is_used(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(f"/tmp/launcher-own-{os.getpid()}")
    (tmp_path / "config").write_text(sshd.config.read_text() + f"    ControlPath {own}-%p\n    ControlPersist 60\n")
    monkeypatch.setenv("LAUNCHER_SSH_CONFIG", str(tmp_path / "config"))
    words = ["ssh", "-F", str(tmp_path / "config")]
    subprocess.run([*words, "-o", "ControlMaster=yes", "box", "true"], check=True, stderr=subprocess.DEVNULL)
    connections, shell = sshd.connections(), OpenSSH("box")
    assert shell.socket == Path(f"{own}-{sshd.port}") and shell.socket.exists()
    assert shell.run(["echo", "1"]).stdout == b"1\n"
    assert (sshd.connections(), shell.trips) == (connections, 1)
    shell.end()
    wait_for(lambda: not shell.socket.exists())
    Path(f"{shell.socket}.lock").unlink()


def test_a_name_that_leads_elsewhere_now_is_not_reached_over_the_connection_before(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rented machines change behind a name of ~/.ssh/config while the one before still answers."""
    config = tmp_path / "config"
    config.write_text(sshd.config.read_text())
    monkeypatch.setenv("LAUNCHER_SSH_CONFIG", str(config))
    before = OpenSSH("box", control=tmp_path)
    assert before.run(["echo", "1"]).stdout == b"1\n"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        config.write_text(sshd.config.read_text().replace(str(sshd.port), str(nobody.getsockname()[1])))
        with pytest.raises(TargetError, match="no way to box"):
            OpenSSH("box", control=tmp_path).run(["true"])
    config.write_text(sshd.config.read_text())
    connections = sshd.connections()
    assert OpenSSH("box", control=tmp_path).run(["echo", "1"]).stdout == b"1\n"
    assert sshd.connections() == connections
    before.end()


def test_a_connection_that_somebody_ended_is_opened_again(way: Way, sshd: Sshd) -> None:
    way.run(["true"])
    connections = sshd.connections()
    if isinstance(way, OpenSSH):
        OpenSSH.end(OpenSSH("box", control=way.control))
        wait_for(lambda: not way.socket.exists())
    else:
        way.close()
    for _ in range(3):
        assert way.run(["echo", "1"]).stdout == b"1\n"
    assert sshd.connections() == connections + 1


def test_a_stream_gives_what_comes_as_it_comes(way: Way, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"cat; echo first; while [ ! -e {go} ]; do sleep 0.05; done; echo second; echo oh >&2; exit 42"
    with way.stream(["sh", "-c", script], stdin=b"asked\n") as stream:
        assert read_until(stream, b"first\n") == b"asked\nfirst\n"
        go.touch()
        assert read_until(stream, None) == b"second\n"
        assert stream.code() == 42
        assert stream.said() == b"oh\n"


def test_a_stream_that_is_let_go_of_ends_there_too(way: Way, tmp_path: Path) -> None:
    over = tmp_path / "over"
    with way.stream(["sh", "-c", f"echo on; cat >/dev/null; touch {over}"], stdin=b"x", hold=True) as stream:
        assert read_until(stream, b"on\n") == b"on\n"
        assert not over.exists()
    wait_for(over.exists)
    assert over.exists(), "its stdin ended"
    assert way.run(["echo", "still here"]).stdout == b"still here\n"


def test_a_stream_that_is_cut_says_so(way: Way, sshd: Sshd) -> None:
    with way.stream(["sh", "-c", "echo on; sleep 60"]) as stream:
        assert read_until(stream, b"on\n") == b"on\n"
        sshd.cut()
        assert read_until(stream, None) == b""
        with pytest.raises(TargetError, match="was lost"):
            stream.code()
    with way.stream(["echo", "again"]) as stream:
        assert (read_until(stream, None), stream.code()) == (b"again\n", 0)


def read_until(stream: Stream, end: bytes | None) -> bytes:
    data = b""
    while end is None or not data.endswith(end):
        chunk = stream.read(1 << 16)
        if not chunk:
            break
        data += chunk
    return data


def test_a_port_there_leads_here(way: Way) -> None:
    """Several connections at once, both directions, and nothing afterwards."""
    with echoing() as ours, way.forward(ours) as theirs:
        texts = [bytes([number]) * (1 << 20) for number in range(4)]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda text: through(theirs, text), texts)) == texts
    with pytest.raises(ConnectionRefusedError):
        through(theirs, b"x")
    assert way.run(["echo", "still here"]).stdout == b"still here\n"


@contextmanager
def echoing() -> Iterator[int]:
    class Echo(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.read(1 << 20))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


def through(port: int, text: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        sender = threading.Thread(target=client.sendall, args=(text,))
        sender.start()
        with client.makefile("rb") as reading:
            said = reading.read(len(text))
        sender.join()
        return said


@pytest.mark.parametrize("transport", ["ssh", "fabric"])
def test_an_sshd_that_leads_no_port_back(transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "strict", "AllowTcpForwarding no\n") as server:
        monkeypatch.setenv("LAUNCHER_SSH_CONFIG", str(server.config))
        shell = shell_of(transport)
        with pytest.raises(TargetError, match="leads no port back"), shell.forward(1):
            pass
        assert shell.run(["echo", "still here"]).stdout == b"still here\n"
        end(shell)
