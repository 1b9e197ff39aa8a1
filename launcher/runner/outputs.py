"""Outputs: at the end, the files of `outputs/` that the job's patterns keep go to the store, their manifest last."""

from __future__ import annotations

import json
import os

from launcher.runner.blobs import Found, upload, walk
from launcher.runner.clock import stamp
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from launcher.runner.attempt import Attempt
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


def ship(store: Store, attempt: Attempt, file: Found, moved: Callable[[], None]) -> dict[str, Any]:
    """Put one output into the store; return its line for the manifest. Raises as `blobs.upload` does."""
    if file.kind == "other":
        raise ValueError("is no file")
    return upload(store, file, lambda _: keys.output(attempt.run, attempt.number, file.path), moved)


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
    """Write the manifest, once."""
    store.create(keys.output_manifest(attempt.run, attempt.number), json.dumps(told).encode())
