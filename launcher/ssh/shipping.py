"""Who writes to the store: the box itself, or whoever is attached to it."""

from __future__ import annotations

from typing import Literal

from launcher.errors import TargetError
from launcher.profiles.model import Profile
from launcher.store import folder_of
from launcher.store.access import Access

Ship = Literal["direct", "relay"]


def ship(profile: Profile, access: Access) -> Ship:
    """Return who writes to a store: as the profile says, else the box where it can.

    A folder is this machine's, so it is relayed to; so is everything for a box that reaches no network outside.
    Raises TargetError for a store that is this process's alone, and for a folder that the box was to write to.
    """
    if access.url.startswith("memory:"):
        raise TargetError("a store in memory is this process's alone", hint="name a bucket or a folder by --store")
    folder = folder_of(access.url)
    if profile.ship == "direct" and folder is not None:
        raise TargetError(
            f"the store {folder} is a folder of this machine, and {profile.name} is another",
            hint="name a bucket by --store, or let the target have `ship: auto`",
        )
    if profile.ship != "auto":
        return profile.ship
    return "relay" if folder is not None or profile.outbound is False else "direct"
