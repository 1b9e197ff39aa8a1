"""The forms of what a person knows of the GPUs: driver and compute capabilities."""

from __future__ import annotations

import re
from typing import Any

from launcher.spec.forms import Form
from launcher.spec.nodes import Node, Scalar, Sequence
from launcher.spec.reading import Reading, shortened, text_of

DRIVER_EXPECTED = 'a quoted lowest driver such as ">=550.54"'
DRIVER_PATTERN = r">= ?([0-9]+(?:\.[0-9]+){0,2})"
CAPABILITY_EXPECTED = 'a quoted compute capability such as "8.6"'
CAPABILITY_PATTERN = r"[0-9]{1,2}\.[0-9]"
MODELS = {"h100": "9.0", "h200": "9.0", "a100": "8.0", "v100": "7.0", "l40s": "8.9", "l4": "8.9", "t4": "7.5"}
# NVIDIA, "CUDA GPU Compute Capability", developer.nvidia.com/cuda-gpus (as of 2025): only to guess what was meant


def read_driver(node: Node, reading: Reading) -> str | None:
    """Read `>=VERSION`; return the version."""
    if number := number_of(node):
        reading.add(node.where, f"expected {DRIVER_EXPECTED}, not the number {number}", f'write ">={number}"')
        return None
    text = text_of(node, reading, DRIVER_EXPECTED)
    if text is None:
        return None
    if found := re.fullmatch(DRIVER_PATTERN, text):
        return found[1]
    bare = re.fullmatch(r"(?:==|>|~=)? ?([0-9]+(?:\.[0-9]+){0,2})", text)
    reading.add(
        node.where,
        f"expected {DRIVER_EXPECTED}, not {shortened(text)}",
        f'a newer driver runs what an older one runs: write ">={bare[1]}"' if bare else None,
    )
    return None


def read_capabilities(node: Node, reading: Reading) -> tuple[str, ...] | None:
    """Read one compute capability, or a list."""
    items = node.items if isinstance(node, Sequence) else (node,)
    found = [read_capability(item, reading) for item in items]
    return tuple(dict.fromkeys(value for value in found if value)) or None


def read_capability(node: Node, reading: Reading) -> str | None:
    if number := number_of(node):
        hint = f'quote it: "{number}"' if "." in number else f'quote it: "{number}.0"'
        reading.add(node.where, f"expected {CAPABILITY_EXPECTED}, not the number {number}", hint)
        return None
    text = text_of(node, reading, CAPABILITY_EXPECTED)
    if text is None or re.fullmatch(CAPABILITY_PATTERN, text):
        return text
    reading.add(node.where, f"expected {CAPABILITY_EXPECTED}, not {shortened(text)}", capability_hint(text))
    return None


def capability_hint(text: str) -> str | None:
    if found := re.fullmatch(r"(?:sm|compute)_?([0-9]+)([0-9])[af]?", text):
        return f'write "{found[1]}.{found[2]}"'
    model = MODELS.get(text.lower().removeprefix("nvidia").strip(" -"))
    return f'{text} has "{model}"' if model else None


def number_of(node: Node) -> str | None:
    """Return the text of a node that YAML takes for a number."""
    number = isinstance(node, Scalar) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
    return node.text if number and isinstance(node, Scalar) else None


DRIVER = Form(expected=DRIVER_EXPECTED, schema={"type": "string", "pattern": f"^{DRIVER_PATTERN}$"}, read=read_driver)
CAPABILITY_SCHEMA: dict[str, Any] = {"type": "string", "pattern": f"^{CAPABILITY_PATTERN}$"}
CAPABILITIES = Form(
    expected=CAPABILITY_EXPECTED,
    schema={"oneOf": [CAPABILITY_SCHEMA, {"type": "array", "items": CAPABILITY_SCHEMA}, {"type": "null"}]},
    read=read_capabilities,
)
