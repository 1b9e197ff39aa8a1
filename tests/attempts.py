"""Attempts for tests: the runner as a real process with its own bundle, over a folder store or another."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import launcher
from launcher import records
from launcher import store as stores
from launcher.store.access import Access
from tests.patience import LONG_S, PATIENCE

PACKAGE = Path(launcher.__file__).parent
QUICK = {
    "ship_s": 0.2,
    "heartbeat_s": 0.3,
    "look_s": 0.1,
    "quiet_s": 0.3,
    "quiet_folder_s": 0.3,
    "left_s": 0.5,
    "retry_s": 0.05,
}


def make_bundle(folder: Path) -> Path:
    """Make what is mounted at /opt/launcher: exactly the parts that the contract names."""
    (folder / "launcher").mkdir(parents=True)
    for name in ("__init__.py", "errors.py", "digest.py", "findings.py", "gpu", "runner", "store"):
        (folder / "launcher" / name).symlink_to(PACKAGE / name)
    spec = importlib.util.find_spec("obstore")
    assert spec is not None and spec.origin is not None
    (folder / "obstore").symlink_to(Path(spec.origin).parent)
    run = folder / "run.py"
    run.write_text(f"import sys; sys.path.insert(0, {str(folder)!r})\nfrom launcher.runner import main; main()\n")
    return run


class Started(subprocess.Popen[bytes]):
    """A runner that doesn't outlive a test that failed: without this, `with` would wait for its end for ever."""

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        if kind is not None and self.poll() is None:
            self.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(timeout=15)
            self.kill()
        super().__exit__(kind, value, traceback)


class Bench:
    """One run in one folder: start attempts of it, and look at what they left."""

    def __init__(self, root: Path, run: str = "run-1", seen: Access | None = None, own: Access | None = None) -> None:
        """`seen` is the store as the runner gets to it, a folder by default; `own` as the test itself does."""
        self.root, self.run = root, run
        self.seen = seen.to_json() if seen else f"file://{root}/store"
        self.folder = root / "folder"
        self.cwd = root / "workspace"
        for path in (self.folder, self.cwd):
            path.mkdir(parents=True, exist_ok=True)
        self.bundle = root.parent / "bundle" / "run.py"
        if not self.bundle.exists():
            make_bundle(self.bundle.parent)
        self.store = stores.open(own or seen or str(root / "store"))  # type: ignore[arg-type]

    def start(self, argv: list[str], attempt: int = 1, *, job: dict[str, Any] | None = None, **told: Any) -> Any:
        """Start an attempt; its stdout and stderr are pipes."""
        whole = {"run": self.run, "name": "trial", "argv": argv, "outputs": ["**"], "seed": 7, **(job or {})}
        records.submit(self.store, whole, attempt=attempt)
        env = told.pop("env", {})
        times = {**QUICK, **told.pop("times", {})}
        config = {
            "version": 1,
            "job": whole,
            "attempt": attempt,
            "store": self.seen,
            "cwd": str(self.cwd),
            "environment": {"PATH": os.environ["PATH"]},
            "times": times,
            **told,
        }
        path = self.folder / "attempt.json"
        path.write_text(json.dumps(config))
        cache = {"PYTHONPYCACHEPREFIX": str(self.bundle.parent.parent / "pycache"), "PATH": os.environ["PATH"]}
        command = [sys.executable, "-I", "-S", "-B", str(self.bundle), str(path)]
        return Started(command, env={**cache, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def go(self, argv: list[str], attempt: int = 1, **told: Any) -> subprocess.CompletedProcess[bytes]:
        """Run an attempt to its end."""
        with self.start(argv, attempt, **told) as process:
            out, err = process.communicate(timeout=LONG_S)
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def python(self, script: str, attempt: int = 1, **told: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a Python script as the command."""
        return self.go(self.script(script), attempt, **told)

    def script(self, text: str) -> list[str]:
        path = self.cwd / "script.py"
        path.write_text("import os, sys, time, signal, json\n" + text)
        return [sys.executable, "-u", str(path)]

    def record(self) -> records.Record:
        return records.load(self.store, self.run)

    def events(self, kind: str) -> list[dict[str, Any]]:
        told = [json.loads(self.store.get(entry.key)) for entry in self.store.list(f"runs/{self.run}/events/")]
        return [event for event in told if event["kind"] == kind]

    def logs(self, attempt: int | None = None) -> bytes:
        """Return all log chunks, whole."""
        prefix = f"runs/{self.run}/logs/" + (f"{attempt:04d}/" if attempt else "")
        return b"".join(self.store.get(entry.key) for entry in self.store.list(prefix))


def without_progress(stderr: bytes) -> bytes:
    """Return what else was said: where storing takes a while, the runner tells how far it is."""
    return b"".join(line for line in stderr.splitlines(keepends=True) if not line.startswith(b"launcher: storing"))


def wait_for(condition: Callable[[], Any], timeout_s: float = 20) -> Any:
    """Wait until something is true; return it."""
    end = time.monotonic() + timeout_s * PATIENCE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"did not come true within {timeout_s * PATIENCE} s")
