"""What starts runs again after a reboot where no engine keeps them: systemd for this user, or cron.

Both call `python -m launcher.box.agent wake FOLDER`. Sources: systemd.service(5), loginctl(1) (enable-linger),
systemd-run(1); crontab(5) (@reboot, and `%`, which has to be escaped).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from launcher.box.model import Order
from launcher.cache import written_whole
from launcher.errors import TargetError
from launcher.process import run as run_program

WAYS = ("systemd", "cron")
UNIT = "launcher-wake.service"
TEXT = """[Unit]
Description=Go on with launcher's runs

[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=process
ExecStart={command}

[Install]
WantedBy=default.target
"""


def install(way: str, order: Order) -> None:
    """Let a reboot wake the runs of an order's folder. Raises ProcessError, TargetError, OSError."""
    own = Path(order.tools, "bin", "python3")
    words = [str(own), "-I", "-m", "launcher.box.agent", "wake", order.folder]
    if "\n" in order.folder:
        raise TargetError(f"{order.folder!r} can't be written into a line", hint="take another folder on the box")
    if way == "systemd":
        unit(words)
    else:
        crontab(words, order.folder)


def unit(words: Sequence[str]) -> None:
    """Write and enable a unit of this user, who may linger from now on."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = home / "systemd" / "user" / UNIT
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part:
        part.write_text(TEXT.format(command=" ".join(map(in_unit_file, words))))
    run_program(["systemctl", "--user", "daemon-reload"], timeout_s=20)
    run_program(["systemctl", "--user", "enable", UNIT], timeout_s=20)
    run_program(["loginctl", "enable-linger"], timeout_s=20)


def in_unit_file(word: str) -> str:
    """Quote a word for ExecStart= (systemd.service(5), "COMMAND LINES"; systemd.syntax(7), "QUOTING")."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def crontab(words: Sequence[str], folder: str) -> None:
    """Write our line into this user's table, in place of an older one for the same folder."""
    line = f"@reboot {shlex.join(words)} # launcher".replace("%", "\\%")
    mark = f"wake {shlex.quote(folder)} # launcher".replace("%", "\\%")
    there = run_program(["crontab", "-l"], check=False, timeout_s=20).stdout.decode(errors="surrogateescape")
    others = [one for one in there.splitlines() if not one.endswith(mark)]
    if [*others, line] != there.splitlines():
        table = "\n".join([*others, line, ""]).encode(errors="surrogateescape")
        run_program(["crontab", "-"], stdin=table, timeout_s=20)


def in_unit(run: str, argv: Sequence[str], log: Path) -> bool:
    """Start a host side as a unit of this user, which a logout doesn't end and systemd starts again when it is killed;
    tell whether that worked."""
    out = [f"--property=StandardOutput=append:{log}", f"--property=StandardError=append:{log}"]
    words = ["systemd-run", "--user", "--quiet", "--collect", f"--unit=launcher-{run}", "--property=Restart=on-failure"]
    return run_program([*words, *out, "--", *argv], check=False, timeout_s=20).returncode == 0
