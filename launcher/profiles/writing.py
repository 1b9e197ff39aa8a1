"""Write targets as TOML: a person's file from a template and some words, and doctor's from what it found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from launcher.data import data_path
from launcher.errors import Problem, UsageError
from launcher.profiles.keys import TARGET, Key, elsewhere
from launcher.profiles.model import Profile
from launcher.profiles.reading import nearest

FOUND = (
    "seen",
    "cluster",
    "slurm",
    "max_array",
    "max_submit",
    "requeue",
    "accounting",
    "outbound",
    "scratches",
    "accounts",
    "default_account",
    "default_qos",
    "enforced",
)
FOUND_BOX = ("seen", "shared", "runtime", "outbound", "box")  # what doctor finds of a box; a person's word counts more
HEAD = """\
# Written by `launcher doctor`, and written anew whenever it looks. What you say yourself belongs into the file beside
# this one: it counts more.

"""
PLAIN = '# What you say of this target; docs/reference/targets.md tells all keys.\n[target]\nkind = "slurm"\n'
PLAIN_BOX = '# What you say of this box; docs/reference/boxes.md tells all keys.\n[target]\nkind = "ssh"\n'
TRUTH = {"true": True, "yes": True, "false": False, "no": False}


def templates() -> dict[str, str]:
    """Return the templates that ship with launcher, by name, each with the first line that says what it is for."""
    files = sorted(data_path("slurm", "sites").glob("*.toml"))
    return {file.stem: file.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for file in files}


def template(name: str | None, kind: str = "slurm") -> str:
    """Return the text of a template. Raises UsageError."""
    if name is None:
        return PLAIN if kind == "slurm" else PLAIN_BOX
    if name not in (known := templates()):
        raise UsageError(f"there is no template `{name}`", hint=nearest(name, known))
    return data_path("slurm", "sites", f"{name}.toml").read_text(encoding="utf-8")


def filled(text: str, values: Mapping[str, Any]) -> str:
    """Say values in the text of a target: in the line that has the key, be it a comment, else at the section's end."""
    lines = text.splitlines()
    for key, value in values.items():
        if key == "options":
            lines = with_options(lines, [assigned(*one) for one in value.items()])
        else:
            lines = with_line(lines, key, assigned(key, value))
    return "\n".join(lines) + "\n"


def with_line(lines: list[str], key: str, line: str) -> list[str]:
    """Return the lines with one of [target] replaced or added."""
    start = lines.index("[target]") + 1
    end = next((at for at in range(start, len(lines)) if lines[at].startswith("[")), len(lines))
    for sign in ("", r"# ?"):
        for at in range(start, end):
            if re.match(rf"{sign}{re.escape(key)} *=", lines[at]):
                comment = re.search(r"\s+# .*$", lines[at].lstrip("# "))
                return [*lines[:at], line + (comment.group() if comment else ""), *lines[at + 1 :]]
    while end > start and not lines[end - 1].strip():
        end -= 1
    return [*lines[:end], line, *lines[end:]]


def with_options(lines: list[str], said: list[str]) -> list[str]:
    head = "[target.options]"
    if head not in lines:
        return [*lines, "", head, *said]
    at = lines.index(head) + 1
    return [*lines[:at], *said, *lines[at:]]


def assigned(key: str, value: object) -> str:
    """Return a line of TOML."""
    import tomli_w

    if isinstance(value, list):
        return f"{key} = [{', '.join(assigned('x', one).removeprefix('x = ') for one in value)}]"
    return tomli_w.dumps({key: value}).rstrip("\n")


def found_text(profile: Profile) -> str:
    """Return what doctor found as TOML; None is left out, since TOML has no word for it."""
    import tomli_w

    found: dict[str, Any]
    told = asdict(profile)
    if profile.kind == "ssh":
        found = {key: told[key] for key in FOUND_BOX} | {"warning": list(told["warnings"])}
        return HEAD + tomli_w.dumps({"found": without_none(found)})
    found = {key: told[key] for key in FOUND}
    found["warning"] = list(told["warnings"])
    found["qos"] = list(told["qoses"])
    found["partition"] = [{**one, "kind": list(one["kinds"]), "kinds": None} for one in told["partitions"]]
    return HEAD + tomli_w.dumps({"found": without_none(found)})


def without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_none(one) for key, one in value.items() if one is not None and one != ()}
    if isinstance(value, (list, tuple)):
        return [without_none(one) for one in value]
    return value


def settings(words: tuple[str, ...], known: Mapping[str, Key] = TARGET) -> dict[str, Any]:
    """Read `key=value` words into values of [target]. Raises UsageError that tells of every word that is none."""
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            problems.append(Problem(message=f"`--set {word}` is no key=value"))
        elif key.startswith("options.") and "options" in known:
            found.setdefault("options", {})[key.removeprefix("options.")] = text
        elif key not in known:
            says, hint = elsewhere(key, known) or ("there is no such key", nearest(key, known))
            problems.append(Problem(message=f"--set {key}: {says}", hint=hint))
        else:
            found[key] = [*found.get(key, []), text] if known[key].kind is list else meaning(text, known[key].kind)
    if problems:
        raise UsageError.of(problems)
    return found


def meaning(text: str, kind: type) -> Any:
    """Return what a word means for a key; what it can't mean stays text, which the check of the file refuses."""
    if kind is int and text.isdecimal():
        return int(text)
    return TRUTH.get(text.lower(), text) if kind is bool else text
