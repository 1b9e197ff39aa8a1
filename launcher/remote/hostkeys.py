"""Meeting a machine whose host key nobody here knows: it is shown, asked for, and kept where ssh itself keeps it.

Nothing is learned in silence. The key is learned into a file of our own, over a connection that logs in nowhere, and
moves to the person's known_hosts when somebody has said that it is the right one. Jump hosts are met one by one, the
nearest first. A key that is another than before is refused, and nothing is written. Source: ssh(1), ssh_config(5).
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.digest import sha256_bytes
from launcher.errors import TargetError
from launcher.process import run
from launcher.remote.fabric import KNOWN_HOSTS, Fabric, hops
from launcher.remote.host import Host, files_in, no_way, parse
from launcher.remote.model import Shell
from launcher.remote.openssh import OpenSSH
from launcher.remote.ssh_settings import known_as, settings_of, strict_config

MEET_S = 20
PATIENCE_S = 300  # a jump host may ask a person for something
MOST_HOPS = 8
KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512,rsa-sha2-256")


@dataclass(frozen=True, kw_only=True)
class HostKey:
    """A key that a machine has shown, and has proved to hold. `line` is what known_hosts gets."""

    name: str  # as known_hosts has it: box.example.org, [box.example.org]:2222
    kind: str  # such as ssh-ed25519
    fingerprint: str  # SHA256:..., as ssh shows it
    line: str


Decide = Callable[[HostKey], bool]


def introduce(shell: Shell, decide: Decide, wanted: Collection[str] = ()) -> None:
    """Meet the machine that a shell leads to, and those on the way: keys that are not known are decided upon.

    `wanted` are fingerprints (SHA256:...) that are taken without asking; where there are some, no other is taken.

    Raises TargetError when a key is refused, has changed, or nobody answers; and whatever `decide` raises.
    """
    if isinstance(shell, Fabric):
        met_by_fabric(shell, decide, wanted)
    elif isinstance(shell, OpenSSH) and not shell.is_open():
        for host, through in way(shell.host):
            meet(host, through, decide, wanted)


def way(host: Host, depth: int = 0) -> Iterator[tuple[Host, str | None]]:
    """Yield the machines on the way to a host, and that itself, each with the ProxyJump that leads to it (None: as
    its own settings say). Raises TargetError when the settings lead in a circle."""
    if depth > MOST_HOPS:
        raise TargetError(f"the way to {host.login} has no end: jump hosts lead to each other", hint="see ProxyJump")
    jump = settings_of(host).get("proxyjump", "none")
    words = [] if jump == "none" else jump.split(",")
    for at, word in enumerate(words):
        if at == 0:
            yield from way(parse(word), depth + 1)
        else:
            yield parse(word), ",".join(words[:at])
    yield host, None


def meet(host: Host, through: str | None, decide: Decide, wanted: Collection[str]) -> None:
    """See whether a host is known; where it isn't, decide, and keep its key. Raises TargetError."""
    shown = learned(host, through)
    if shown is None:
        return
    file = own_file(host, settings_of(host).get("userknownhostsfile", ""))
    if wanted and shown.fingerprint not in wanted:
        others = (learned(host, through, kind) for kind in KINDS if shown.kind not in kind)
        shown = next((one for one in others if one and one.fingerprint in wanted), None) or refused(shown, wanted)
    elif not wanted and not decide(shown):
        raise not_taken(shown)
    keep(file, shown.line)


def learned(host: Host, through: str | None, kind: str | None = None) -> HostKey | None:
    """Return the key that a host shows, None when it is known here. Nobody is logged in.

    Raises TargetError when it has changed, or nobody answers.
    """
    settings = settings_of(host)
    with tempfile.TemporaryDirectory(prefix="launcher-") as folder:
        file = Path(folder) / "known_hosts"
        options = {
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": " ".join(
                f'"{path}"' for path in (file, *files_in(settings.get("userknownhostsfile", "")))
            ),
            "UpdateHostKeys": "no",
            "PreferredAuthentications": "none",
            "BatchMode": "yes",
            "ControlPath": "none",
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            "RemoteCommand": "none",
            "ConnectTimeout": str(MEET_S),
            "LogLevel": "ERROR",
            **({"ProxyJump": through} if through else {}),
            **({"HostKeyAlgorithms": kind} if kind else {}),
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        args = ["ssh", "-T", "-F", str(strict_config()), *words, *host.words, "true"]
        done = run(args, check=False, timeout_s=PATIENCE_S)
        text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    said = done.stderr.decode(errors="replace")
    proved = done.returncode != 255 or "permission denied" in (said.strip().splitlines() or [""])[-1].lower()
    if not proved:
        if kind:
            return None  # it has no such key
        raise changed(host, said, known_as(host, settings)) if "HAS CHANGED" in said else no_way(host, said)
    return key_of(host, settings, text) if text.strip() else None


