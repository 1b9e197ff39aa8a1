"""Which objects of a box's store may come into the real one: a box is somebody else's machine, and is not believed.

What it sends may be of its own run alone, of the kinds that a runner makes there, under keys as launcher.store.keys
makes them. The job and where the run was sent are told by clients, never by boxes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from launcher.box.stock import RANKS, epoch, rank
from launcher.errors import StoreError
from launcher.store import keys

ATTEMPT, NUMBER, SHA256 = r"\d{4,9}", r"\d{8,12}", r"[0-9a-f]{64}"
SHAPES = re.compile(
    rf"""record\.json | claims/{NUMBER}(-inherits)?\.json | heartbeats/{ATTEMPT}\.json
    | (events|logs|metrics)/(?P<attempt>{ATTEMPT})/{NUMBER}(\.jsonl?)?
    | blobs/sha256/[0-9a-f]{{2}}/([\w.-]{{1,64}}/)?(?P<sha256>{SHA256})
    | checkpoints/{ATTEMPT}-{NUMBER}/manifest\.json
    | outputs/{ATTEMPT}/manifest\.json | outputs/{ATTEMPT}/files/(?P<path>.{{1,4096}})""",
    re.VERBOSE | re.ASCII,
)
DOCUMENT_BYTES = 64 << 20  # of what is read into the memory here, and by everybody who looks at the run
HEARTBEAT_BYTES = 1 << 20
GATE, CONTENT, HEARTBEAT = RANKS.index("gate"), RANKS.index("content"), RANKS.index("heartbeat")


def admit(run: str, told: Mapping[str, Any], data: bytes, before: int) -> str | None:
    """Look at a piece of an object of `run`; return its key relative to the run, None for the journal's.

    `before` is the place of what came last. Raises StoreError.
    """
    key = str(told["key"])
    own = key.removeprefix(keys.run(run)) if key.startswith(keys.run(run)) else None
    if own is None:
        entry = re.escape(keys.journal("0", 0, run).removeprefix("journal/0-0000-"))
        mine = re.fullmatch(rf"journal/[0-9TZ.]{{1,32}}-{ATTEMPT}-{entry}", key, re.ASCII)
        if not mine or data or told["rank"] != GATE or before != GATE:
            raise refused(run, key, "is not of this run")
        return None
    if not is_made_there(own):
        raise refused(run, key, "is nothing that a run makes")
    if told["rank"] != rank(own) or rank(own) < before:
        raise refused(run, key, "comes out of turn")
    check_size(run, key, rank(own), int(told["at"]) + len(data))
    found = SHAPES.fullmatch(own)
    if found and found["sha256"] and told["last"] and told["sha256"] != found["sha256"]:
        raise refused(run, key, f"has the content {told['sha256']}")
    return own


def is_made_there(own: str) -> bool:
    """Tell whether a key below `runs/<run>/` is one that a runner writes; no part of it leads elsewhere."""
    found = SHAPES.fullmatch(own)
    parts = own.split("/")
    return bool(found) and not any(part in ("", ".", "..") for part in parts) and own.isprintable() and "\\" not in own


def check_size(run: str, key: str, place: int, size: int) -> None:
    most = {CONTENT: None, HEARTBEAT: HEARTBEAT_BYTES}.get(place, DOCUMENT_BYTES)
    if most is not None and size > most:
        raise refused(run, key, f"has more than {most} bytes")


def check_document(run: str, own: str, data: bytes) -> None:
    """Look at an event, a claim or a record before it is written: everybody who looks at the run reads it.

    Raises StoreError.
    """
    try:
        told = json.loads(data)
        wrong = not isinstance(told, dict)
        if not wrong and own.startswith("events/"):
            found = (told["attempt"], told["seq"])
            wrong = found != keys.numbers(keys.run(run) + own) or not isinstance(told["kind"], str)
        elif not wrong and (number := epoch(own)):
            wrong = told["epoch"] != number or type(told["attempt"]) is not int or told["attempt"] < 1
    except (KeyError, TypeError, ValueError, RecursionError):
        wrong = True
    if wrong:
        raise refused(run, keys.run(run) + own, "can't be what its key says")


def refused(run: str, key: str, why: str) -> StoreError:
    return StoreError(
        f"the box sent of {run} what is not taken from it: {key[:200]!r} {why}",
        hint="is the box yours? what is in the store was not changed by this",
    )
