"""The table of keys as a JSON Schema (2020-12) and as the reference's text."""

from __future__ import annotations

from typing import Any

from launcher.spec.keys import KEYS, Key

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a spec. It checks form only: whether a file is there, the loader tells."""
    about = {"$schema": DIALECT, "title": "experiment.yaml", "description": "A spec of launcher."}
    return about | section_schema("")


def section_schema(section: str) -> dict[str, Any]:
    """Return the schema of the keys of one section."""
    keys = [key for key in KEYS if key.section == section]
    properties = {key.name: key_schema(key) for key in keys}
    required = [key.name for key in keys if key.default is None]
    return {
        "type": ["object", "null"] if section else "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def key_schema(key: Key) -> dict[str, Any]:
    own = dict(key.form.schema) if key.form else section_schema(key.path)
    default = f" Default: {key.default}." if key.default else ""
    return {"description": key.says + default, **own}


def reference() -> str:
    """Return the text on every key for docs/reference/spec.md, in Markdown."""
    return "\n".join(key_reference(key) for key in KEYS)


def key_reference(key: Key) -> str:
    lines = [f"### `{key.path}`", "", key.says, ""]
    lines.append(f"Default: {key.default}." if key.default else "Required.")
    if key.example:
        lines += ["", "```yaml", *example(key), "```"]
    return "\n".join([*lines, ""])


def example(key: Key) -> list[str]:
    """Return the lines that set a key to its example."""
    parts = key.path.split(".")
    lines = [f"{'  ' * depth}{part}:" for depth, part in enumerate(parts)]
    return [*lines[:-1], f"{lines[-1]} {key.example}"]
