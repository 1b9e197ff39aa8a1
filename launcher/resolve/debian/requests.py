"""What a spec asks of apt: `name` or `name=version`, and whether the suite has it at all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from launcher.errors import Problem, ResolveError
from launcher.resolve.debian.explain import elsewhere
from launcher.resolve.debian.universe import Universe

REQUEST = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]+)(?:=(?P<version>[A-Za-z0-9.+~:-]+))?")


def read_requests(apt: Sequence[str]) -> dict[str, str]:
    """Return the version ("" for any) by package name. Raises ResolveError with every word that is no request."""
    problems, wanted = [], dict[str, str]()
    for text in apt:
        match = REQUEST.fullmatch(text)
        if not match:
            problems.append(Problem(message=f"`{text}` is not an apt package", hint="write `name` or `name=version`"))
        elif wanted.get(match["name"]) and match["version"] and wanted[match["name"]] != match["version"]:
            problems.append(Problem(message=f"`{match['name']}` is asked for in two versions", hint="keep one of them"))
        else:
            wanted[match["name"]] = match["version"] or wanted.get(match["name"], "")
    if problems:
        raise ResolveError.of(problems)
    return wanted


def check_requests(world: Universe, wanted: Mapping[str, str], suite: str) -> None:
    """Refuse, all at once, what the suite doesn't have at all."""
    problems = [problem for name, version in wanted.items() if (problem := missing(world, name, version, suite))]
    if problems:
        raise ResolveError.of(problems)


def missing(world: Universe, name: str, version: str, suite: str) -> Problem | None:
    """Say why a request can't even begin to be met; None when it can."""
    if world.versions(name):
        return None
    providers = list(dict.fromkeys(c.name for c in world.providers(name)))
    if any(c.held for c in world.providers(name)) and not version:
        return None
    if providers and not version:
        hint = f"ask for one of {', '.join(providers)}"
        return Problem(message=f"`{name}` is a virtual package of {suite}", hint=hint) if len(providers) > 1 else None
    offered = world.offered(name)
    if offered:
        hint = f"{suite} has {', '.join(offered)}; write `{name}` for the newest"
        return Problem(message=f"{suite} has no version {version} of `{name}`", hint=hint)
    near = nearest(world, name)
    hint = f"did you mean {near}?" if near else f"look for its Debian name on a machine with {suite}: apt search {name}"
    if far := elsewhere(world):
        hint = f"{hint}; {far}" if near else far
    return Problem(message=f"{suite} has no package `{name}`", hint=hint)


def nearest(world: Universe, name: str) -> str:
    """Return up to three names that look like `name`, as words."""
    import difflib

    names = {one for index in world.indexes for one in index.names() if abs(len(one) - len(name)) <= 3}
    near = [one for one in names if one[:1] == name[:1]]
    found = difflib.get_close_matches(name, sorted(near), n=3, cutoff=0.75)
    return " or ".join(f"`{one}`" for one in found)
