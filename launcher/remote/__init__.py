"""Ways to a machine that is not this one: one small interface, and who speaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launcher.remote.model import Done, Shell

if TYPE_CHECKING:
    from launcher.profiles.model import Profile

__all__ = ["Done", "Shell", "open"]


def open(profile: Profile) -> Shell:
    """Return the way to a profile's login node; this machine where the profile names no host.

    Nothing is asked yet: the first command connects. Raises TargetError when `host` is none.
    """
    if profile.host is None:
        from launcher.remote.here import Here

        return Here()
    if profile.transport == "fabric":
        from launcher.remote.fabric import Fabric

        return Fabric(profile.host)
    from launcher.remote.openssh import OpenSSH

    return OpenSSH(profile.host)
