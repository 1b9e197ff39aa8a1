"""What the runner is told: `attempt.json`, read and checked. The format is in docs/reference/runner.md."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1

TIMES = {
    "grace_s": 30.0,  # from the first SIGTERM, SIGINT or SIGHUP to SIGKILL
    "flush_s": 60.0,  # after the command's end: give up when nothing got into the store for so long
    "stop_flush_s": 15.0,  # the same after a stop signal
    "ship_s": 2.0,  # how often logs and metrics go to the store
    "heartbeat_s": 20.0,
    "look_s": 1.0,  # how often to look for finished checkpoints
    "quiet_s": 3.0,  # a checkpoint file counts as finished when it was closed and unchanged for so long
    "quiet_folder_s": 10.0,  # and a folder: its files may come one after another
    "left_s": 2.0,  # what is left of the command's process group has so long between SIGTERM and SIGKILL
    "retry_s": 0.5,  # the limit of the first pause after the store refused something; it doubles, up to 30 s
    "restore_s": 60.0,  # how long to try to read a store that doesn't answer, before the command starts
}
LEASE_BEATS = 3  # so many heartbeats that didn't come give the run free; `lease_s` among the times says otherwise


LIMITS = {
    "hold_bytes": 20 << 30,  # of finished checkpoints that wait for the store; and never over a tenth of the free disk
    "spool_bytes": 1 << 30,  # of logs that wait for the store
}


class AttemptError(Exception):
    """The attempt can't be supervised. The message is for a person."""


class Attempt:
    """One attempt of one run. All folders are absolute."""

    def __init__(self, told: dict[str, Any], folder: str) -> None:
        """Raises KeyError, TypeError or ValueError where something is missing or odd."""
        if told["version"] != VERSION:
            raise ValueError(f"version {told['version']} is not {VERSION}")
        self.job: dict[str, Any] = told["job"]
        self.run: str = self.job["run"]
        self.argv: list[str] = list(self.job["argv"])
        self.number = int(told["attempt"])
        self.store: str | dict[str, Any] = told["store"]  # a URL, or an Access as JSON
        self.folder: str = told.get("folder", folder)
        self.cwd: str = told.get("cwd", "/workspace")
        self.environment: dict[str, str] = told.get("environment", {})
        self.passed: list[str] = told.get("pass", [])
        self.host: dict[str, Any] = told.get("host", {})
        self.requeue = bool(told.get("requeue", False))
        self.claims_now = told.get("claim", "wait") == "now"  # who started it has seen the one before die
        self.follows = told.get("role", "leader") == "follower"  # another node of the attempt leads, and records
        self.nodes = int((self.job.get("resources") or {}).get("nodes") or 1)
        self.given: list[str] = told.get("given", [])  # device files of GPUs of which no driver tells
        self.times: dict[str, float] = {**TIMES, **told.get("times", {})}
        self.lease_s = float(self.times.get("lease_s") or LEASE_BEATS * self.times["heartbeat_s"])
        self.limits: dict[str, int] = told.get("limits", {})
        self.own_session = bool(told.get("own_session", False))  # nobody else's processes share the runner's session
        if not self.run or not self.argv or self.number < 1:
            raise ValueError("run and argv must not be empty, and attempts count from 1")

    def path(self, *names: str) -> str:
        """Return a path below the run's folder."""
        return os.path.join(self.folder, *names)


def read(path: str) -> Attempt:
    """Read `attempt.json`. Raises AttemptError."""
    try:
        with open(path, "rb") as stream:
            return Attempt(json.load(stream), os.path.dirname(os.path.abspath(path)))
    except OSError as e:
        raise AttemptError(f"{path}: {e.strerror}") from e
    except KeyError as e:
        raise AttemptError(f"{path}: the key {e} is missing") from e
    except (AttributeError, TypeError, ValueError) as e:
        raise AttemptError(f"{path}: {e}") from e
