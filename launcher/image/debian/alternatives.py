"""Alternatives: which program a general name such as `editor` or `cc` stands for (update-alternatives(1))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from posixpath import normpath
from typing import Any

from launcher.image.deb import Package
from launcher.image.debian.facts import acts
from launcher.image.debian.shell import calls
from launcher.image.debian.system import System

FOLDER = "/etc/alternatives"
PRIORITY = re.compile(r"-?\d{1,9}")
STATE = "/var/lib/dpkg/alternatives"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One program that wants to stand behind a name. `slaves`: name -> (link, path)."""

    name: str
    link: str
    path: str
    priority: int
    slaves: dict[str, tuple[str, str]] = field(default_factory=dict)


def alternatives(system: System) -> None:
    """Point each name at the choice of highest priority; among equals, at the first by path."""
    names: dict[str, dict[str, Choice]] = {}
    for choice in all_choices(system):
        if system.find(choice.path):
            names.setdefault(choice.name, {})[choice.path] = choice
    for name in sorted(names):
        before = read_state(name, system.kept_text(f"{STATE}/{name}"))
        together = {**{choice.path: choice for choice in before.choices}, **names[name]}
        choices = [together[path] for path in sorted(together)]
        current = system.entries.get(system.place(f"{FOLDER}/{name}"))
        if before.manual:
            system.rewrite(f"{STATE}/{name}", state(choices, before.link, before.manual))
        else:
            install(
                system, choices, max(choices, key=lambda c: (c.priority, bool(current and current.target == c.path)))
            )


@dataclass(frozen=True, kw_only=True)
class Before:
    """What a base image has of a name. `manual` tells that somebody has chosen by hand: that stays."""

    manual: bool = False
    link: str = ""
    choices: tuple[Choice, ...] = ()


def read_state(name: str, text: str) -> Before:
    """Read the file in which update-alternatives keeps a name (its write of it is `state`); odd ones say nothing."""
    rows = iter(text.split("\n"))
    try:
        mode, link = next(rows), next(rows)
        slaves = []
        while slave := next(rows):
            slaves.append((slave, next(rows)))
        choices = []
        while path := next(rows):
            priority, paths = int(next(rows)), {slave: (at, next(rows)) for slave, at in slaves}
            own = {slave: pair for slave, pair in paths.items() if pair[1]}
            choices.append(Choice(name=name, link=link, path=path, priority=priority, slaves=own))
    except (StopIteration, ValueError):
        return Before()
    return Before(manual=mode == "manual", link=link, choices=tuple(choices))


def all_choices(system: System) -> Iterator[Choice]:
    for name in sorted(system.packages):
        yield from read_choices(system.packages[name])
    for act in acts("alternative", system):
        yield from known_choices(act)


def read_choices(package: Package) -> Iterator[Choice]:
    """Read `update-alternatives --install` calls with literal words from a postinst script."""
    for words in calls(package.script("postinst"), "update-alternatives"):
        if "--install" in words:
            start = words.index("--install") + 1
            link, name, path, priority = (words[start : start + 4] + [""] * 4)[:4]
            if PRIORITY.fullmatch(priority) and all(map(usable, (f"/{name}", link, path))):
                slaves = dict(read_slaves(words[start + 4 :]))
                yield Choice(name=name, link=link, path=path, priority=int(priority), slaves=slaves)


def read_slaves(words: list[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    for number, word in enumerate(words):
        if word in ("--slave", "--follower") and len(words) > number + 3:
            link, name, path = words[number + 1 : number + 4]
            if all(map(usable, (f"/{name}", link, path))):
                yield name, (link, path)


def usable(path: str) -> bool:
    """Tell whether a script's path is absolute and says where it leads."""
    return path.startswith("/") and normpath(path) == path and path != "/"


def known_choices(act: dict[str, Any]) -> Iterator[Choice]:
    """Read an entry of images/debian-rules.toml; `{}` in it stands for each of its names."""
    for name in act["each"]:
        slaves = {
            slave.format(name): (link.format(name), path.format(name))
            for slave, (link, path) in act.get("slaves", {}).items()
        }
        link, path = act["link"].format(name), act["path"].format(name)
        yield Choice(name=name, link=link, path=path, priority=act["priority"], slaves=slaves)


def install(system: System, choices: list[Choice], best: Choice) -> None:
    """Make the links of one name, and dpkg's note of them, so that update-alternatives works in the image."""
    put_link(system, best.link, best.name, best.path)
    for name in sorted(best.slaves):
        link, path = best.slaves[name]
        if system.find(path):
            put_link(system, link, name, path)
    system.rewrite(f"{STATE}/{best.name}", state(choices, best.link))


def put_link(system: System, link: str, name: str, path: str) -> None:
    """A file that isn't a link stays, as update-alternatives leaves it."""
    system.link(f"{FOLDER}/{name}", path)
    at = system.entries.get(system.place(link))
    if at is None or at.kind == "symlink":
        system.link(link, f"{FOLDER}/{name}")


def state(choices: list[Choice], link: str, manual: bool = False) -> str:
    """Write the file in which update-alternatives keeps a name: master, slaves, then each choice."""
    slaves = {name: choice.slaves[name][0] for choice in choices for name in choice.slaves}
    head = [
        "manual" if manual else "auto",
        link,
        *(line for name in sorted(slaves) for line in (name, slaves[name])),
        "",
    ]
    for choice in choices:
        paths = [choice.slaves.get(name, ("", ""))[1] for name in sorted(slaves)]
        head += [choice.path, str(choice.priority), *paths]
    return "\n".join([*head, "", ""])
