"""What a Docker engine tells of itself: a program that is sent to a box and asks the engine's socket, as its SDK will.

It answers with one JSON object. No `docker` command is needed there. Written for Python 3.6 with nothing of ours, so
that a box with an old Python tells this, too. Source: Docker Engine API 1.41, /version and /info.
"""

# ruff: noqa: PTH110, PTH112, PTH118, PTH120, RET503, RET504, UP032

import errno
import http.client
import json
import os
import socket
import sys

PATIENCE_S = 8
USUAL = "unix:///var/run/docker.sock"


class Engine(http.client.HTTPConnection):
    """A connection to where the engine listens: a socket's path, or host and port."""

    def __init__(self, place):  # type: (str) -> None
        kind, _, address = place.partition("://")
        http.client.HTTPConnection.__init__(self, address if kind in ("tcp", "http") else "docker", timeout=PATIENCE_S)
        self.path = address if kind == "unix" else ""

    def connect(self):  # type: () -> None
        if not self.path:
            return http.client.HTTPConnection.connect(self)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self.path)

    def get(self, path):  # type: (str) -> dict[str, object]
        self.request("GET", path)
        answer = self.getresponse()
        said = answer.read().decode("utf-8", "replace")
        if answer.status != 200:
            raise ValueError("{}: {}".format(answer.status, said.strip()[:200]))
        found = json.loads(said)  # type: dict[str, object]
        return found


def main():  # type: () -> None
    """Answer one question."""
    place = os.environ.get("DOCKER_HOST") or USUAL
    told = {"place": place, "others": rootless() if place == USUAL else ""}  # type: dict[str, object]
    try:
        told.update(facts(Engine(place)))
    except (OSError, ValueError, http.client.HTTPException) as e:
        told["error"] = errno.errorcode.get(getattr(e, "errno", None) or 0, "") or type(e).__name__
        told["says"] = str(e)
    sys.stdout.write(json.dumps(told))


def facts(engine):  # type: (Engine) -> dict[str, object]
    info = engine.get("/info")
    root = str(info.get("DockerRootDir") or "")
    devices = info.get("DiscoveredDevices") or []
    return {
        "version": info.get("ServerVersion"),
        "storage": info.get("Driver"),
        "rootless": any("rootless" in str(one) for one in info.get("SecurityOptions") or []),  # type: ignore[attr-defined]
        "runtimes": sorted(info.get("Runtimes") or []),  # type: ignore[call-overload]
        "cdi": [str(one.get("ID")) for one in devices],  # type: ignore[attr-defined]
        "root": root,
        "free_mb": free_mb(root),
        "name": info.get("Name"),
    }


def rootless():  # type: () -> str
    """Return the place of this user's own engine, where there is one."""
    path = os.path.join(os.environ.get("XDG_RUNTIME_DIR") or "/run/user/{}".format(os.getuid()), "docker.sock")
    return "unix://" + path if os.path.exists(path) else ""


def free_mb(folder):  # type: (str) -> object
    while folder and not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize >> 20


if __name__ == "__main__":
    main()
