"""Forgetting checkpoints that `keep` does not keep, once a newer one is safe.

Manifests are deleted first, then the blobs that no manifest names any more: whoever is killed in between leaves
garbage, which `launcher vault gc --runs` names, and no checkpoint that lacks a file.
"""

from __future__ import annotations

import json

from launcher.runner.keeping import RULES, Checkpoint, retained, step_of
from launcher.runner.scores import Scores
from launcher.runner.sealed import unsealed
from launcher.store import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from launcher.runner.attempt import Attempt
    from launcher.runner.claims import Claim
    from launcher.runner.contents import Contents
    from launcher.store.objects import Store

    Manifest = dict[str, Any]


class Retention:
    """What one attempt knows of the run's checkpoints. For the thread that commits them."""

    def __init__(
        self,
        attempt: Attempt,
        claim: Claim,
        contents: Contents,
        tell: Callable[..., None],
        damaged: Collection[str] = (),
    ) -> None:
        """`tell` posts an event, by its kind and facts; `damaged` are manifests that no rule is to keep."""
        self.attempt, self.claim, self.contents, self.tell = attempt, claim, contents, tell
        self.keep: dict[str, Any] = attempt.job.get("keep") or {}
        self.wanted = any(self.keep.get(rule) is not None for rule in RULES)
        self.scores = Scores(attempt, self.keep.get("best") or "")
        self.known: dict[str, Manifest] | None = None  # those that count
        self.dead: dict[str, str] = {}  # blobs that are to be deleted: key -> sha256
        self.damaged = set(damaged)
        self.told_unknown = False

    def rows(self) -> int:
        """Return how many rows of metrics there are now: what a manifest says under `rows`."""
        return self.scores.look() if self.wanted else 0

    def apply(self, store: Store, key: str, manifest: Manifest) -> list[str]:
        """Forget what the commit of this manifest has made superfluous; return the keys of those manifests.

        Only for a manifest whose maker has checked the claim after creating it. What fails is tried again at the next
        commit. Raises Superseded, and a LauncherError of the store.
        """
        if not self.wanted:
            return []
        known = self.known = {**(self.inherited(store) if self.known is None else self.known), key: manifest}
        self.scores.look()
        gone = self.forgettable(store, known)
        for old in gone:
            self.forget(store, old)
        self.delete_blobs(store)
        return gone

    def inherited(self, store: Store) -> dict[str, Manifest]:
        """Read the manifests that count from before; those that are gone or can't be read are none.

        One that seems unreadable is asked for again: it may have been damaged on its way, and then its blobs would be
        taken for nobody's.
        """
        self.scores.look_back(store)
        found = {}
        for key, data in store.get_many(self.claim.inherits):
            if data is not None and (manifest := readable(data) or readable(store.get(key))) is not None:
                found[key] = manifest
        return found

    def forgettable(self, store: Store, known: dict[str, Manifest]) -> list[str]:
        """Return the keys that no rule keeps, nor a record that was written, oldest first."""
        found = [self.seen(key, manifest) for key, manifest in known.items() if key not in self.damaged]
        if self.keep.get("best") and all(checkpoint.value is None for checkpoint in found):
            self.tell_unknown()
        gone = sorted(set(known) - retained(found, self.keep), key=keys.numbers)
        written = recorded(store, self.attempt.run) if gone else set()
        return [key for key in gone if key not in written]

    def seen(self, key: str, manifest: Manifest) -> Checkpoint:
        at = keys.numbers(key)
        step = step_of(manifest["name"], at[1])
        return Checkpoint(key, at, step, self.scores.at(manifest, step))

    def tell_unknown(self) -> None:
        if not self.told_unknown and len(self.known or ()) > 1:
            self.told_unknown = True
            name = self.keep["best"]
            self.tell("problem", text=f"keep: no checkpoint has a value of the metric `{name}` yet; all of them stay")

    def forget(self, store: Store, key: str) -> None:
        """Delete a manifest. It is told before: a record must not name what is gone."""
        assert self.known is not None
        self.claim.check(store)
        manifest = self.known[key]
        name, number, attempt = manifest["name"], manifest["seq"], manifest["attempt"]
        self.tell("forgotten", key=key, name=name, number=number, of_attempt=attempt, bytes=manifest["bytes"])
        store.delete(key)
        del self.known[key]
        for line in manifest["files"]:
            if blob := keys.blob_of(self.attempt.run, line):
                self.dead[blob] = line["sha256"]

    def delete_blobs(self, store: Store) -> None:
        """Delete the blobs of forgotten checkpoints that none of the others names."""
        named = {keys.blob_of(self.attempt.run, line) for one in (self.known or {}).values() for line in one["files"]}
        dead = [key for key in self.dead if key not in named]
        if dead:
            self.claim.check(store)
            for key in dead:
                self.contents.deleting(self.dead[key], key)
            store.delete_many(dead)
        self.dead = {}


def readable(data: bytes) -> Manifest | None:
    """Return a manifest, or None for what is none."""
    try:
        manifest: Manifest = unsealed(data)
        known = {name: manifest[name] for name in ("name", "seq", "attempt", "bytes", "files")}
    except (KeyError, TypeError, ValueError):
        return None
    return manifest if isinstance(known["files"], list) else None


def recorded(store: Store, run: str) -> set[str]:
    """Return the manifests that a record of the run names: a run that had ended and goes on has one."""
    from launcher.errors import ObjectMissingError

    try:
        told = json.loads(store.get(keys.record(run)))
    except ObjectMissingError:
        return set()
    return {str(checkpoint["key"]) for checkpoint in told.get("checkpoints") or () if "key" in checkpoint}
