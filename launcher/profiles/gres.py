"""Read GPUs out of what Slurm calls generic resources: `gpu:h100:8`, `gpu:2(S:0-1)`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """So many GPUs of one type on a node; `type` is Slurm's own word for them, None where it has none."""

    type: str | None
    count: int


def split(told: str) -> tuple[str, ...]:
    """Split what `scontrol show node` says of Gres; what stands in brackets (sockets) is left out."""
    plain = re.sub(r"\([^)]*\)", "", told) if told != "(null)" else ""
    return tuple(one for one in plain.split(",") if one)


def gpus(gres: Iterable[str], name: str = "gpu") -> tuple[Gpus, ...]:
    """Return the GPUs among generic resources: those of this name, which is `gpu` nearly everywhere."""
    found = []
    for one in gres:
        parts = one.split(":")
        if parts[0] == (name or "gpu"):
            count = int(parts.pop()) if len(parts) > 1 and parts[-1].isdecimal() else 1
            found.append(Gpus(type=":".join(parts[1:]) or None, count=count))
    return tuple(found)
