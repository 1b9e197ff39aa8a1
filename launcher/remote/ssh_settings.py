"""What the system's ssh reads and keeps: a person's settings, stricter ones of ours, a folder for sockets."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from launcher.digest import sha256_bytes
from launcher.errors import ProcessError, TargetError
from launcher.process import run
from launcher.remote.host import Host, called, config_file

SETTINGS_S = 30
LONGEST_SOCKET = 90  # sun_path is 108 bytes on Linux and 104 elsewhere, and ssh adds 17 while it makes one


def settings_of(host: Host) -> dict[str, str]:
    """Return what ssh itself makes of its files for a host; nobody is asked over the network.

    Raises TargetError when there is no ssh, or a file can't be read.
    """
    config = config_file()
    args = ["ssh", *(["-F", config] if config else []), "-G", *host.words]
    try:
        told = run(args, timeout_s=SETTINGS_S, hint='install OpenSSH\'s client, or take `transport = "fabric"`')
    except ProcessError as e:
        raise TargetError(f"ssh can't be asked of {host.name}: {e}", hint=e.problems[0].hint) from e
    lines = told.stdout.decode(errors="replace").splitlines()
    return {name: value for name, _, value in (line.partition(" ") for line in reversed(lines))}


def known_as(host: Host, settings: Mapping[str, str]) -> str:
    """Return what known_hosts calls a host, by its settings."""
    port = settings.get("port", "22")
    return settings.get("hostkeyalias") or called(settings.get("hostname", host.name), int(port))


def strict_config(control: Path | None = None) -> Path:
    """Return a file of settings that refuses unknown hosts and is a person's own files otherwise.

    A jump host is reached by a further ssh, which options of the command line don't reach; a file does, and of each
    setting the first counts (ssh_config(5)).
    """
    own = config_file()
    files = [own] if own else [str(Path("~/.ssh/config").expanduser()), "/etc/ssh/ssh_config"]
    text = "".join(["StrictHostKeyChecking yes\n", *(f'Include "{file}"\n' for file in files)])
    place = control_folder(control) / f"{sha256_bytes(text.encode())[:16]}.conf"
    if not place.exists():
        part = place.with_name(f"{place.name}.{os.getpid()}")
        part.write_text(text, encoding="utf-8")
        part.replace(place)
    return place


def control_folder(own: Path | None = None) -> Path:
    """Return a folder for sockets that belongs to this user and nobody else, with a short path.

    Not below the home, which may be on a file system without sockets. Raises TargetError when somebody else made it.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    folder = own or (Path(runtime) / "launcher-ssh" if runtime else Path(f"/tmp/launcher-ssh-{os.getuid()}"))
    if len(os.fsencode(folder)) > LONGEST_SOCKET - 18:
        folder = Path(f"/tmp/launcher-ssh-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise TargetError(
            f"{folder} should be a folder that only you may enter, and it is not",
            hint="remove it, or set XDG_RUNTIME_DIR to a folder of yours",
        )
    return folder
