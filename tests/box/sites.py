"""Numbers of sites, each used by one process at a time; what an owner who has died left is removed by the next."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from pathlib import Path

from tests.box import machine, network
from tests.box.model import PLACE, Parts, Site
from tests.box.processes import BoxError, call, end, identity, living, recorded

NUMBERS = range(1, 250)


def chosen() -> Site:
    """Choose a number that is not in use; what owners left who have died is removed."""
    with Path(PLACE.format("lock")).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        for left in Path("/tmp").glob(PLACE.format("*-gone-*").rpartition("/")[2]):
            if not Path("/proc", left.name.rpartition("-")[2]).exists():
                shutil.rmtree(left, ignore_errors=True)
        for number in NUMBERS:
            site = Site(number=number)
            if site.home.exists() and owner(site) is None:
                down(site)
            if not site.home.exists():
                site.home.mkdir()
                (site.home / "owner").write_text(identity(os.getpid()))
                return site
    raise BoxError("there are too many boxes")


def owner(site: Site) -> int | None:
    try:
        return living((site.home / "owner").read_text())  # type: ignore[no-any-return]
    except (OSError, ValueError):
        return None


def down(site: Site) -> None:
    """End all boxes of a site: processes by their recorded ids, then network, mounts, control groups and disks."""
    for home in sorted(site.home.glob("[0-9]*")):
        box = Parts(site=site, k=int(home.name), name="")
        machine.off(box)
        found = [pid for path in sorted((home / "run").glob("*")) if (pid := recorded(path)) is not None]
        end(found, number=signal.SIGKILL) if found else None
        call("umount", "-l", str(box.disk), check=False)
    network.down(site)
    machine.remove_groups(site)
    gone = site.home.rename(f"{site.home}-gone-{os.getpid()}")  # somebody else may have the number from now on
    shutil.rmtree(gone, ignore_errors=True)
    assert not gone.exists(), f"{gone} can't be removed"