def key_of(host: Host, settings: dict[str, str], text: str) -> HostKey:
    """Read what ssh wrote into a known_hosts file: one key, perhaps under several names, hashed or not."""
    _, kind, key = text.splitlines()[0].split()[:3]
    shown = known_as(host, settings)
    return HostKey(name=shown, kind=kind, fingerprint=fingerprint(base64.b64decode(key)), line=text)


def fingerprint(key: bytes) -> str:
    digest = base64.b64encode(bytes.fromhex(sha256_bytes(key))).decode()
    return "SHA256:" + digest.rstrip("=")


def own_file(host: Host, setting: str) -> Path:
    """Return the file that a new key goes to, of a UserKnownHostsFile. Raises TargetError when it keeps none."""
    files = files_in(setting)
    if not files:
        hint = "remove `UserKnownHostsFile` from its part of ~/.ssh/config: else anybody could answer in its place"
        raise TargetError(f"your ssh keeps no host keys for {host.name}, so it can't be known again", hint=hint)
    return files[0]


def keep(file: Path, line: str) -> None:
    """Add lines to a file of known hosts, as ssh would: in one piece, at the end. Raises TargetError."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        torn = file.exists() and not file.read_bytes().endswith(b"\n") and file.stat().st_size > 0
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab", closefd=True) as stream:
            stream.write(b"\n" * torn + line.rstrip("\n").encode() + b"\n")
    except OSError as e:
        raise TargetError(f"{file} can't be written: {e.strerror}", hint="is it yours?") from e


def refused(shown: HostKey, wanted: Collection[str]) -> HostKey:
    """Raise TargetError for a key that is none of those that were named."""
    says = f"{shown.name} shows the key {shown.kind} {shown.fingerprint}, and not {' or '.join(wanted)}"
    raise TargetError(says, hint="is it the right machine, and the fingerprint whole? Nothing was sent to it")


def not_taken(shown: HostKey) -> TargetError:
    hint = "compare the fingerprint with the one that its provider shows; nothing was sent to it"
    return TargetError(f"the key of {shown.name} was not taken", hint=hint)


def unknown(shown: HostKey) -> TargetError:
    """Return the error for a key that nobody is there to decide upon."""
    hint = (
        "compare it with what the provider shows, or `ssh-keygen -lf` of /etc/ssh/ssh_host_*_key.pub there; when it is "
        f"the same: --host-key {shown.fingerprint}"
    )
    return TargetError(f"the host key of {shown.name} is not known here: {shown.kind} {shown.fingerprint}", hint=hint)


def changed(host: Host, said: str, known: str) -> TargetError:
    """Return the error for a key that is another than before, with the one that was shown."""
    found = re.search(r"SHA256:\S+", said)
    error = no_way(host, said, known)
    if found is None:
        return error
    says = f"{error.problems[0].message}; it shows {found[0].rstrip('.')}"
    return TargetError(says, hint=error.problems[0].hint)


def met_by_fabric(shell: Fabric, decide: Decide, wanted: Collection[str]) -> None:
    """Open the connection, deciding about each key on the way as it comes. Raises TargetError."""
    import paramiko

    class Asking(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        """What paramiko asks about a key that it doesn't know."""

        def __init__(self, ssh_config: Any) -> None:
            self.ssh_config = ssh_config

        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            shown = shown_by(hostname, key, self.ssh_config)
            if wanted and shown.fingerprint not in wanted:
                refused(shown, wanted)
            if not wanted and not decide(shown):
                raise not_taken(shown)
            keep(own_file(shell.host, str(self.ssh_config.get("userknownhostsfile", KNOWN_HOSTS))), shown.line)

    for one in hops(shell.connection):
        one.client.set_missing_host_key_policy(Asking(one.ssh_config))
    shell.connect()


def shown_by(name: str, key: Any, ssh_config: Any) -> HostKey:
    """Make a host key of paramiko's; its line hides the name where the person's settings say so."""
    from paramiko import HostKeys

    hides = str(ssh_config.get("hashknownhosts", "no")).lower() == "yes"
    written = HostKeys.hash_host(name) if hides else name
    line = f"{written} {key.get_name()} {key.get_base64()}"
    return HostKey(name=name, kind=key.get_name(), fingerprint=fingerprint(key.asbytes()), line=line)
