"""The way to a site's Slurm: its functions are called here on a login node, and through the agent from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.profiles.model import Profile
from launcher.slurm.model import Submission

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
        """What tells sites apart, whatever people call their targets; without a cluster's name only the folder."""
        return f"{self.profile.cluster or ''}:{self.profile.shared}"

    def owns(self, one: Submission) -> bool:
        """Tell whether a submission was meant for this site.

        Where one side doesn't know what the cluster is called (`launcher doctor` finds that out), the target's name
        decides: two clusters may have a folder of the same path.
        """
        (theirs, _, folder), (ours, _, own) = one.site.partition(":"), self.site.partition(":")
        return folder == own and (theirs == ours if theirs and ours else one.target == self.profile.name)


def here(profile: Profile) -> Door:
    """Return the door for somebody who is on the login node with the site's `setup` done, or on a node."""

    def ask(name: str, argument: Mapping[str, Any]) -> Any:
        from launcher.slurm.agent import FUNCTIONS

        return FUNCTIONS[name](argument)

    return Door(profile=replace(profile, shared=absolute(profile.shared)), ask=ask)


def absolute(folder: str) -> str:
    """Return a folder of this machine as the site's contact tells it: with the home folder in `~`'s place."""
    return str(Path(folder).expanduser()) if folder.startswith("~") else folder


def open(shell: Shell, profile: Profile, tools: str, shared: str | None = None) -> Door:
    """Return the door to a site; `tools` is the folder of launcher there, `shared` the absolute path of its folder."""

    def ask(name: str, argument: Mapping[str, Any]) -> Any:
        from launcher.remote.agent import call
        from launcher.slurm.agent import FUNCTIONS

        return call(shell, tools, name, argument, setup=profile.setup, functions=FUNCTIONS)

    return Door(profile=replace(profile, shared=shared or profile.shared), ask=ask)
