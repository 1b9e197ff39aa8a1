"""What a box's own store gets of a run before an attempt begins there: what it reads, and only what is missing.

For the first attempt that is the job and the word that it is queued. A later one goes on from what counts: events,
claims, checkpoints that count and their blobs, whichever machine made them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.box.lineage import Line
from launcher.box.stock import epoch, names
from launcher.digest import sha256_bytes
from launcher.errors import StoreError, TargetError
from launcher.profiles.places import Places
from launcher.progress import SILENT, Progress
from launcher.remote.delivery import send
from launcher.remote.items import Item
from launcher.remote.tools import python
from launcher.remote.words import after_setup
from launcher.runner import claims
from launcher.ssh.knowledge import Knowledge
from launcher.store import keys

if TYPE_CHECKING:
    from launcher.cache import Cache
    from launcher.profiles.model import Profile
    from launcher.remote.contact import Site
    from launcher.remote.model import Shell
    from launcher.store.objects import Store

MODULE = "launcher.box.parting"
SMALL = ("claims/", "events/", "heartbeats/")


def first(opened: Store, run: str, attempt: int) -> tuple[Item, ...]:
    """Return what the box's store needs for a first attempt, to go along with all else."""
    return tuple(small(opened, [keys.job(run), keys.event(run, attempt, 0)]))


def push(
    shell: Shell,
    profile: Profile,
    site: Site,
    tools: str,
    run: str,
    *,
    opened: Store,
    cache: Cache,
    progress: Progress = SILENT,
) -> None:
    """Bring what a later attempt reads to a box's store: two round trips, and nothing that is there already.

    What the box has of attempts that the real store doesn't know is put aside there first: that line of the run is
    given up. Raises TargetError, also while a host side of the run lives there, DiskFullError, errors of the store.
    """
    known = Knowledge(opened, run)
    known.load()
    wanted = needed(opened, run, known)
    there = parted(shell, profile, site, tools, run, known.line())
    missing = [key for key in wanted if key not in there]
    little = [known.prefix + key for key in missing if key.startswith(SMALL) or "/" not in key]
    with cache.scratch() as scratch:
        items = [*small(opened, little), *big(opened, known, [key for key in missing if is_big(key)], scratch)]
        send(shell, profile, site, items, [], progress)


def is_big(key: str) -> bool:
    return not key.startswith(SMALL) and "/" in key


def needed(opened: Store, run: str, known: Knowledge) -> list[str]:
    """Return keys relative to the run, blobs before the manifests that name them."""
    counting = [key for key in claims.counting(opened, run) if key.removeprefix(known.prefix) in known.keys]
    blobs: set[str] = set()
    for key, data in opened.get_many(counting) if counting else ():
        if data is not None:
            blobs |= names(key.removeprefix(known.prefix), data)
    if strange := blobs - known.keys:  # a box wrote the manifest: what it names may be a path of ours
        hint = "it can't be gone on from; `launcher show` tells of the others"
        raise StoreError(f"a checkpoint of {run} names what the store doesn't have: {min(strange)[:200]!r}", hint=hint)
    rest = sorted(key for key in known.keys if key.startswith(SMALL) or key in ("job.json", "record.json"))
    return [*sorted(blobs), *(key.removeprefix(known.prefix) for key in counting), *rest]


def parted(shell: Shell, profile: Profile, site: Site, tools: str, run: str, line: Line) -> frozenset[str]:
    """Put a strange line of the run on the box aside; return the keys that are there. Raises TargetError."""
    asked = {"shared": site.shared, "store": Places(site.shared).store(), "run": run, "line": line.to_json()}
    words = after_setup(profile.setup, [python(tools), "-I", "-m", MODULE])
    done = shell.run(words, stdin=json.dumps(asked).encode())
    with contextlib.suppress(ValueError, KeyError):
        told = json.loads(done.stdout[done.stdout.index(b'{"there"') :])
        if not told.get("alive"):
            return frozenset(told["there"])
        hint = f"`launcher attach {run}` follows it, `launcher cancel {run}` ends it"
        raise TargetError(f"{run} is under way on {profile.name}", hint=hint)
    said = done.stderr.decode(errors="replace").strip()[-1000:]
    raise TargetError(f"{shell.where} did not tell what it has of {run} (exit code {done.code}): {said}")


def small(opened: Store, wanted: Iterable[str]) -> list[Item]:
    """Return items of small objects, events before others that hang on them."""
    found = ((key, data) for key, data in opened.get_many(wanted) if data is not None)
    return [Item(path=place(key), source=data) for key, data in sorted(found)]


def big(opened: Store, known: Knowledge, wanted: Iterable[str], scratch: Path) -> list[Item]:
    """Return items of objects that need not fit into the memory: from the folder of the store, or brought here."""
    found = []
    for key in wanted:
        whole = known.prefix + key
        path = Path(opened.folder, whole) if opened.folder else scratch / sha256_bytes(whole.encode())
        if not opened.folder:
            opened.get_file(whole, path)
        found.append(Item(path=place(whole), source=path))
    return found


def place(key: str) -> str:
    """Return where an object of the box's store lies, relative to launcher's folder: keys of a folder are paths."""
    return f"{Places('').store()}/{key}"


def silent_since(opened: Store, run: str) -> float | None:
    """Return when the run gave its last sign in the real store (Unix time, s): its lease runs from there, and not from
    when the signs were copied to a box."""
    signs = [entry for part in ("events", "claims", "heartbeats") for entry in opened.list(f"{keys.run(run)}{part}/")]
    last = [
        entry.modified.timestamp() for entry in signs if epoch(entry.key) or not entry.key.endswith("00000000.json")
    ]
    return max(last, default=None)
