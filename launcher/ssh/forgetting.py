"""Carrying over what a run has forgotten: checkpoints that its own rules removed from the box's store.

Only what an event says was forgotten, what a newer checkpoint in both stores has superseded, what no record names, and
as long as no other machine has the run: its next attempt may need what this box no longer does. Manifests are deleted
first, then the blobs that no manifest names: whoever is killed between leaves garbage, and never half a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from launcher.box.stock import names
from launcher.runner.retention import recorded
from launcher.store import keys

if TYPE_CHECKING:
    from launcher.ssh.knowledge import Knowledge
    from launcher.store.objects import Store


class Forgetting:
    """Of one run, for one who relays it."""

    def __init__(self, opened: Store, run: str, known: Knowledge) -> None:
        self.opened, self.run, self.known = opened, run, known
        self.prefix = keys.run(run)
        self.read_events = False
        self.named: dict[str, frozenset[str]] = {}  # by manifest, of those in the real store
        self.dead: set[str] = set()  # blobs of manifests that were deleted here

    def forget(self, gone: Iterable[str], claims: Mapping[str, str]) -> None:
        """Delete what may go of `gone`, keys that the box's store lacks; `claims` are the box's, by epoch.

        Raises errors of the real store; what is left then goes the next time.
        """
        away = {key for key in gone if key in self.known.keys}  # a box names what it likes
        if any(claims.get(str(epoch)) != sha256 for epoch, (_, sha256) in self.known.claims.items()):
            return
        for key in self.superseded(away):
            self.delete(key)
        blobs = {key for key in away if key in self.dead or (key.startswith("blobs/") and self.alone())}
        if blobs:
            blobs -= frozenset().union(*self.manifests().values())
            self.opened.delete_many(self.prefix + key for key in blobs)
            self.known.keys -= blobs
            self.dead -= blobs

    def alone(self) -> bool:
        """Tell whether the run was never sent anywhere else: then blobs that nothing names are left of a round that was
        cut, and not on their way from another machine."""
        return sum(key.startswith("targets/") for key in self.known.keys) <= 1

    def superseded(self, away: set[str]) -> list[str]:
        """Return manifests that may go, oldest first."""
        there = [key for key in self.known.keys if key.startswith("checkpoints/")]
        newest = max((place(key) for key in there if key not in away), default=(0, 0))
        found = [key for key in there if key in away and place(key) < newest]
        if any(key not in self.known.forgotten for key in found):
            self.load_events()
        found = [key for key in found if key in self.known.forgotten]
        named = recorded(self.opened, self.run) if found else set()
        return sorted((key for key in found if self.prefix + key not in named), key=place)

    def load_events(self) -> None:
        """Read all events once: of what was forgotten before this one came."""
        if self.read_events:
            return
        self.read_events = True
        wanted = [self.prefix + key for key in self.known.keys if key.startswith("events/")]
        for _, data in self.opened.get_many(wanted):
            if data is not None:
                self.known.hear(data)

    def delete(self, key: str) -> None:
        self.dead |= self.manifests().pop(key, frozenset())
        self.opened.delete(self.prefix + key)
        self.known.keys.discard(key)

    def manifests(self) -> dict[str, frozenset[str]]:
        """Return what each manifest of the real store names; each is read once."""
        there = {key for key in self.known.keys if key.startswith("checkpoints/")}
        for key in set(self.named) - there:
            del self.named[key]
        wanted = [self.prefix + key for key in there - set(self.named)]
        for key, data in self.opened.get_many(wanted) if wanted else ():
            own = key.removeprefix(self.prefix)
            self.named[own] = names(own, data) if data is not None else frozenset()
        return self.named


def place(key: str) -> tuple[int, int]:
    """Return (attempt, number) of a checkpoint's manifest, by its key relative to the run."""
    attempt, _, number = key.split("/")[1].partition("-")
    return int(attempt), int(number)
