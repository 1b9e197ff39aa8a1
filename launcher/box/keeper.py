"""The container that keeps a host side: it does next to nothing but that the engine starts it again.

Its first act is chroot(2) into the host's file system, its second to become the user whose run it is, its third to
execute the Python of the tools there. So what is kept is an ordinary process of the host, in the host's own network,
process and IPC namespaces; it has the three capabilities which that takes, and no image of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.box.model import Order
from launcher.errors import TargetError
from launcher.target.docker import connect, first_line

if TYPE_CHECKING:
    from docker import DockerClient

LABEL = "launcher.keeps"
HOST = "/host"
STOP_S = 180  # between the SIGTERM of an engine that stops and its SIGKILL: a last checkpoint takes that long
ALIVE = ("running", "restarting", "paused")
BOOT = """import json, os, sys
told = json.loads(sys.argv[1])
os.chroot(told["root"])
os.chdir("/")
os.setgroups(told["groups"])
os.setgid(told["group"])
os.setuid(told["user"])
os.umask(0o022)
os.execve(told["argv"][0], told["argv"], told["env"])"""


def name_of(run: str) -> str:
    return f"launcher-keep-{run}"


def start(folder: Path, order: Order, argv: Sequence[str]) -> None:
    """Start the keeper of a run, unless it runs. Raises TargetError when the engine refuses."""
    from docker.errors import DockerException

    client = None
    try:
        client = connect()
        if status(client, order.run) not in ALIVE:
            made(client, order, argv)
    except (DockerException, OSError) as e:
        raise TargetError(f"Docker refused: {first_line(e)}", hint="`docker info` tells more") from e
    finally:
        if client:
            client.close()


def status(client: DockerClient, run: str) -> str | None:
    from docker.errors import NotFound

    try:
        return str(client.containers.get(name_of(run)).status)
    except NotFound:
        return None


def made(client: DockerClient, order: Order, argv: Sequence[str]) -> None:
    """Create and start a keeper; one that is there and does not run makes way."""
    from docker.errors import APIError, NotFound

    api: Any = client.api
    with contextlib.suppress(NotFound):
        api.remove_container(name_of(order.run), force=True)
    told = options(order, argv)
    host = api.create_host_config(**told.pop("host"))
    container = api.create_container(**told, host_config=host)
    try:
        api.start(container["Id"])
    except APIError:
        api.remove_container(container["Id"], force=True)
        raise


def options(order: Order, argv: Sequence[str]) -> dict[str, Any]:
    """Return what the engine is asked for, in the words of the SDK's API. Pure but for who this user is."""
    from docker.types import LogConfig, Mount

    told = {
        "root": HOST,
        "argv": list(argv),
        "user": os.getuid(),
        "group": os.getgid(),
        "groups": sorted({*os.getgroups(), os.getgid()}),
        "env": {name: os.environ[name] for name in ("HOME", "PATH", "USER", "LANG") if name in os.environ},
    }
    gpus = int(((order.job.get("resources") or {}).get("gpus") or {}).get("count") or 0)
    return {
        "image": order.reference or f"launcher:{order.image[:12]}",
        "name": name_of(order.run),
        "labels": {LABEL: order.run},
        "entrypoint": ["python3", "-I", "-S", "-c", BOOT],
        "command": [json.dumps(told)],
        "user": "0:0",
        "working_dir": "/",
        "stop_timeout": STOP_S,
        "host": {
            "mounts": [Mount(HOST, "/", type="bind", propagation="rslave")],
            "restart_policy": {
                "Name": "always"
            },  # an engine that was killed takes `unless-stopped` for stopped by hand
            "network_mode": "host",
            "pid_mode": "host",
            "ipc_mode": "host",
            "uts_mode": "host",
            "userns_mode": "host",
            "cap_drop": ["ALL"],
            "cap_add": ["SYS_CHROOT", "SETUID", "SETGID"],
            "security_opt": ["no-new-privileges", "label=disable"],
            "device_cgroup_rules": ["c *:* rwm"] if gpus else None,  # so that it may ask the driver for its GPUs
            "log_config": LogConfig(type="json-file", config={"max-size": "1m", "max-file": "1"}),
        },
    }


def remove(run: str) -> None:
    """Remove the keeper of a run, and with it whoever calls this from inside. Raises TargetError."""
    from docker.errors import DockerException, NotFound

    client = None
    try:
        client = connect()
        api: Any = client.api
        api.remove_container(name_of(run), force=True)
    except NotFound:
        return
    except (DockerException, OSError) as e:
        raise TargetError(f"the keeper of {run} can't be removed: {first_line(e)}") from e
    finally:
        if client:
            client.close()
