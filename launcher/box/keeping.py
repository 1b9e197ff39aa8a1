"""How a run's host side outlives the connection that started it, a crash, a restart of the engine and a reboot.

Where a Docker engine runs as root, it keeps the host side: in a small container `launcher-keep-<run>` of the job's own
image, which it starts again (launcher.box.keeper). Everywhere else the host side is a process of its own, which is
started again after a reboot by whatever the box has (launcher.box.boots), else by the next contact: every question to a
box wakes what is not over and has no living host side. All of this may be done twice.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path

from launcher.box import boots, credentials, keeper, state
from launcher.box.model import Order
from launcher.cache import written_whole
from launcher.errors import LauncherError, ProcessError, TargetError
from launcher.process import leave as leave_running

ENVIRONMENT = "environment.json"
KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME")
KEPT_FROM = ("DOCKER_", "LAUNCHER_", "CONTAINERS_")
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ssl_cert_file", "ssl_cert_dir")
START_S = 20.0  # from a start to the lock: a busy box
log = logging.getLogger(__name__)


def start(folder: Path) -> None:
    """Start the host side of a run that has none and is not over. Raises TargetError."""
    state.order(folder)  # what is none gets no folder
    with state.changing(folder):
        begin(folder)


def begin(folder: Path) -> None:
    """Do so in a run's folder that the caller may change. Raises TargetError."""
    order = state.order(folder)
    if state.is_alive(folder) or state.read(folder).over:
        return
    if not keeps(order) or not kept(folder, order):
        detached(folder, order)
    until = time.monotonic() + START_S
    while time.monotonic() < until and not (state.is_alive(folder) or state.read(folder).over):
        time.sleep(0.02)


def keeps(order: Order) -> bool:
    """Tell whether the engine may keep the host side: Docker's, as root, where nothing else was found to do so."""
    box = order.profile.box
    engine = next((one for one in box.engines if one.name == "docker"), None) if box else None
    return (
        order.profile.runtime == "docker"
        and not (engine and engine.rootless)
        and (box is None or box.boot in (None, "docker"))
    )


def kept(folder: Path, order: Order) -> bool:
    """Start the keeper; tell whether it is there."""
    write_environment(folder)
    try:
        keeper.start(folder, order, command(folder, order))
    except LauncherError as e:
        note(folder, f"no container keeps this, so it ends with the machine: {e.problems[0].message}")
        return False
    return True


def detached(folder: Path, order: Order) -> None:
    """Start the host side as a process of its own. Raises TargetError."""
    write_environment(folder)
    boot = order.profile.box.boot if order.profile.box else None
    try:
        if boot in boots.WAYS:
            boots.install(boot, order)
        if boot == "systemd" and boots.in_unit(order.run, command(folder, order), folder / state.LOG):
            return
    except (LauncherError, OSError) as e:
        note(folder, f"nothing starts this again after a reboot but the next contact: {e}")
    try:
        leave_running(command(folder, order), log=folder / state.LOG)
    except ProcessError as e:
        raise TargetError(f"the host side can't be started: {e.problems[0].message}", hint="launch again") from e


def command(folder: Path, order: Order) -> list[str]:
    return [*python(order), "-m", "launcher.box", str(folder)]


def python(order: Order) -> list[str]:
    """Return how launcher's programs are run on the box: by the Python of the tools, else by this one."""
    own = Path(order.tools, "bin", "python3")
    return [str(own) if own.exists() else sys.executable, *(["-I"] if sys.flags.isolated else [])]


def write_environment(folder: Path) -> None:
    """Keep what the host side needs of this process's environment, for starts that nobody is there for. In a file of
    this user alone: a proxy's URL may have a password in it, and `docker inspect` tells environments."""
    found = {name: value for name, value in os.environ.items() if is_kept(name)}
    with written_whole(folder / ENVIRONMENT) as part:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(found, stream)


def is_kept(name: str) -> bool:
    return name in KEPT or name.startswith(KEPT_FROM) or name.lower() in PROXIES


def load_environment(folder: Path) -> None:
    """Take the environment that was kept."""
    try:
        os.environ.update(json.loads((folder / ENVIRONMENT).read_bytes()))
    except (OSError, ValueError):
        return


def leave(order: Order) -> None:
    """Remove the keeper, as the last act of what it keeps."""
    if order.profile.runtime == "docker":
        try:
            keeper.remove(order.run)
        except LauncherError as e:
            log.warning("%s", e)


def wake(shared: str) -> None:
    """Start the host sides of all runs that are not over and have none. What can't be woken is told in its log.

    Credentials that a crash left of runs which are over go now.
    """
    credentials.sweep(shared)
    for folder in state.folders(shared):
        try:
            found = state.read(folder)
            if not found.alive and not found.over:
                start(folder)
        except (LauncherError, OSError) as e:
            note(folder, f"it could not be woken: {e}")


def note(folder: Path, text: str) -> None:
    """Write a line into a run's log."""
    log.warning("%s: %s", folder.name, text)
    with (folder / state.LOG).open("a") as stream:
        stream.write(f"{text}\n")
