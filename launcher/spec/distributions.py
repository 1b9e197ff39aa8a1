"""The form of `sweep.random`: how many points are drawn, and what each of their parameters is drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from launcher.errors import Where
from launcher.spec import nodes
from launcher.spec.forms import Form, integer, is_empty
from launcher.spec.model import Distribution, RandomPoints
from launcher.spec.nodes import Entry, Node, Scalar
from launcher.spec.points import SCALARS, read_value
from launcher.spec.reading import Reading, nearest, said

Kind = Literal["uniform", "log_uniform", "normal", "log_normal", "int_uniform", "int_log_uniform", "choice"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PAIRS = {
    **dict.fromkeys(KINDS[:2], "two numbers: [lowest, highest]"),
    "normal": "two numbers: [mean, deviation]",
    "log_normal": "two numbers: [mean, deviation], of the logarithm",
    **dict.fromkeys(KINDS[4:6], "two whole numbers: [lowest, highest]"),
}
MOST = 1_000_000
FARTHEST = 27  # deviations: nothing that is drawn lies further away
LARGEST_EXPONENT = 700  # exp of more is no finite double
EXPECTED = "{count: 20, seed: 1, lr: {log_uniform: [1e-4, 1e-1]}}"
COUNT = integer(f"a number of points, from 1 to {MOST}", 1, MOST)
SEED = integer("a whole number, 0 or more", 0)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Random points as they are written, and where each parameter stands."""

    points: RandomPoints
    places: Mapping[str, Where]


def read_random(node: Node, reading: Reading) -> Drawn | None:
    if is_empty(node):
        return None
    if not isinstance(node, nodes.Mapping):
        reading.add(node.where, f"expected a mapping such as {EXPECTED}, not {said(node)}")
        return None
    entries = {entry.key: entry for entry in node.entries}
    numbers = {name: entries.pop(name).value for name in ("count", "seed") if name in entries}
    if "count" not in numbers:
        reading.add(node.where, "`count` is missing", "write how many points are drawn, as in count: 20")
    if not entries:
        reading.add(node.where, "nothing is drawn", f"name parameters, as in {EXPECTED}")
    count = COUNT.read(numbers["count"], reading) if "count" in numbers else 1
    seed = SEED.read(numbers["seed"], reading) if "seed" in numbers else 0
    read = {name: read_distribution(entry, reading) for name, entry in entries.items()}
    draws = {name: what for name, what in read.items() if what}
    points = RandomPoints(count=count or 1, seed=seed or 0, draws=draws)
    return Drawn(points=points, places={name: entry.where for name, entry in entries.items()})


def read_distribution(entry: Entry, reading: Reading) -> Distribution | None:
    """Read one `{<distribution>: ..., step: ...}`; None when something is wrong with it."""
    node, before = entry.value, len(reading.problems)
    if not isinstance(node, nodes.Mapping):
        hint = "a choice is written {choice: [...]}" if isinstance(node, nodes.Sequence) else None
        reading.add(node.where, f"expected a distribution such as {{uniform: [0, 1]}}, not {said(node)}", hint)
        return None
    entries = {one.key: one for one in node.entries}
    given = [name for name in entries if name in KINDS]
    for name, one in entries.items():
        if name not in (*KINDS, "step", "weights"):
            near = nearest(name, [*KINDS, "step", "weights"])
            hint = f"did you mean {near}?" if near else f"distributions are {', '.join(KINDS)}"
            reading.add(one.where, "this is no distribution", hint)
    if len(given) > 1:
        reading.add(entries[given[1]].where, f"{given[0]} is there too", "leave one of them out")
    if not given and len(reading.problems) == before:
        reading.add(node.where, "no distribution is named", f"distributions are {', '.join(KINDS)}")
    if len(reading.problems) > before:
        return None
    kind = next(kind for kind in KINDS if kind == given[0])
    found = read_choice(entries, reading) if kind == "choice" else read_numbers(kind, entries, reading)
    return found if len(reading.problems) == before else None


def read_choice(entries: Mapping[str, Entry], reading: Reading) -> Distribution | None:
    node = entries["choice"].value
    if not isinstance(node, nodes.Sequence) or not node.items:
        what = "an empty list" if isinstance(node, nodes.Sequence) else said(node)
        reading.add(node.where, f"expected a list of values, not {what}")
        return None
    if "step" in entries:
        reading.add(entries["step"].where, "a choice has no step", "leave it out")
    choices = tuple(read_value(item, reading) for item in node.items)
    weights = read_weights(entries["weights"].value, len(choices), reading) if "weights" in entries else ()
    return Distribution(kind="choice", choices=choices, weights=weights)


