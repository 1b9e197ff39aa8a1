"""Read what a person says of a target, and what doctor found, into one profile; every mistake with its line at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher import toml
from launcher.errors import Problem, TargetError, Where
from launcher.profiles.keys import FIELDS, PARTITION, Key, elsewhere, of_kind
from launcher.profiles.model import Kind, Partition, Profile, from_json

FOUND_LISTS = {"partition": "partitions", "qos": "qoses", "warning": "warnings"}
OF_KINDS = {"driver", "capability", "gpu_memory_mb"}  # what a person says of a partition holds for all of its nodes


def profile(name: str, file: Path, found_file: Path) -> Profile:
    """Return the profile that two files make; doctor's need not be there. Raises TargetError with every mistake."""
    said = parsed_text(text_of(file), str(file))
    found = facts(found_file)
    merged = from_json({**found, **as_fields(said["target"]), "name": name})
    return replace(merged, partitions=partitions(merged.partitions, said.get("partition", {})))


def as_fields(target: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person says by the names of a profile."""
    return {FIELDS.get(key, key): value for key, value in target.items()}


def parsed_text(text: str, file: str) -> dict[str, Any]:
    """Parse what a person says. Raises TargetError with every mistake."""
    said = toml.parse(text, file, TargetError)
    if problems := list(mistakes(said, text, file)):
        raise TargetError.of(problems)
    return said


def text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise TargetError(f"{file} can't be read: {e}", hint="mend its owner, mode or encoding (UTF-8)") from e


def facts(file: Path) -> dict[str, Any]:
    """Return what doctor wrote, by the names of a profile; nothing where it hasn't looked. Raises TargetError."""
    if not file.exists():
        return {}
    hint = "let `launcher doctor` write it anew: what you say yourself belongs into the other file"
    found = toml.parse(text_of(file), str(file), TargetError, hint=hint).get("found", {})
    try:
        told = {FOUND_LISTS.get(key, key): value for key, value in found.items()}
        told["partitions"] = [{**one, "kinds": one.get("kind", ())} for one in told.get("partitions", ())]
        from_json({**told, "name": "found"})
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise TargetError(f"{file} can't be read: {e}", hint=hint) from e
    return told


def partitions(found: Iterable[Partition], said: Mapping[str, Mapping[str, Any]]) -> tuple[Partition, ...]:
    """Lay what a person says of partitions over what was found; those that nobody found are added."""
    by_name = {one.name: one for one in found}
    for name, values in said.items():
        one = replace(by_name.get(name) or Partition(name=name), **values)
        of_kinds = {key: value for key, value in values.items() if key in OF_KINDS}
        by_name[name] = replace(one, kinds=tuple(laid_over(kind, of_kinds) for kind in one.kinds))
    return tuple(by_name.values())


def laid_over(kind: Kind, said: Mapping[str, Any]) -> Kind:
    return replace(kind, **said) if kind.gres else kind


def mistakes(said: Mapping[str, Any], text: str, file: str) -> Iterator[Problem]:
    """Yield what is wrong with a person's file."""
    target = said.get("target")
    if not isinstance(target, dict):
        hint = 'begin with [target], and below it kind = "slurm"'
        yield Problem(message="there is no section [target]", where=Where(file=file, line=1), hint=hint)
        return
    for name in said.keys() - {"target", "partition"}:
        hint = "`launcher doctor` writes what it finds to a file of its own" if name == "found" else "known is [target]"
        where = Where(file=file, line=line_of(text, None, name), key=name)
        yield Problem(message="this section is not known", where=where, hint=hint)
    yield from of_section(target, of_kind(target), "target", text, file)
    if target.get("kind") == "ssh":
        yield from of_box(said, text, file)
        return
    named = said.get("partition", {})
    if not isinstance(named, dict) or not all(isinstance(one, dict) for one in named.values()):
        where = Where(file=file, line=line_of(text, None, "partition"), key="partition")
        yield Problem(message="this holds no sections", where=where, hint="write [partition.NAME]")
        return
    for name, section in named.items():
        yield from of_section(section, PARTITION, f"partition.{name}", text, file)


def of_box(said: Mapping[str, Any], text: str, file: str) -> Iterator[Problem]:
    """Yield what only a box can have wrong."""
    if "host" not in said["target"]:
        where = Where(file=file, line=line_of(text, None, "target"), key="target.host")
        hint = 'write what you tell ssh: host = "root@box.example.org:2222"'
        yield Problem(message="a box needs a host", where=where, hint=hint)
    if "partition" in said:
        where = Where(file=file, line=line_of(text, None, "partition"), key="partition")
        yield Problem(message="a box has no partitions", where=where, hint="leave the section out")


def of_section(
    section: Mapping[str, Any], known: Mapping[str, Key], name: str, text: str, file: str
) -> Iterator[Problem]:
    for key, value in section.items():
        complaint = known[key].check(value) if key in known else elsewhere(key, known) or unknown(key, known)
        if complaint:
            where = Where(file=file, line=line_of(text, name, key), key=f"{name}.{key}")
            yield Problem(message=complaint[0], where=where, hint=complaint[1])


def unknown(key: str, known: Iterable[str]) -> tuple[str, str]:
    return "is not known", nearest(key, known)


def nearest(word: str, known: Iterable[str]) -> str:
    words = list(known)
    near = difflib.get_close_matches(word, words, 1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(words)}"


def line_of(text: str, section: str | None, key: str) -> int | None:
    """Find the line of a key or of a section, because the TOML parser keeps no marks."""
    inside = section is None
    begins = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=")
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("["):
            head = line.split("#")[0].strip().strip("[]").replace('"', "").replace("'", "").replace(" ", "")
            if head == key or head.startswith(f"{key}.") or head == f"{section}.{key}":
                return number
            inside = head == section
        elif inside and begins.match(line):
            return number
    return None
