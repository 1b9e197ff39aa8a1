"""The system's own `ssh` as a Shell: one connection that all commands share and that outlives this process.

The first command opens it, and may ask the person at the terminal for what only a person has, a one-time password
say; it stays for PERSIST_S after its last use. Where ~/.ssh/config shares connections itself (ControlPath), that one is
used. Source: ssh(1), ssh_config(5) of OpenSSH 8 and 9.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from launcher.digest import sha256_bytes
from launcher.errors import ProcessError
from launcher.process import Flow, attend, flow, pipe, run
from launcher.remote.host import Host, config_file, forbidden, lost_way, no_way, parse
from launcher.remote.model import Done, Stream
from launcher.remote.ssh_settings import control_folder, known_as, settings_of, strict_config
from launcher.remote.words import command_line, without_mark

PERSIST_S = 12 * 3600
CONNECT_S = 30
ALIVE_S, ALIVE_TIMES = 15, 4  # a way that says nothing for a minute is lost
TROUBLE = 255  # ssh(1), exit status: an error of its own
LAX = ("no", "off", "false", "accept-new")  # the last: addresses of rented machines are handed on to others
LEADS = ("hostname", "port", "user", "proxyjump", "proxycommand")  # settings that say which machine it is
ALWAYS = ("-T", "-x", "-a", "-o", "ClearAllForwardings=yes", "-o", "LogLevel=ERROR")


class OpenSSH:
    """A Shell over `ssh`. `trips` counts the commands that went over the connection, the opening one included."""

    def __init__(self, host: str, *, control: Path | None = None) -> None:
        self.host: Host = parse(host)
        self.where = self.host.name
        self.control = control
        self.connected = False
        self.trips = 0

    @cached_property
    def settings(self) -> dict[str, str]:
        """What ssh itself makes of its files for this host; nobody is asked over the network."""
        return settings_of(self.host)

    @cached_property
    def socket(self) -> Path:
        """Where the shared connection is found: as the person's own settings say, else in a folder of ours.

        What their settings make of the host is in its name: where those lead elsewhere now, the connection that is
        still open to the machine before is another one."""
        own = self.settings.get("controlpath", "none")
        if own not in ("none", ""):
            return Path(own)
        leads = (self.settings.get(name, "") for name in LEADS)
        who = sha256_bytes("\0".join([str(config_file()), *self.host.words, *leads]).encode())[:16]
        return control_folder(self.control) / who

    @cached_property
    def options(self) -> list[str]:
        """The options of every call. Where a person's settings say something of the kind, that counts; but a host
        that nobody knows is never taken for the right one in silence, nor is one on the way to it."""
        said = self.settings
        jumps = said.get("proxyjump", "none") != "none"
        config = str(strict_config(self.control)) if jumps else config_file()
        found = [*ALWAYS, *(["-F", config] if config else []), "-o", f"ControlPath={escaped(self.socket)}"]
        if said.get("stricthostkeychecking") in LAX and not jumps:
            found += ["-o", "StrictHostKeyChecking=ask"]
        if said.get("serveraliveinterval", "0") == "0":
            found += ["-o", f"ServerAliveInterval={ALIVE_S}", "-o", f"ServerAliveCountMax={ALIVE_TIMES}"]
        if said.get("connecttimeout", "none") in ("none", "0"):
            found += ["-o", f"ConnectTimeout={CONNECT_S}"]
        return [*found, "-o", "RemoteCommand=none"] if said.get("remotecommand", "none") != "none" else found

    def run(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] | None = None, timeout_s: float | None = None
    ) -> Done:
        """Run a command there: one round trip, besides the opening of the connection. Raises TargetError."""
        args = self.words(argv)
        try:
            done = pipe(args, [stdin] if isinstance(stdin, bytes) else stdin or (), timeout_s=timeout_s)
        except ProcessError as e:
            raise lost_way(self.host, f"no end within {timeout_s:g} s" if timeout_s else str(e)) from e
        said, itself = without_mark(done.stderr)
        if done.returncode < 0 or (done.returncode == TROUBLE and not itself):
            self.connected = False
            raise lost_way(self.host, said.decode(errors="replace"))
        return Done(code=done.returncode, stdout=done.stdout, stderr=said)

    @contextlib.contextmanager
    def stream(self, argv: Sequence[str], *, stdin: bytes = b"", hold: bool = False) -> Iterator[Stream]:
        """Run a command there and read what it prints as it comes. Raises TargetError."""
        with flow(self.words(argv), stdin=stdin, hold=hold) as running:
            yield OpenStream(self, running)

    def words(self, argv: Sequence[str]) -> list[str]:
        """Open the connection, and return what runs a command over it. Raises TargetError."""
        line = command_line(argv)
        self.connect()
        self.trips += 1
        shared = ["-o", "ControlMaster=no", "-o", "BatchMode=yes"]
        return ["ssh", *self.options, *shared, *self.host.words, line.decode()]

    @contextlib.contextmanager
    def forward(self, port: int) -> Iterator[int]:
        """Ask the connection's holder for a port there that leads to ours. Raises TargetError."""
        self.connect()
        spec = f"127.0.0.1:0:127.0.0.1:{port}"
        done = self.ask("forward", "-R", spec)
        if done.returncode != 0 or not done.stdout.strip().isdigit():
            raise forbidden(self.host, done.stderr.decode(errors="replace"))
        try:
            yield int(done.stdout)
        finally:
            with contextlib.suppress(ProcessError):
                self.ask("cancel", "-R", spec)

    def ask(self, command: str, *args: str) -> subprocess.CompletedProcess[bytes]:
        """Say something to the connection's holder. No file of settings is read: forwardings that a person has there
        would be asked for, and cancelled, with ours."""
        place = ["-F", "/dev/null", "-o", f"ControlPath={escaped(self.socket)}"]
        return run(["ssh", *place, "-O", command, *args, *self.host.words], check=False, timeout_s=CONNECT_S)

    def connect(self) -> None:
        """Open the connection, unless it is open. Raises TargetError with what to do."""
        if self.connected and self.socket.exists():  # its holder removes it at its end
            return
        with one_at_a_time(self.socket):
            if not self.is_open():
                self.open()
        self.connected = True

    def is_open(self) -> bool:
        with contextlib.suppress(ProcessError):
            args = ["ssh", *self.options, "-O", "check", *self.host.words]
            return run(args, check=False, timeout_s=CONNECT_S).returncode == 0
        return False

    def open(self) -> None:
        """Run nothing, and leave the connection behind. What ssh asks a person, it asks at their terminal."""
        self.trips += 1
        talks = ["-o", "LogLevel=INFO"] if os.isatty(2) else []
        args = ["ssh", *talks, *self.options, "-o", "ControlMaster=auto", *self.staying(), *batch()]
        code, said = attend([*args, *self.host.words, "true"])
        if code == TROUBLE:
            raise no_way(self.host, said, known_as(self.host, self.settings))

    def staying(self) -> list[str]:
        own = self.settings.get("controlpersist", "no")
        return ["-o", f"ControlPersist={PERSIST_S}"] if own in ("no", "false") else []

    def close(self) -> None:
        """Leave the connection open for the next command of this person: a one-time password was its price."""
        self.connected = False

    def end(self) -> None:
        """End the connection, for everybody who shares it."""
        self.connected = False
        with contextlib.suppress(ProcessError):
            run(["ssh", *self.options, "-O", "exit", *self.host.words], check=False, timeout_s=CONNECT_S)


