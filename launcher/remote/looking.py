"""What a box is asked of an image: `python -m launcher.remote.looking`, called by launcher.remote.agent.

Nearly always the engine has the image. That is found out here, by one question to the engine's socket, before the
rooms that bring images are imported, and Docker's SDK, which takes longer than all the rest.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any

from launcher.remote.engine import Known, known, same
from launcher.remote.wire import image_from

SOCKET = "/var/run/docker.sock"
SCHEME = "unix://"
ANSWER_S = 30


class Local(http.client.HTTPConnection):
    """HTTP through a socket's file."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def peek(name: str) -> Known | None:
    """Return an image that Docker's engine holds; None also where it can't be asked so (DOCKER_HOST, no rights)."""
    host = os.environ.get("DOCKER_HOST") or SCHEME + SOCKET
    if not host.startswith(SCHEME):
        return None
    with suppress(OSError, http.client.HTTPException, ValueError, KeyError):
        with closing(Local(host.removeprefix(SCHEME))) as engine:
            engine.request("GET", f"/images/{name}/json")  # Docker Engine API, "Inspect an image"
            answer = engine.getresponse()
            said = answer.read()
        return known(json.loads(said)) if answer.status == 200 else None
    return None


def look(told: Mapping[str, Any]) -> dict[str, Any]:
    """Tell what the engine has of an image. Raises TargetError."""
    image = image_from(told["image"])
    if told["runtime"] == "docker" and (found := peek(image.tag)) and same(found, image):
        return {"there": True}
    from launcher.remote.taking import look as look_closely

    return look_closely(told)


def take(told: Mapping[str, Any]) -> dict[str, Any]:
    """Bring the image. Raises TargetError, DiskFullError."""
    from launcher.remote.taking import take as bring

    return bring(told)


if __name__ == "__main__":
    from launcher.remote.agent import serve

    serve({"look": look, "take": take})
    os._exit(0)  # threads that wait for an engine or for layers would hold it up
