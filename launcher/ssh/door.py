"""The way to a box and to a run on it: which target a run was sent to, and how its agent is called."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from launcher import profiles, remote
from launcher.box.model import State, state_from
from launcher.cache import Cache
from launcher.errors import DiskFullError, TargetError, UsageError
from launcher.profiles.model import Profile
from launcher.progress import SILENT, Progress
from launcher.store import keys

if TYPE_CHECKING:
    from launcher.remote.model import Shell
    from launcher.store.objects import Store

AGENT = "launcher.box.agent"
TOOLS = "tools/"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """Where a run was sent: what `runs/<run>/targets/<n>.json` says of it."""

    number: int
    target: str
    host: str | None
    kind: str
    ship: str
    folder: str
    when: str = ""
    who: str | None = None


@dataclass(frozen=True, kw_only=True)
class Door:
    """A box that answers: the way there, its profile with an absolute folder, and launcher's tools on it."""

    shell: Shell
    profile: Profile
    tools: str

    def ask(self, name: str, argument: Mapping[str, Any]) -> Any:
        """Call a function of the box's agent: one round trip. Raises what it raises, and TargetError."""
        from launcher.remote.agent import call

        said = {"shared": self.profile.shared, **argument}
        return call(self.shell, self.tools, name, said, setup=self.profile.setup, module=AGENT)


def heard(told: Any, where: str) -> State:
    """Read a state that a box tells; a person's terminal takes no orders from it. Raises TargetError."""
    try:
        found = state_from(told)
    except (TypeError, AttributeError, KeyError) as e:
        raise TargetError(
            f"{where} tells a state that can't be read: {e}", hint="is a newer launcher there? the same again"
        ) from e
    return replace(found, why=printable(found.why), node=printable(found.node), gpus=tuple(map(printable, found.gpus)))


def printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


@contextlib.contextmanager
def opened(
    profile: Profile, *, shell: Shell | None = None, tools: str | None = None, progress: Progress = SILENT
) -> Iterator[Door]:
    """Give the door to a box: it gets launcher's tools if it lacks them, unless they are named.

    Where a full disk can't take them, those of another version serve: who wants to free room there has to get in.
    Raises TargetError, DiskFullError.
    """
    with contextlib.closing(remote.open(profile)) if shell is None else contextlib.nullcontext(shell) as way:
        if tools is not None:
            yield Door(shell=way, profile=profile, tools=tools)
            return
        shared, made = entered(way, profile, progress)
        yield Door(shell=way, profile=replace(profile, shared=shared), tools=made)


def entered(way: Shell, profile: Profile, progress: Progress) -> tuple[str, str]:
    """Return launcher's folder on a box, and that of the tools. Raises TargetError, DiskFullError."""
    from launcher.remote.contact import contact
    from launcher.remote.delivery import prepare

    try:
        site, made = prepare(way, profile, [], Cache(), progress)
    except DiskFullError:
        site = contact(way, profile)
        older = sorted(path for path in site.there if path.startswith(TOOLS))
        if not older:
            raise
        made = f"{site.shared}/{older[-1]}"
        progress.note(f"{profile.name} has no room for this version's tools: those of another one are asked")
    return site.shared, made


def sent(opened: Store, run: str) -> tuple[Sent, ...]:
    """Return where a run was sent, oldest first; empty for one that was sent nowhere. Raises a LauncherError."""
    found = []
    wanted = [entry.key for entry in opened.list(keys.targets(run))]
    for key, data in sorted(opened.get_many(wanted)) if wanted else ():
        if data is not None:
            number = int(key.rpartition("/")[2].partition(".")[0])
            told = json.loads(data)
            known = {name: told[name] for name in Sent.__dataclass_fields__ if name in told}
            found.append(Sent(**{**known, "number": number}))
    return tuple(found)


def last_sent(opened: Store, run: str) -> Sent | None:
    """Return where a run was sent last; None for one that was sent nowhere."""
    found = sent(opened, run)
    return found[-1] if found else None


def profile_of(told: Sent) -> Profile:
    """Return the profile of the target that a run was sent to: by its name here, else one made of its host.

    Raises UsageError where the name stands for another host on this machine, TargetError where nothing tells the host.
    """
    found = known(told.target)
    names = [told.target, *profiles.names()] if told.host else [told.target]
    for one in map(known, names):
        if one is not None and (one.kind, one.host) == (told.kind, told.host):
            return replace(one, shared=told.folder)
    if told.host is None or told.kind != "ssh":
        raise TargetError(f"there is no target {told.target} on this machine", hint="`launcher target add` makes one")
    if found is not None:
        raise UsageError(
            f"the target {told.target} is {found.host} on this machine, and the run was sent to {told.host}",
            hint=f"`launcher target add NAME --ssh {told.host}` under a name that is free, then --on NAME",
        )
    return Profile(name=told.target, kind="ssh", host=told.host, shared=told.folder)


def known(name: str) -> Profile | None:
    """Return a target of this machine; None where there is none of that name."""
    try:
        return profiles.load(name)
    except UsageError:
        return None
