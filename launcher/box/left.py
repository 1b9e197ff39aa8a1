"""Containers that outlived the host side that started them: they are found again, and looked after to their end.

An engine's containers go on when their host side is killed. What those of Docker have printed meanwhile is in the
engine's log. Podman's are waited for, and what they print from then on is in the store alone; the sandbox and Apptainer
end with their host side.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from launcher.errors import TargetError
from launcher.process import run as run_program
from launcher.target.docker import ANSWER_S, connect, first_line, name_of
from launcher.target.layout import SECRETS
from launcher.target.model import Ending, Process

LIVES = ("running", "paused", "restarting")


def find(runtime: str, run: str, printed: Mapping[int, int]) -> Process | None:
    """Return the container that an attempt of a run left here, running or ended; None when there is none.

    `printed` says how many bytes of stdout and stderr are known. Raises TargetError when the engine doesn't answer.
    """
    if runtime == "docker":
        return of_docker(run, printed)
    if runtime == "podman" and shutil.which("podman"):
        return of_podman(run)
    return None


def lives(process: Process) -> bool:
    """Tell whether a container that was found had not ended by then."""
    return not isinstance(process, DockerLeft) or process.container.status in LIVES


def of_docker(run: str, printed: Mapping[int, int]) -> Process | None:
    from docker.errors import DockerException, NotFound

    client = None
    try:
        client = connect()
        container = client.containers.get(name_of(run))
        if container.status not in ("created", "dead", "removing"):
            return DockerLeft(client, container, printed)
        container.remove(force=True)
    except NotFound:
        pass
    except (DockerException, OSError) as e:
        if client:
            client.close()
        raise TargetError(f"the Docker engine doesn't answer: {first_line(e)}") from e
    if client:
        client.close()
    return None


class DockerLeft:
    """A container of Docker that somebody else started. What it has printed beyond `printed` is passed on."""

    def __init__(self, client: Any, container: Any, printed: Mapping[int, int]) -> None:
        self.client, self.container = client, container
        self.pumps = [
            threading.Thread(target=self.pump, args=(number, printed[number]), daemon=True) for number in (1, 2)
        ]
        for pump in self.pumps:
            pump.start()

    @property
    def secrets(self) -> Path | None:
        """The folder of the store's credentials that it has; None where it has none."""
        mounts = self.container.attrs.get("Mounts") or []
        return next((Path(one["Source"]) for one in mounts if one.get("Destination") == SECRETS), None)

    def pump(self, number: int, known: int) -> None:
        """Run in a thread. An engine whose log can't be read tells nothing: the store's logs have it."""
        from docker.errors import DockerException

        which = {"stdout": number == 1, "stderr": number == 2}
        with contextlib.suppress(DockerException, OSError):
            for data in beyond(self.container.logs(**which, stream=True, follow=True), known):
                while data:
                    data = data[os.write(number, data) :]

    def signal(self, number: int) -> None:
        """Pass a signal on. One that comes when all is over changes nothing."""
        from docker.errors import DockerException

        with contextlib.suppress(DockerException):
            self.container.kill(signal=int(number))

    def wait(self) -> Ending:
        """Wait for the end, and remove the container."""
        from docker.errors import DockerException

        try:
            code = int(self.container.wait(timeout=None)["StatusCode"])
            for pump in self.pumps:
                pump.join(timeout=ANSWER_S)
            self.container.remove(force=True)
        except (DockerException, OSError) as e:
            return Ending(lost=f"the Docker engine stopped answering: {first_line(e)}")
        finally:
            self.client.close()
        return Ending(code=code)


def beyond(pieces: Iterable[bytes], known: int) -> Iterable[bytes]:
    """Yield what comes after the first `known` bytes."""
    for piece in pieces:
        if len(piece) > known:
            yield piece[known:]
        known = max(0, known - len(piece))


def of_podman(run: str) -> Process | None:
    from launcher.target.podman import ALIVE, status_of

    return PodmanLeft(name_of(run)) if status_of(name_of(run)) in ALIVE else None


class PodmanLeft:
    """A container of Podman that somebody else started."""

    def __init__(self, name: str) -> None:
        self.name = name

    def signal(self, number: int) -> None:
        run_program(["podman", "kill", "--signal", str(int(number)), self.name], check=False)

    def wait(self) -> Ending:
        """Wait for the end; such a container removes itself (`--rm`)."""
        told = run_program(["podman", "wait", self.name], check=False).stdout.split()
        if told and told[-1].isdigit():
            return Ending(code=int(told[-1]))
        return Ending(lost="it ended before anybody could ask how")
