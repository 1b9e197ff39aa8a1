"""/etc/pam.d/common-*: the stacks that pam-auth-update(8) makes of the packages' profiles, so that `su` works."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from posixpath import basename

from launcher.image.deb.control import parse_stanza
from launcher.image.debian.system import System

PROFILES = "/usr/share/pam-configs"
TEMPLATES = "/usr/share/pam"
LINE = re.compile(r"(\[[^]]*\]|\S+)\s+(\S+)\s*(.*)")
NO_PRIMARY = "[default=1]\t\t\tpam_permit.so"
STACKS = {
    "account": ("Account", "account"),
    "auth": ("Auth", "auth"),
    "password": ("Password", "password"),
    "session": ("Session", "session"),
    "session-noninteractive": ("Session", "session_nonint"),
}
"""File -> the profiles' field and the name of the places in the template."""


def pam_stacks(system: System) -> None:
    """Fill the templates of libpam-runtime with the profiles that are on by default, highest priority first."""
    if not any(system.is_added(e.path) for folder in (PROFILES, TEMPLATES) for e in system.below(folder)):
        return  # a base image has its stacks already
    profiles = enabled(system)
    for name, (field, place) in STACKS.items():
        template = system.text(f"{TEMPLATES}/common-{name}")
        if template is None:
            continue
        chosen = [p for p in profiles if name == "session" or p.get(f"{field}-Interactive-Only", "no") != "yes"]
        kind = field.lower()
        primary = block(kind, field, [p for p in chosen if p.get(f"{field}-Type") == "Primary"])
        additional = block(kind, field, [p for p in chosen if p.get(f"{field}-Type") == "Additional"])
        text = template.replace(f"${place}_primary\n", primary or f"{kind}\t{NO_PRIMARY}\n")
        system.rewrite(f"/etc/pam.d/common-{name}", text.replace(f"${place}_additional\n", additional))


def enabled(system: System) -> list[Mapping[str, str]]:
    found = []
    for entry in system.below(PROFILES):
        profile = parse_stanza(system.text(entry.path) or "", f"/{entry.path}")
        if profile.get("Default") == "yes":
            priority = profile.get("Priority", "0")
            found.append((-int(priority) if priority.isdigit() else 0, basename(entry.path), profile))
    return [profile for _, _, profile in sorted(found, key=lambda item: item[:2])]


def block(kind: str, field: str, profiles: Sequence[Mapping[str, str]]) -> str:
    """Write the modules of one block; `end` in a control becomes the number of lines to jump over."""
    lines: list[str] = []
    for profile in profiles:
        own = profile.get(field, "")
        lines += (own if lines else profile.get(f"{field}-Initial", own)).split("\n")
    found = [match for line in lines if (match := LINE.fullmatch(line.strip()))]
    text = ""
    for number, match in enumerate(found):
        control = re.sub(r"\bend\b", str(len(found) - number), match[1])
        text += f"{kind}\t{control}\t{match[2]} {match[3]}\n"
    return text
