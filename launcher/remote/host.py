"""The host of a profile, taken apart, and what is told when there is no way to it."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import TargetError

HOST = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?P<name>\[[0-9A-Fa-f:.%\w]+\]|[^\s:@/\[\]]+)(?::(?P<port>\d{1,5}))?/?"
)
CONFIG = "LAUNCHER_SSH_CONFIG"
NO_FILE = ("none", "/dev/null")  # of a setting that names files
REASONS = (
    # what ssh or paramiko says (lower case), and what to do; the first that fits
    (
        ("identification has changed", "host key for server", "doesn't match"),
        "the key that it shows is not the one that you know it by: ask the site whether it has a new one; only then "
        "`ssh-keygen -R {known}`",
    ),
    (
        ("host key verification failed", "host key is known", "not found in known_hosts"),
        "its key is not known here: compare the fingerprint that `launcher doctor TARGET` (or `ssh {ssh}`) shows with "
        "the one that the site publishes, and accept it",
    ),
    (("could not resolve", "name or service not known"), "is `host` of the target right, and the network up?"),
    (
        ("permission denied", "authentication failed", "no authentication", "not a valid", "authentication"),
        "is the user right, and does `ssh {ssh}` let you in? Where it asks for a password, run launcher in a terminal: "
        "it asks once, and the connection is kept (transport ssh)",
    ),
    (("refused",), "is sshd running there, and the port right?"),
    (("timed out", "no route", "unreachable"), "is the network up, and the host reached from here, say by a VPN?"),
)


@dataclass(frozen=True, kw_only=True)
class Host:
    """Who is told to whom: what `ssh` takes. `port` and `user` None: as ~/.ssh/config has them."""

    name: str
    user: str | None = None
    port: int | None = None

    @property
    def login(self) -> str:
        return f"{self.user}@{self.name}" if self.user else self.name

    @property
    def words(self) -> list[str]:
        """Return what follows `ssh` and its options."""
        return [*(["-p", str(self.port)] if self.port else []), "--", self.login]


def parse(text: str) -> Host:
    """Read a name of ~/.ssh/config, host, user@host or user@host:port. Raises TargetError when it is none of these."""
    found = HOST.fullmatch(text)
    if found is None or text.startswith("-") or found["name"].startswith("-") or (found["user"] or "").startswith("-"):
        raise TargetError(
            f"{text!r} is no host", hint="write host, user@host, user@host:port, or a name of ~/.ssh/config"
        )
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65536:
        raise TargetError(f"{text!r} has no port that can be: {port}", hint="ports are 1 to 65535")
    return Host(name=found["name"].strip("[]"), user=found["user"], port=port)


def config_file() -> str | None:
    """Return the ssh_config file that stands for ~/.ssh/config, from $LAUNCHER_SSH_CONFIG; None for the usual ones."""
    return os.environ.get(CONFIG) or None


def files_in(text: str) -> list[Path]:
    """Read a setting that names files. Who parsed the settings has dropped quotes, so one path with spaces is told by
    words that begin no path."""
    words = text.strip('"').split()
    if not all(word.startswith(("/", "~")) or word in NO_FILE for word in words):
        words = [text.strip('"')]
    return [Path(word).expanduser() for word in words if word not in NO_FILE]


class NoWayError(TargetError):
    """Nobody got there. `passing` says that it may be another matter in a minute."""

    passing = False


class LostWayError(TargetError):
    """The way was lost while something was under way."""


class ForbiddenError(TargetError):
    """An sshd that is reached doesn't do what it was asked."""


LASTING = (*REASONS[0][0], *REASONS[1][0], *REASONS[3][0])  # whatever is waited for


def no_way(host: Host, said: str, known_as: str | None = None) -> NoWayError:
    """Return the error for a host that nobody got to; `said` is how the transport put it, `known_as` what known_hosts
    calls it, where that is another name."""
    last = [line.strip() for line in said.strip().splitlines() if line.strip()]
    reason = next((line for line in reversed(last) if known(line)), last[-1] if last else "ssh gave no reason")
    error = NoWayError(f"there is no way to {host.login}: {reason}", hint=what_to_do(host, said, known_as))
    error.passing = not any(word in said.lower() for word in LASTING)
    return error


def known(line: str) -> bool:
    return any(word in line.lower() for words, _ in REASONS for word in words)


def what_to_do(host: Host, said: str, known_as: str | None = None) -> str:
    ssh = " ".join([*(["-p", str(host.port)] if host.port else []), host.login])
    text = said.lower()
    found = next((hint for words, hint in REASONS if any(word in text for word in words)), "does `ssh {ssh}` work?")
    known = known_as or called(host.name, host.port or 22)
    return found.format(known=shlex.quote(known), ssh=ssh)


def called(name: str, port: int) -> str:
    """Return what known_hosts calls a host (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT")."""
    return name if port == 22 else f"[{name}]:{port}"


def lost_way(host: Host, said: str) -> LostWayError:
    """Return the error for a way that was lost while a command ran."""
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    reason = f" ({lines[-1]})" if lines else ""
    return LostWayError(
        f"the way to {host.login} was lost{reason}: nothing is known of what the command did there",
        hint="the same again is harmless, once there is a way",
    )


def forbidden(host: Host, said: str) -> ForbiddenError:
    """Return the error for a port that could not be led back here."""
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    return ForbiddenError(
        f"{host.login} leads no port back here: {lines[-1] if lines else 'it gave no reason'}",
        hint="its sshd_config may say `AllowTcpForwarding no` or `PermitListen`; without it things go another way",
    )
