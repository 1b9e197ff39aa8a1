"""The form of `image.pip`: requirements (PEP 508), or the file that holds them."""

from __future__ import annotations

import re

from packaging.requirements import InvalidRequirement, Requirement

from launcher.spec import nodes
from launcher.spec.forms import Form, is_empty, list_of, matching
from launcher.spec.model import Pip
from launcher.spec.nodes import Entry, Node
from launcher.spec.reading import Reading, kind_of, nearest, path_hint, shortened, text_of


def read_requirement(node: Node, reading: Reading) -> str | None:
    expected = "a requirement such as numpy>=2"
    text = text_of(node, reading, expected)
    if text is None:
        return None
    if (hint := refusal(text)) is not None:
        reading.add(node.where, f"{shortened(text)} can't be pinned from an index", hint)
        return None
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        hint = slip(text) or "write a name and its versions, such as numpy>=2,<3"
        reading.add(node.where, f"{shortened(text)} is no requirement (PEP 508)", hint)
        return None
    if requirement.url:
        reading.add(node.where, f"{shortened(text)} names a URL, which no lock can hold", slip(text) or URL_HINT)
        return None
    return text


INDEX_HINT = (
    "write the requirement alone: indexes are named in a requirements file, or in pip's settings on this machine"
)
URL_HINT = "require it by name and version, from an index or find-links folder that pip is configured for"


def refusal(text: str) -> str | None:
    """Return what to do instead of a line that only pip's command line or requirements files know, or None."""
    word = text.split()[0]
    if word in ("-r", "--requirement", "-c", "--constraint") or word.startswith(("--requirement=", "-r")):
        return "write `pip: requirements.txt` to read a file"
    if word in ("-e", "--editable") or text.startswith((".", "/", "~", "file:")):
        return "code is not part of the image: leave it to `code`, or build a wheel and require it by name"
    if word.startswith("-") or re.search(r"\s--?[a-z]", text):
        return INDEX_HINT
    if re.match(r"(git|hg|svn|bzr)\+", text) or "://" in text.split("@")[0]:
        return URL_HINT
    if text.endswith((".whl", ".tar.gz", ".zip")):
        return URL_HINT
    return None


def slip(text: str) -> str | None:
    """Guess the right spelling of a requirement."""
    if re.fullmatch(r"[\w.-]+\s*=\s*[\w.*]+", text):
        return "write == for an exact version"
    if re.fullmatch(r"[\w.-]+\s+v?[0-9][\w.]*", text):
        name, version = text.split()
        return f"did you mean {name}=={version.lstrip('v')}?"
    if re.fullmatch(r"[\w.-]+@[0-9][\w.]*", text):
        return f"did you mean {text.replace('@', '==')}?"
    return None


def read_pip(node: Node, reading: Reading) -> Pip | None:
    if is_empty(node):
        return None
    if isinstance(node, nodes.Sequence):
        return Pip(requirements=REQUIREMENTS.read(node, reading) or ())
    if isinstance(node, nodes.Mapping):
        return read_pip_file(node, reading)
    text = text_of(node, reading, PIP_EXPECTED)
    return None if text is None else pip_file(text, node, reading)


PIP_EXPECTED = "a list of requirements, or a requirements.txt or pyproject.toml"


def pip_file(
    text: str, node: Node, reading: Reading, extras: tuple[str, ...] = (), groups: tuple[str, ...] = ()
) -> Pip | None:
    """Check the file that requirements are read from."""
    path = reading.path(text)
    if path.suffix not in (".txt", ".in") and path.name != "pyproject.toml":
        hint = f"write a list to require it: [{text}]" if re.fullmatch(r"[\w.-]+([<>=~!].*)?", text) else None
        reading.add(node.where, f"expected {PIP_EXPECTED}, not {shortened(text)}", hint)
        return None
    if (kind := kind_of(path)) != "file":
        reading.add(
            node.where,
            f"{shortened(text)} {'is not there' if kind is None else 'is no file'}",
            path_hint(text, reading),
        )
        return None
    return Pip(file=path, extras=extras, groups=groups)


def read_pip_file(node: nodes.Mapping, reading: Reading) -> Pip | None:
    """Read `{file:, extras:, groups:}`."""
    entries = {entry.key: entry for entry in node.entries}
    for key, entry in entries.items():
        if key not in ("file", "extras", "groups"):
            near = nearest(key, ("file", "extras", "groups"))
            reading.add(
                entry.where, "unknown key", f"did you mean {near}?" if near else "known are file, extras and groups"
            )
    if (file := entries.get("file")) is None:
        reading.add(node.where, "`file` is missing", "write file: pyproject.toml, or a list of requirements")
        return None
    text = text_of(file.value, reading, "a requirements.txt or pyproject.toml")
    extras, groups = names(entries.get("extras"), reading), names(entries.get("groups"), reading)
    if text and not text.endswith("pyproject.toml") and (extras or groups):
        reading.add(node.where, "extras and groups belong to a pyproject.toml", f"leave them out for {text}")
    return None if text is None else pip_file(text, file.value, reading, extras, groups)


def names(entry: Entry | None, reading: Reading) -> tuple[str, ...]:
    return () if entry is None else NAMES.read(entry.value, reading) or ()


REQUIREMENT = Form(
    expected="a requirement", schema={"type": "string", "pattern": r"^[A-Za-z0-9]"}, read=read_requirement
)
REQUIREMENTS = list_of(REQUIREMENT, "a list of requirements")
NAMES = list_of(matching("the name of an extra or group", r"[A-Za-z0-9][A-Za-z0-9._-]*"), "a list of names")
FILE_SCHEMA = {"type": "string", "pattern": r"(\.txt|\.in|pyproject\.toml)$"}
PIP = Form(
    expected=PIP_EXPECTED,
    schema={
        "oneOf": [
            REQUIREMENTS.schema,
            FILE_SCHEMA,
            {
                "type": "object",
                "properties": {"file": FILE_SCHEMA, "extras": NAMES.schema, "groups": NAMES.schema},
                "required": ["file"],
                "additionalProperties": False,
            },
        ]
    },
    read=read_pip,
)
