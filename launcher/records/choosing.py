"""Choosing what to fetch of a run: its outputs or some of them, the newest, the best or a named checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.errors import Problem, StoreError, UsageError
from launcher.runner import claims, history, keeping
from launcher.runner.outputs import matches
from launcher.store import keys
from launcher.store.objects import Store

NEAREST = 10
Manifest = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A file to fetch to `path` (relative), or a symbolic link to make there. Size in bytes."""

    path: str
    key: str = ""
    sha256: str = ""
    size: int = 0
    mode: int = 0o644
    link: str | None = None


def outputs(store: Store, run: str, key: str, patterns: Sequence[str] = ()) -> list[Piece]:
    """Return the files of an outputs' manifest that a pattern fits (`*`, `**`, or a folder); all without patterns.

    Raises UsageError for patterns that fit none, StoreError for a manifest that is none.
    """
    manifest = read(store, key)
    found = [
        piece(line, lambda line: keys.output(run, manifest["attempt"], line["path"]), line["path"])
        for line in manifest["files"]
        if not patterns or any(matches(line["path"], pattern) for pattern in patterns)
    ]
    idle = [pattern for pattern in patterns if not any(matches(one.path, pattern) for one in found)]
    if idle:
        some = ", ".join(sorted(line["path"] for line in manifest["files"])[:NEAREST])
        raise UsageError.of(
            Problem(message=f"no output fits `{pattern}`", hint=f"there are {some}") for pattern in idle
        )
    return found


def checkpoints(store: Store, run: str) -> list[Manifest]:
    """Return the manifests of the checkpoints that count, oldest first, each with its `key`."""
    counting = claims.counting(store, run)
    found = dict(store.get_many(counting))
    return [{**json.loads(data), "key": key} for key in counting if (data := found[key]) is not None]


def forgotten(store: Store, run: str) -> list[Mapping[str, Any]]:
    """Return the events that tell which checkpoints `keep` removed, oldest first."""
    return [event for event in history.read(store, run).events if event["kind"] == "forgotten"]


def choose(store: Store, run: str, wanted: str) -> Manifest:
    """Return a checkpoint by its name (of several the newest), or the `newest`, or the `best` by the run's `keep`.

    Raises UsageError that says what there is, and what `keep` removed.
    """
    found = checkpoints(store, run)
    if wanted == "newest" and found:
        return found[-1]
    if wanted == "best" and found:
        return best(store, run, found)
    named = [manifest for manifest in found if manifest["name"] == wanted]
    if named:
        return named[-1]
    raise no_checkpoint(store, run, wanted, found)


def no_checkpoint(store: Store, run: str, wanted: str, found: Sequence[Manifest]) -> UsageError:
    removed = [event for event in forgotten(store, run) if event["name"] == wanted]
    names = ", ".join(manifest["name"] for manifest in found[-NEAREST:])
    hint = f"there are {names}" if names else "there is none in the store"
    if removed:
        return UsageError(
            f"the checkpoint {wanted} of {run} was removed at {removed[-1]['time']}, by `keep`", hint=hint
        )
    return UsageError(f"{run} has no checkpoint `{wanted}`" if found else f"{run} has no checkpoint", hint=hint)


def best(store: Store, run: str, found: Sequence[Manifest]) -> Manifest:
    """Return the best checkpoint by the metric that the run's `keep` names. Raises UsageError without one."""
    from launcher.runner.scores import Scores

    keep = json.loads(store.get(keys.job(run))).get("keep") or {}
    name = keep.get("best")
    if not name:
        hint = "name one: `launcher show` lists them, `launcher show --curve METRIC` draws a metric"
        raise UsageError(
            f"the spec of {run} says no metric by which a checkpoint is the best (`keep: best`)", hint=hint
        )
    scores = Scores(Past(run), name)  # type: ignore[arg-type]
    scores.look_back(store)
    by_key = {manifest["key"]: manifest for manifest in found}
    rated = [rate(manifest, scores.at) for manifest in found]
    rated = [one for one in rated if one.value is not None]
    if not rated:
        raise UsageError(f"no checkpoint of {run} has a value of `{name}`", hint="`--checkpoint newest` takes the last")
    return by_key[keeping.best(rated, keep.get("mode", "min")).key]


class Past:
    """Stands for an attempt after all others, so that all of them are its past."""

    number = 10**9

    def __init__(self, run: str) -> None:
        self.run = run

    def path(self, *_: str) -> str:
        return os.devnull


def rate(manifest: Manifest, value_at: Callable[[Manifest, int], float | None]) -> keeping.Checkpoint:
    step = keeping.step_of(manifest["name"], manifest["seq"])
    return keeping.Checkpoint(manifest["key"], keys.numbers(manifest["key"]), step, value_at(manifest, step))


def pieces(run: str, manifest: Manifest) -> list[Piece]:
    """Return the files of a checkpoint, below its name."""
    name = manifest["name"]
    path = (lambda line: name) if manifest["kind"] == "file" else (lambda line: f"{name}/{line['path']}")
    return [piece(line, lambda line: keys.blob_of(run, line), path(line)) for line in manifest["files"]]


def piece(line: Mapping[str, Any], key_of: Callable[[Mapping[str, Any]], str], path: str) -> Piece:
    """Read a line of a manifest. Raises StoreError for a path that leads out of its folder."""
    if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise StoreError(f"a manifest names the path {path!r}, which leads out of its folder")
    if "link" in line:
        return Piece(path=path, link=line["link"])
    return Piece(path=path, key=key_of(line), sha256=line["sha256"], size=line["size"], mode=int(line["mode"], 8))


def read(store: Store, key: str) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(store.get(key))
        return {**manifest, "files": list(manifest["files"])}
    except (ValueError, KeyError, TypeError) as e:
        raise StoreError(f"{store.url}: {key} is no manifest: {e}") from e
