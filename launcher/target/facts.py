"""What a target says of itself, as plain values that travel as JSON: whatever asked it, the same comparison follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.gpu.model import Device, Node


@dataclass(frozen=True, kw_only=True)
class RuntimeFact:
    """A program that runs containers. `refusal` says why it can't be used there, None that it can."""

    name: str
    refusal: str | None = None
    version: str | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A target, seen for one lock and one store. None is what could not be told; sizes are in bytes.

    `absent_bytes` is what of the image is not there yet, with what it is unpacked to, and `place` where it will lie.
    `user_namespaces` says what forbids them; "" that nothing does. `clock_offset_s` is how far the target's clock is
    ahead of its store's. `data` maps each input to why it can't be used, "" where it can. `runtimes` that nobody
    looked at, since one before them works, are left out.
    """

    target: str
    architecture: str | None = None
    node: Node = field(default_factory=Node)
    cpus: int | None = None
    memory_bytes: int | None = None
    place: str | None = None
    disk_free_bytes: int | None = None
    absent_bytes: int | None = None
    runtimes: tuple[RuntimeFact, ...] = ()
    user_namespaces: str | None = None
    store: str | None = None
    store_problem: str | None = None
    store_hint: str | None = None
    clock_offset_s: float | None = None
    data: Mapping[str, str] = field(default_factory=dict)


def from_json(told: Mapping[str, Any]) -> Facts:
    """Read facts from the JSON of `dataclasses.asdict`. Raises KeyError or TypeError for what is none."""
    node = told["node"]
    devices = tuple(Device(**device) for device in node["devices"])
    runtimes = tuple(RuntimeFact(**runtime) for runtime in told["runtimes"])
    return Facts(**{**told, "node": Node(**{**node, "devices": devices}), "runtimes": runtimes})
