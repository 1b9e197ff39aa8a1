"""Outputs: at the end, the files of `outputs/` that the job's patterns keep go to the store, their manifest last."""

from __future__ import annotations

import json
import os
import time

from launcher.runner import pool
from launcher.runner.backoff import Backoff
from launcher.runner.blobs import Found, create, line_of, walk
from launcher.runner.clock import stamp
from launcher.runner.outbox import reason
from launcher.runner.shipping import TRIES, heals
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from launcher.runner.attempt import Attempt
    from launcher.runner.blobs import Sender
    from launcher.runner.outbox import Outbox
    from launcher.store.objects import Store


def kept(folder: str, patterns: Iterable[str]) -> list[Found]:
    """Return the files and links below a folder that a pattern keeps."""
    patterns = tuple(patterns)
    if not os.path.isdir(folder):
        return []
    return [file for file in walk(folder) if any(matches(file.path, pattern) for pattern in patterns)]


def matches(path: str, pattern: str) -> bool:
    """Tell whether a relative path fits a pattern: `*` and `?` stop at a slash, `**` does not, and `dir/` or `dir`
    means all that is below."""
    parts, wanted = path.split("/"), [part for part in pattern.split("/") if part not in ("", ".")]
    return fits(parts, wanted)


def fits(parts: list[str], wanted: list[str]) -> bool:
    from fnmatch import fnmatchcase

    if not wanted:
        return True  # what is below something that fits is kept as well
    if wanted[0] == "**":
        return len(wanted) == 1 or any(fits(parts[at:], wanted[1:]) for at in range(len(parts)))
    return bool(parts) and fnmatchcase(parts[0], wanted[0]) and fits(parts[1:], wanted[1:])


class Shipment:
    """The outputs of one attempt on their way, several at once. What waiting does not heal is tried a few times."""

    def __init__(self, attempt: Attempt, outbox: Outbox, sender: Sender, lose: Callable[[str], None]) -> None:
        self.attempt, self.outbox, self.sender, self.lose = attempt, outbox, sender, lose
        self.left: list[Found] = []
        self.tries: dict[str, int] = {}
        self.lines: list[dict[str, Any]] = []

    def work(self) -> list[dict[str, Any]]:
        """Store what fits the job's patterns; return the lines of a manifest, sorted by path."""
        found = kept(self.attempt.path("outputs"), self.attempt.job.get("outputs", ["**"]))
        for file in found:
            if file.kind == "other":
                self.lose(f"output {file.path}: is no file, folder or link")
        self.left = [file for file in found if file.kind != "other"]
        self.outbox.freight.expect(len(self.left), sum(file.size for file in self.left))
        backoff = Backoff(self.attempt.times["retry_s"])
        while self.left:
            self.round()
            if self.left:
                time.sleep(backoff.pause_s())
        return sorted(self.lines, key=lambda line: str(line["path"]))

    def round(self) -> None:
        """Try every file that is left once, unless the store stops answering."""
        tried, again = self.left, []
        results = pool.each(lambda file: ship(self.outbox.store(), self.attempt, file, self.sender), tried, 8, heals)
        for file, result in zip(tried, results, strict=True):
            if not isinstance(result, Exception):
                self.lines.append(result)
            elif self.failed(file, result):
                again.append(file)
        self.left = again

    def failed(self, file: Found, error: Exception) -> bool:
        """Return whether to try a file again; note it as missing otherwise."""
        if heals(error):
            return True
        tries = self.tries[file.path] = self.tries.get(file.path, 0) + 1
        if tries >= TRIES:
            self.lose(f"output {file.path}: {reason(error)}")
            self.outbox.freight.expect(-1, -file.size)
        return tries < TRIES


def ship(store: Store, attempt: Attempt, file: Found, sender: Sender) -> dict[str, Any]:
    """Put one output into the store; return its line for the manifest. Raises ChangedError, OSError, LauncherErrors.

    The command is gone by now, so nobody takes a file away while it is sent.
    """
    file = Found(file.full, file.path)  # as it is now: it may have changed since the last try
    line = line_of(file, sender.freight.moved)
    if "link" not in line:
        sender.send(store, keys.output(attempt.run, attempt.number, file.path), file, line, linked=True)
    else:
        sender.freight.moved(file.size, files=1)
    return line


def manifest(attempt: Attempt, files: list[dict[str, Any]], missing: list[str]) -> dict[str, Any]:
    """Return the manifest: every file with size and sha256, and the digest of them all."""
    return {
        "version": 1,
        "attempt": attempt.number,
        "time": stamp(),
        "digest": digest_of(files),
        "bytes": sum(file.get("size", 0) for file in files),
        "files": files,
        "missing": missing,
    }


def digest_of(files: list[dict[str, Any]]) -> str | None:
    """Return the tree digest of outputs, None when there are none. It does not depend on attempt or time."""
    if not files:
        return None
    from launcher.digest import tree_digest

    return tree_digest(
        (file["path"], "link", file["link"]) if "link" in file else (file["path"], file["mode"], file["sha256"])
        for file in files
    )


def commit(store: Store, attempt: Attempt, told: dict[str, Any]) -> None:
    """Write the manifest, once. One of the same bytes is ours: its answer was lost on the way."""
    create(store, keys.output_manifest(attempt.run, attempt.number), json.dumps(told).encode())
