"""Containers in a Docker engine, 20.10 or newer, through its SDK: what the sandbox does, in the engine's words."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from launcher.errors import TargetError
from launcher.target.gpus import cdi_names
from launcher.target.gpus import name_of as gpu_name
from launcher.target.model import Container, Ending, StillRunning, Unusable

if TYPE_CHECKING:
    from docker import DockerClient

LABEL = "launcher.run"
TMPFS = {"/tmp": "rw,exec,nosuid,nodev,mode=1777"}  # an engine's own default forbids to execute there
ANSWER_S = 10
STOP_S = 120  # between the SIGTERM of an engine that stops and its SIGKILL; the runner has limits of its own
GUARDED = ("read_only", "cap_drop", "security_opt")
OF_HOST = (*GUARDED, "mounts", "tmpfs", "shm_size", "init", "network_mode", "device_requests")
"""What of the words below belongs to the engine's HostConfig."""


class Docker:
    """A Runtime. The engine is the one that DOCKER_HOST and the docker CLI's settings name."""

    name = "docker"

    def __init__(self, reference: str | None = None) -> None:
        """`reference` is what the engine has the image by already; None: it is sent from the cache where it lacks."""
        self.reference = reference

    def refusal(self) -> str | None:
        """Return why there is no engine, or None when one answers."""
        from docker.errors import DockerException

        try:
            with contextlib.closing(connect()) as client:
                client.ping()
        except (DockerException, OSError) as e:
            return f"no engine answers: {first_line(e)}"
        return None

    def start(self, container: Container) -> DockerProcess:
        """Load the image where the engine lacks it, and start. Raises TargetError."""
        from docker.errors import DockerException

        from launcher.image.export import load_into_docker

        try:
            client = connect()
        except DockerException as e:
            raise Unusable(f"no Docker engine answers: {first_line(e)}", hint="`docker info` tells more") from e
        try:
            tag = (
                there(client, container, self.reference)
                if self.reference
                else load_into_docker(container.image, client)
            )
            clear(client, container.run)
            return DockerProcess(client, tag, container)
        except BaseException as e:
            client.close()
            if isinstance(e, DockerException):
                raise TargetError(f"Docker refused: {first_line(e)}", hint="`docker info` tells more") from e
            raise


def there(client: DockerClient, container: Container, reference: str) -> str:
    """Return the reference of an image that the engine has. Raises TargetError where it is not that image."""
    from launcher.image.export import loaded_layers

    if loaded_layers(client, reference) != container.image.diff_ids:
        raise TargetError(
            f"the Docker engine has no image {reference} with the layers that it should have",
            hint="launch again: that brings it",
        )
    return reference


def connect() -> DockerClient:
    import docker

    return docker.from_env(timeout=max(ANSWER_S, 60))


def gpu_request(container: Container, known: Iterable[str] = ()) -> list[Any]:
    """Return what asks for the container's GPUs: by the CDI names that the engine knows, else as `--gpus` does.

    For the latter the engine calls NVIDIA's hook (Docker, "GPU support"). Pure.
    """
    from docker.types import DeviceRequest

    if not container.gpus:
        return []
    if names := cdi_names(container.gpus, known):
        return [DeviceRequest(driver="cdi", device_ids=names)]
    return [DeviceRequest(device_ids=[gpu_name(gpu) for gpu in container.gpus], capabilities=[["gpu"]])]


def cdi_devices(client: DockerClient) -> list[str]:
    """Return the CDI names that the engine has found (`docker info`, from Docker 28 on)."""
    found = client.info().get("DiscoveredDevices") or []
    return [str(device.get("ID")) for device in found if device.get("Source") == "cdi"]


def options(container: Container, cdi: Iterable[str] = ()) -> dict[str, Any]:
    """Return what the engine is asked for, in the words of the SDK. `cdi` are names that the engine knows. Pure."""
    from docker.types import Mount

    return {
        "name": name_of(container.run),
        "labels": {LABEL: container.run},
        "entrypoint": [container.argv[0]],
        "environment": dict(container.env),
        "working_dir": container.cwd,
        "user": f"{container.user}:{container.group}",
        "mounts": [
            Mount(mount.target, str(mount.source), type="bind", read_only=not mount.writable)
            for mount in sorted(container.mounts, key=lambda mount: mount.target.count("/"))
        ],
        "tmpfs": TMPFS,
        "shm_size": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2,  # as a tmpfs of the kernel has
        "read_only": True,
        "init": True,
        "network_mode": "host" if container.network else "none",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "stdin_open": False,
        "tty": False,
        "device_requests": gpu_request(container, cdi),
    }


def create(client: DockerClient, tag: str, container: Container, cdi: Iterable[str] = ()) -> Any:
    """Create the container. By the SDK's lower part, as the upper one knows no `stop_timeout`: an engine that stops
    would leave ten seconds for a last checkpoint."""
    api: Any = client.api
    told = options(container, cdi)
    of_host = {name: told.pop(name) for name in OF_HOST}
    host = api.create_host_config(**of_host)
    made = api.create_container(tag, list(container.argv[1:]), **told, host_config=host, stop_timeout=STOP_S)
    return client.containers.get(made["Id"])


def name_of(run: str) -> str:
    return f"launcher-{run}"


def clear(client: DockerClient, run: str) -> None:
    """Remove what a killed launcher left of this run. Raises StillRunning when it is still running."""
    from docker.errors import NotFound

    try:
        left = client.containers.get(name_of(run))
    except NotFound:
        return
    if left.status == "running":
        raise StillRunning(
            f"an attempt of {run} is still running, in the container {left.name}",
            hint=f"`launcher logs -f {run}` follows it; `docker stop {left.name}` ends it",
        )
    left.remove(force=True)


class DockerProcess:
    """A running container; its output is passed on byte for byte."""

    def __init__(self, client: DockerClient, tag: str, container: Container) -> None:
        self.client = client
        cdi = cdi_devices(client) if container.gpus else []
        self.container: Any = create(client, tag, container, cdi)
        try:
            wanted = {"stream": 1, "stdout": 1, "stderr": 1}
            self.socket: Any = client.api.attach_socket(str(self.container.id), wanted)
            self.pump = threading.Thread(target=pass_on, args=(self.socket,), daemon=True)
            self.pump.start()
            self.container.start()
        except BaseException:
            self.container.remove(force=True)
            raise

    def signal(self, number: int) -> None:
        """Pass a signal on. One that comes when all is over changes nothing."""
        from docker.errors import APIError

        try:
            self.container.kill(signal=number)
        except APIError as e:
            if e.status_code not in (404, 409):
                raise TargetError(f"Docker did not pass the signal on: {first_line(e)}") from e

    def wait(self) -> Ending:
        """Wait for the end, and remove the container."""
        from docker.errors import DockerException

        try:
            code = int(self.container.wait(timeout=None)["StatusCode"])
            self.pump.join(timeout=ANSWER_S)
            self.container.remove(force=True)
        except (DockerException, OSError) as e:
            return Ending(lost=f"the Docker engine stopped answering: {first_line(e)}")
        finally:
            self.client.close()
        return Ending(code=code)


def pass_on(stream: Any) -> None:
    """Write what comes through an attached socket to this process's stdout and stderr, and close it."""
    from docker.utils.socket import frames_iter

    try:
        for descriptor, data in frames_iter(stream, tty=False):  # type: ignore[no-untyped-call]
            while data:
                data = data[os.write(descriptor, data) :]
    finally:
        stream._response.close()  # the SDK leaves both to the garbage collector
        stream.close()


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
