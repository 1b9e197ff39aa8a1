"""Which GPU runs which device code: NVIDIA's rules of cubins and PTX, one function each.

Sources: CUDA C++ Programming Guide, "Binary Compatibility", "PTX Compatibility", "Architecture-Specific Features" and
"Family-Specific Features"; the compatibility guides of Ampere, Ada, Hopper and Blackwell.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from launcher.gpu.model import Code
from launcher.gpu.versions import capability_key

Way = Literal["cubin", "ptx"]
TEGRA = frozenset(("5.3", "6.2", "7.2", "8.7"))
"""Systems on a chip: their cubins and those of the desktop's GPUs don't run on each other ("Binary Compatibility")."""
ALONE = frozenset(("10.1",))
"""A major version's member outside its family: sm_101 became sm_110 in CUDA 13.0 (its release notes)."""


def cubin_runs(cubin: str, gpu: str) -> bool:
    """Tell whether machine code such as "8.6", "9.0a" or "10.0f" runs on a GPU of a capability such as "8.9"."""
    major, minor, kind = capability_key(cubin)
    ours, our_minor, _ = capability_key(gpu)
    if (major, minor) == (ours, our_minor):
        return True
    apart = {f"{major}.{minor}", gpu} & (TEGRA | ALONE)
    return kind != "a" and major == ours and minor <= our_minor and not apart


def ptx_runs(ptx: str, gpu: str) -> bool:
    """Tell whether a driver that knows this PTX can compile it for a GPU."""
    major, minor, kind = capability_key(ptx)
    if kind:
        return cubin_runs(ptx, gpu)
    return (major, minor) <= capability_key(gpu)[:2]


def way(code: Code, gpu: str) -> Way | None:
    """Return how a GPU runs an artifact's code: its machine code, or PTX that the driver compiles; None: not at all."""
    if any(cubin_runs(cubin, gpu) for cubin in code.cubins):
        return "cubin"
    return "ptx" if any(ptx_runs(ptx, gpu) for ptx in code.ptx) else None


def listed(capabilities: Iterable[str]) -> str:
    """Return capabilities for people: "7.5, 8.0 and 9.0a"."""
    *some, last = sorted(capabilities, key=capability_key)
    return f"{', '.join(some)} and {last}" if some else last
