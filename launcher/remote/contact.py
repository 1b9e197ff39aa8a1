"""First contact: one round trip that tells what a login node is like, and what of ours is there already."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import TargetError
from launcher.remote import facts
from launcher.remote.model import Done, Shell
from launcher.remote.words import after_setup, packed

if TYPE_CHECKING:
    from launcher.profiles.model import Profile

OLDEST = (3, 10)
CONTACT_S = 120
NO_SUCH_PROGRAM = 127
MODULES = "name one by `python` in the target, or bring one by `setup`, such as `module load python/3.11`"
OURS = ("where", "runtime")  # what of a site it doesn't tell itself


@dataclass(frozen=True, kw_only=True)
class Site:
    """A login node, as it tells of itself. Paths are its own; `there` holds those that were asked for and found."""

    where: str
    python: tuple[int, int, int]
    executable: str  # the interpreter itself, not one of a virtual environment
    machine: str  # as uname says: x86_64, aarch64
    libc: tuple[str, str]  # such as ("glibc", "2.28"); empty where it is another
    node: str
    user: str
    uid: int
    shared: str  # absolute
    writable: bool
    free_bytes: int | None
    there: frozenset[str]
    runtime: str = ""  # of the profile
    parts: Mapping[str, int] = field(default_factory=dict)  # what has come of files whose sending was cut, in bytes


def contact(shell: Shell, profile: Profile, wanted: Sequence[str] = ()) -> Site:
    """Ask a login node for its facts and for paths relative to the shared folder: one round trip.

    Raises TargetError when there is no way there, no Python that is new enough, or no shared folder to write to.
    """
    asked = json.dumps({"shared": profile.shared, "wanted": list(wanted)}).encode()
    done = shell.run(program(profile, facts), stdin=asked, timeout_s=CONTACT_S)
    site = read(shell.where, done, profile)
    if site.python < OLDEST:
        version = ".".join(map(str, site.python))
        raise TargetError(f"{profile.python} on {shell.where} is {version}, and 3.10 is needed", hint=MODULES)
    if not profile.shared:
        raise TargetError(f"the target {profile.name} names no shared folder", hint="set `shared` in it")
    if not site.writable:
        raise TargetError(
            f"{site.user} may not write to {site.shared} on {shell.where}",
            hint="name another folder by `shared` in the target: one that login node and nodes see",
        )
    return site


def program(profile: Profile, module: Any, *args: str) -> list[str]:
    """Return the words that run one of our modules there, before anything of ours is there."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    return after_setup(profile.setup, [profile.python, "-I", "-c", packed(source), *args])


def read(where: str, done: Done, profile: Profile) -> Site:
    """Read what the facts' program said; login files may have said something before it."""
    try:
        told = json.loads(done.stdout[done.stdout.index(b'{"python"') :])
        if done.code != 0:
            raise ValueError
        values: dict[str, Any] = {name: told[name] for name in Site.__dataclass_fields__ if name not in OURS}
        values |= {name: tuple(values[name]) for name in ("python", "libc")}
        return Site(where=where, runtime=profile.runtime, **{**values, "there": frozenset(values["there"])})
    except (ValueError, KeyError, TypeError) as e:
        said = done.stderr.decode(errors="replace").strip()[-1000:]
        if done.code == NO_SUCH_PROGRAM:
            raise TargetError(f"there is no program `{profile.python}` on {where}: {said}", hint=MODULES) from e
        raise TargetError(
            f"`{profile.python}` on {where} did not tell of itself (exit code {done.code}): {said}", hint=MODULES
        ) from e
