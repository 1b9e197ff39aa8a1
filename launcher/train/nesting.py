"""Nested dicts, lists and tuples in JSON: what JSON has no word for becomes a dict with one marked key.

A tuple is {"__tuple__": [...]}, an array {"__array__": the name that it is kept by}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SKELETON = "__state__"  # where the rest of a state lies among its arrays
ARRAY, TUPLE = "__array__", "__tuple__"


def fits(state: Any) -> bool:
    """Tell whether nested dicts with texts as keys, lists and tuples hold it all; a marker of ours as a key doesn't."""
    if isinstance(state, Mapping):
        return all(isinstance(key, str) and key not in (ARRAY, TUPLE) for key in state) and all(
            map(fits, state.values())
        )
    return not isinstance(state, (list, tuple)) or all(map(fits, state))


def taken_out(state: Any, name: str, found: dict[str, Any]) -> Any:
    """Move arrays from a state to `found`; return what is left of it, in JSON's types."""
    if isinstance(state, Mapping):
        return {key: taken_out(value, f"{name}/{key}" if name else key, found) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        items = [taken_out(value, f"{name}/{at}" if name else str(at), found) for at, value in enumerate(state)]
        return {TUPLE: items} if isinstance(state, tuple) else items
    if not hasattr(state, "__array__"):
        return state
    while name in found or name in ("", SKELETON):
        name += "_"
    found[name] = state
    return {ARRAY: name}


def put_back(skeleton: Any, found: Mapping[str, Any]) -> Any:
    if isinstance(skeleton, list):
        return [put_back(value, found) for value in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    if set(skeleton) == {ARRAY}:
        return found[skeleton[ARRAY]]
    if set(skeleton) == {TUPLE}:
        return tuple(put_back(value, found) for value in skeleton[TUPLE])
    return {key: put_back(value, found) for key, value in skeleton.items()}
