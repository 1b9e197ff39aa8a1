"""Podman as an Engine, through its command line. It pulls as the user itself: no daemon, and no other network."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from launcher.errors import DiskFullError, ProcessError, TargetError
from launcher.process import pipe, run
from launcher.remote.engine import Known, known

NO_ROOM = "no space left on device"


class PodmanEngine:
    """The Podman of this user."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = json.loads(ask("info", "--format", "json"))

    def images(self) -> Sequence[Known]:
        ids = ask("image", "ls", "--quiet", "--no-trunc").decode().split()
        return [known(one) for one in json.loads(ask("image", "inspect", *sorted(set(ids))))] if ids else []

    def find(self, name: str) -> Known | None:
        done = run(["podman", "image", "inspect", name], check=False)
        return known(json.loads(done.stdout)[0]) if done.returncode == 0 else None

    def keeps_blobs(self) -> bool:
        """Tell what containers/storage does: a layer is known by all that lie below it, too."""
        return False

    def free_bytes(self) -> int | None:
        with suppress(OSError, KeyError, AttributeError):
            room = os.statvfs(self.told["store"]["graphRoot"])
            return room.f_bavail * room.f_frsize
        return None

    def pull(self, reference: str) -> None:
        ask("pull", "--quiet", "--tls-verify=false", f"docker://{reference}")

    def load(self, archive: Iterable[bytes]) -> None:
        done = pipe(["podman", "load", "--quiet"], archive)
        if done.returncode != 0:
            raise refused(done.stderr.decode(errors="replace"))

    def tag(self, name: str, tag: str) -> None:
        ask("tag", name, tag)

    def untag(self, name: str) -> None:
        found = self.find(name)
        if found and all(name.partition("@")[0] in other for other in found.names):
            ask("rmi", found.id)  # it has no other name
        elif found:
            for other in found.names:
                if name.partition("@")[0] in other:
                    run(["podman", "untag", found.id, other], check=False)


def ask(*words: str) -> bytes:
    """Ask Podman. Raises TargetError or DiskFullError."""
    try:
        done = run(["podman", *words], check=False, hint="is Podman installed there?")
    except ProcessError as e:
        raise TargetError(e.problems[0].message, hint=e.problems[0].hint) from e
    if done.returncode != 0:
        raise refused(done.stderr.decode(errors="replace"))
    return done.stdout


def refused(why: str) -> TargetError | DiskFullError:
    last = why.strip().splitlines()[-1] if why.strip() else "it gave no reason"
    if NO_ROOM in why:
        return DiskFullError(f"no room for the image: {last}", hint="free some there: `podman system df` tells of what")
    return TargetError(f"Podman can't take the image: {last}", hint="`podman info` there tells more")