def read_weights(node: Node, number: int, reading: Reading) -> tuple[int | float, ...]:
    found = tuple(map(number_of, node.items)) if isinstance(node, nodes.Sequence) else ()
    if len(found) != number:
        reading.add(node.where, f"expected {number} weights, one for each value of the choice, not {len(found)}")
    weights = tuple(one for one in found if one is not None and one >= 0)
    if len(weights) != len(found) or (found and not any(weights)):
        reading.add(node.where, "weights are numbers, 0 or more, and not all 0")
    return weights


def read_numbers(kind: Kind, entries: Mapping[str, Entry], reading: Reading) -> Distribution | None:
    node = entries[kind].value
    found = tuple(map(number_of, node.items)) if isinstance(node, nodes.Sequence) else ()
    numbers = tuple(one for one in found if one is not None)
    whole = kind.startswith("int_")
    if len(found) != 2 or len(numbers) != 2 or (whole and not all(isinstance(one, int) for one in numbers)):
        reading.add(node.where, f"expected {PAIRS[kind]}, not {listed(node)}")
        return None
    if reason := misfit(kind, numbers[0], numbers[1]):
        reading.add(node.where, reason)
        return None
    step = read_step(kind, entries["step"].value, numbers, reading) if "step" in entries else None
    if "weights" in entries:
        reading.add(entries["weights"].where, "only a choice has weights", "leave them out")
    return Distribution(kind=kind, numbers=numbers, step=step)


def misfit(kind: Kind, first: int | float, second: int | float) -> str | None:
    """Return what is wrong with two numbers of a distribution, or None."""
    if kind in ("normal", "log_normal"):
        if second <= 0:
            return f"the deviation {second} is not above 0"
        if kind == "log_normal" and abs(first) + FARTHEST * second > LARGEST_EXPONENT:
            return f"the exponential of {first} and {FARTHEST} times {second} is no finite number"
        return None if math.isfinite(abs(first) + FARTHEST * second) else "such numbers are no finite ones"
    if first > second:
        return f"the lowest, {first}, is above the highest, {second}"
    return f"a logarithm needs numbers above 0, and {first} is not" if "log" in kind and first <= 0 else None


def read_step(kind: Kind, node: Node, numbers: tuple[int | float, ...], reading: Reading) -> int | float | None:
    step = number_of(node)
    whole = kind.startswith("int_")
    if kind == "int_log_uniform":
        reading.add(node.where, "int_log_uniform has no step", "log_uniform with `step: 8` gives multiples")
    elif step is None or step <= 0 or (whole and not isinstance(step, int)):
        reading.add(node.where, f"expected a {'whole ' if whole else ''}number above 0, not {said(node)}")
    elif abs(numbers[1]) + abs(numbers[0]) > 1e15 * step:
        reading.add(node.where, f"a step of {step} is too small for these numbers")
    return step


def number_of(node: Node) -> int | float | None:
    """Return the number that a node is, or None when it is none, or no unambiguous and finite one."""
    if not isinstance(node, Scalar) or node.trap or isinstance(node.value, bool):
        return None
    value = node.value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else None
    return value if isinstance(value, float) and math.isfinite(value) else None


def listed(node: Node) -> str:
    """Describe what stands in the place of two numbers."""
    if not isinstance(node, nodes.Sequence):
        return said(node)
    return f"[{', '.join(item.text if isinstance(item, Scalar) else '...' for item in node.items)}]"


NUMBER = {"type": "number"}
PAIR: dict[str, Any] = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
STEP = {"type": "number", "exclusiveMinimum": 0}


def distribution_schema(kind: str) -> dict[str, Any]:
    properties: dict[str, Any] = {kind: PAIR, "step": STEP}
    if kind == "choice":
        weights = {"type": "array", "items": {"type": "number", "minimum": 0}}
        properties = {kind: {"type": "array", "items": SCALARS, "minItems": 1}, "weights": weights}
    elif kind.startswith("int_"):
        whole = {"type": "integer"}
        step = {"step": whole | {"minimum": 1}} if kind == "int_uniform" else {}
        properties = {kind: PAIR | {"items": whole}, **step}
    return {"type": "object", "properties": properties, "required": [kind], "additionalProperties": False}


RANDOM = Form(
    expected=f"a mapping such as {EXPECTED}",
    schema={
        "type": ["object", "null"],
        "properties": {"count": dict(COUNT.schema), "seed": dict(SEED.schema)},
        "required": ["count"],
        "additionalProperties": {"oneOf": [distribution_schema(kind) for kind in KINDS]},
    },
    read=read_random,
)
