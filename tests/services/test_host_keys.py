"""Meeting a machine against real sshds: what is shown, asked, kept and refused, by both transports and over a jump."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.cli import invoke
from launcher.errors import TargetError
from launcher.remote.fabric import Fabric
from launcher.remote.hostkeys import introduce
from launcher.remote.model import Shell
from launcher.remote.openssh import OpenSSH
from tests.sshd import Sshd, keygen, running

pytestmark = pytest.mark.services
LONG_S = 120


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody whose ssh knows no host yet: a config and known hosts of their own, and launcher's folders."""

    home: Path
    server: Sshd
    capfd: pytest.CaptureFixture[str]

    @property
    def known(self) -> Path:
        return self.home / "known hosts $x"  # a path that is easily torn

    @property
    def config(self) -> Path:
        return self.home / "config"

    @property
    def surroundings(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "xdg"),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "LAUNCHER_SSH_CONFIG": str(self.config),
            "LAUNCHER_CACHE": str(self.home / "cache"),
            "LAUNCHER_STORE": str(self.home / "store"),
        }

    def write(self, *lines: str, strict: str | None = None) -> None:
        """Write the ssh_config, with more lines for the host."""
        text = self.server.config.read_text()
        text = re.sub(r"UserKnownHostsFile .*", f'UserKnownHostsFile "{self.known}"', text)
        text = re.sub(r" *StrictHostKeyChecking .*\n", f"    StrictHostKeyChecking {strict}\n" if strict else "", text)
        self.config.write_text(text + "".join(f"    {line}\n" for line in lines))

    def call(self, *words: str) -> tuple[int, str]:
        """Give a command where nobody can be asked; return its code and all that it said."""
        code = invoke(list(words))
        said = self.capfd.readouterr()
        return code, said.out + said.err

    def add(self, *words: str) -> tuple[int, str]:
        return self.call("target", "add", "far", "--ssh", "box", "--replace", *words)

    def hang_up(self) -> None:
        """End the connection that this person's launcher keeps."""
        OpenSSH("box").end()

    def lines(self) -> list[str]:
        return self.known.read_text().splitlines() if self.known.exists() else []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An sshd with keys of two kinds."""
    home = tmp_path_factory.mktemp("sshd")
    with running(home) as one:
        one.stop()
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(home / "host_ecdsa")], check=True)
        settings = (home / "sshd_config").read_text()
        (home / "sshd_config").write_text(f"{settings}HostKey {home}/host_ecdsa\n")
        one.log.unlink()
        one.start()
        yield one


@pytest.fixture
def person(
    server: Sshd, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Person]:
    (tmp_path / "run").mkdir(mode=0o700)
    one = Person(home=tmp_path, server=server, capfd=capfd)
    one.write()
    monkeypatch.delenv("SSH_ASKPASS", raising=False)
    for name, value in one.surroundings.items():
        monkeypatch.setenv(name, value)
    yield one
    one.hang_up()


def fingerprint(path: Path) -> str:
    return subprocess.run(["ssh-keygen", "-lf", str(path)], capture_output=True, text=True).stdout.split()[1]


@pytest.mark.parametrize(
    ("transport", "strict"), [("ssh", None), ("ssh", "no"), ("ssh", "accept-new"), ("fabric", "no"), ("fabric", "yes")]
)
def test_an_unknown_key_is_told_and_refused_where_nobody_can_be_asked(
    person: Person, transport: str, strict: str | None
) -> None:
    person.write(strict=strict)
    logins = person.server.connections()
    code, said = person.add("--transport", transport)
    shown = fingerprint(person.server.home / "host_key.pub")
    assert code == 69 and shown in said and f"--host-key {shown}" in said, said
    assert person.lines() == [] and person.server.connections() == logins, "nobody was logged in"
    code, said = person.call("doctor", "far", "--host-key", "SHA256:AAAA")
    assert code == 69 and "and not SHA256:AAAA" in said and person.lines() == [], said
    _, said = person.call("doctor", "far", "--host-key", shown)
    assert "ok       box" in said, said
    [line] = person.lines()
    assert line.split()[:2] == [f"[127.0.0.1]:{person.server.port}", "ssh-ed25519"]
    assert person.known.stat().st_mode & 0o777 == 0o600
    person.hang_up()
    assert "ok       box" in person.call("doctor", "far")[1] and person.lines() == [line], "it is known now"


def test_a_key_of_another_kind_can_be_named(person: Person) -> None:
    """Providers show any of them."""
    _, said = person.add("--host-key", fingerprint(person.server.home / "host_ecdsa.pub"))
    assert "ok       box" in said, said
    assert [line.split()[1] for line in person.lines()] == ["ecdsa-sha2-nistp256"]


@pytest.mark.parametrize("transport", ["ssh", "fabric"])
def test_names_are_hidden_where_a_person_wants_that(person: Person, transport: str) -> None:
    person.write("HashKnownHosts yes")
    person.known.write_text("# mine, without an end of line")
    _, said = person.add("--transport", transport, "--host-key", fingerprint(person.server.home / "host_key.pub"))
    assert "ok       box" in said, said
    assert person.lines()[0] == "# mine, without an end of line" and person.lines()[1].startswith("|1|")
    person.hang_up()
    assert "ok       box" in person.call("doctor", "far")[1]


@pytest.mark.parametrize(
    ("transport", "strict"), [("ssh", None), ("ssh", "no"), ("ssh", "accept-new"), ("fabric", "no")]
)
def test_a_key_that_has_changed_is_refused_and_nothing_is_written(
    person: Person, transport: str, strict: str | None, tmp_path: Path
) -> None:
    person.write(strict=strict)
    keygen(tmp_path / "other")
    before = f"[127.0.0.1]:{person.server.port} {(tmp_path / 'other.pub').read_text()}"
    person.known.write_text(before)
    shown = fingerprint(person.server.home / "host_key.pub")
    for words in ([], ["--host-key", shown]):
        code, said = person.add("--transport", transport, *words)
        assert code == 69 and f"ssh-keygen -R '[127.0.0.1]:{person.server.port}'" in said, said
        assert person.known.read_text() == before
    assert transport == "fabric" or shown in said


def test_a_file_that_forgets_is_refused(person: Person) -> None:
    person.config.write_text(
        re.sub(r"UserKnownHostsFile .*", "UserKnownHostsFile /dev/null", person.config.read_text())
    )
    code, said = person.add("--host-key", fingerprint(person.server.home / "host_key.pub"))
    assert code == 69 and "keeps no host keys" in said and "UserKnownHostsFile" in said


def test_a_jump_host_is_met_first_and_on_its_own(person: Person, tmp_path: Path) -> None:
    """Each key is decided upon, also where the settings would take any."""
    with running(tmp_path / "gate") as gate:
        jump = gate.config.read_text().replace("Host box", "Host gate")
        jump = jump.replace(str(gate.home / "known_hosts"), f'"{person.known}"')
        person.write("ProxyJump gate", strict="no")
        person.config.write_text(person.config.read_text() + jump.replace("Checking yes", "Checking no"))
        first, second = (fingerprint(one.home / "host_key.pub") for one in (gate, person.server))
        code, said = person.add()
        assert code == 69 and first in said and second not in said, said
        code, said = person.add("--host-key", first)
        assert code == 69 and second in said and len(person.lines()) == 1, said
        _, said = person.add("--host-key", first, "--host-key", second)
        assert "ok       box" in said and len(person.lines()) == 2, said
        person.hang_up()
        keygen(tmp_path / "other")
        known = person.lines()
        person.known.write_text(f"[127.0.0.1]:{gate.port} {(tmp_path / 'other.pub').read_text()}{known[1]}\n")
        with pytest.raises(TargetError, match="no way to box"):
            OpenSSH("box").run(["true"])


@pytest.mark.parametrize(("transport", "answer"), [("ssh", "yes"), ("fabric", "yes"), ("ssh", "no")])
def test_at_a_terminal_it_is_shown_once_and_asked(person: Person, transport: str, answer: str) -> None:
    words = ["target", "add", "far", "--ssh", "box", "--replace", "--transport", transport]
    code, said = at_a_terminal(words, f"{answer}\n")
    assert said.count(fingerprint(person.server.home / "host_key.pub")) == 1 and "Is it the same?" in said
    if answer == "yes":
        assert code == 0 and "runs can go there" in said and len(person.lines()) == 1, said
    else:
        assert code == 69 and "was not taken" in said and person.lines() == []


def at_a_terminal(words: list[str], answer: str) -> tuple[int, str]:
    """Run launcher at a terminal, and answer its first question."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-m", "launcher", *words], {**os.environ, "COLUMNS": "300"})
    said, until = b"", time.monotonic() + LONG_S
    while time.monotonic() < until:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # Linux's word for the end of a terminal
            break
        said += piece
        if answer and said.rstrip().endswith(b"[y/N]:"):
            os.write(terminal, answer.encode())
            answer = ""
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode(errors="replace")


@pytest.mark.parametrize("transport", ["ssh", "fabric"])
def test_a_known_host_is_met_without_a_word(person: Person, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_SSH_CONFIG", str(person.server.config))
    shell: Shell = OpenSSH("box") if transport == "ssh" else Fabric("box")
    introduce(shell, lambda shown: pytest.fail(f"{shown} is known"))
    assert shell.run(["true"]).code == 0
    shell.close()
    if isinstance(shell, OpenSSH):
        shell.end()
