"""The way to a site's Slurm: its functions are called here on a login node, and through the agent from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from launcher.profiles.model import Profile

if TYPE_CHECKING:
    from launcher.remote.model import Shell

Ask = Callable[[str, Mapping[str, Any]], Any]


@dataclass(frozen=True, kw_only=True)
class Door:
    """A site: its profile, whose `shared` is an absolute path, and how its functions are called.

    `ask(name, argument)` raises what the function raises there, and TargetError when there is no way to it.
    """

    profile: Profile
    ask: Ask

    @property
    def site(self) -> str:
        """What tells sites apart, whatever people call their targets."""
        return f"{self.profile.cluster or self.profile.name}:{self.profile.shared}"


def here(profile: Profile) -> Door:
    """Return the door for somebody who is on the login node with the site's `setup` done, or on a node."""

    def ask(name: str, argument: Mapping[str, Any]) -> Any:
        from launcher.slurm.agent import FUNCTIONS

        return FUNCTIONS[name](argument)

    return Door(profile=profile, ask=ask)


def open(shell: Shell, profile: Profile, tools: str, shared: str | None = None) -> Door:
    """Return the door to a site; `tools` is the folder of launcher there, `shared` the absolute path of its folder."""

    def ask(name: str, argument: Mapping[str, Any]) -> Any:
        from launcher.remote.agent import call
        from launcher.slurm.agent import FUNCTIONS

        return call(shell, tools, name, argument, setup=profile.setup, functions=FUNCTIONS)

    return Door(profile=replace(profile, shared=shared or profile.shared), ask=ask)