class OpenStream:
    """A Stream over `ssh`."""

    def __init__(self, shell: OpenSSH, running: Flow) -> None:
        self.shell, self.running = shell, running
        self.read = running.read

    def code(self) -> int:
        """Return the command's code. Raises TargetError when it was ssh that ended badly."""
        code = self.running.code()
        said, itself = without_mark(self.running.said())
        if code < 0 or (code == TROUBLE and not itself):
            self.shell.connected = False
            raise lost_way(self.shell.host, said.decode(errors="replace"))
        return code

    def said(self) -> bytes:
        return without_mark(self.running.said())[0]


def batch() -> list[str]:
    """Return what keeps ssh from asking where there is nobody to answer."""
    asked = os.environ.get("SSH_ASKPASS") and (
        os.environ.get("DISPLAY") or os.environ.get("SSH_ASKPASS_REQUIRE") in ("force", "prefer")
    )
    return [] if asked or os.isatty(0) or os.isatty(2) else ["-o", "BatchMode=yes"]


def escaped(path: Path) -> str:
    """Write a path as ssh_config wants it, where % begins a token; quotes hold spaces together."""
    return '"' + str(path).replace("%", "%%") + '"'


@contextlib.contextmanager
def one_at_a_time(socket: Path) -> Iterator[None]:
    """Let one process open the connection while others wait: nobody is asked twice for a password."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            stream = held.enter_context(socket.with_name(f"{socket.name}.lock").open("wb"))
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
