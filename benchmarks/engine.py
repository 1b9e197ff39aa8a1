"""A Docker engine of our own: its socket and data in one folder, ended with the benchmark."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_S = 60


@contextlib.contextmanager
def docker_engine() -> Iterator[str]:
    """Start dockerd without a bridge (root is needed); yield its DOCKER_HOST."""
    with tempfile.TemporaryDirectory(prefix="launcher-docker-") as name:
        folder = Path(name)
        host = f"unix://{folder}/docker.sock"
        args = ["dockerd", "-H", host, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
        args += ["--pidfile", f"{folder}/pid", "--bridge=none", "--iptables=false"]
        with (folder / "log").open("wb") as log:
            engine = subprocess.Popen(args, stdout=log, stderr=log, start_new_session=True)
        try:
            wait(host, folder, engine)
            yield host
        finally:
            engine.terminate()
            engine.wait(60)


def wait(host: str, folder: Path, engine: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while subprocess.run(["docker", "-H", host, "version"], capture_output=True).returncode:
        if engine.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"dockerd didn't start:\n{(folder / 'log').read_text()[-2000:]}")
        time.sleep(0.2)
