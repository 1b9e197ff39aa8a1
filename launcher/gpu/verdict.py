"""Whether a node's driver and GPUs serve an image: a pure comparison of values, with what to do when they don't.

`unknown` is told whenever one of the two sides can't be known; it is never taken for ok or refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from launcher.findings import Finding
from launcher.gpu.model import Code, Device, Gpu, Node
from launcher.gpu.serves import listed, way
from launcher.gpu.table import Toolkits
from launcher.gpu.versions import at_least, is_version, minor_release

NO_TABLE = Toolkits()
NO_COMPAT = "packages for forward compatibility (cuda-compat) are not counted on: most GPUs can't use them"


class Wanted(Protocol):
    """What a run asks for: so many GPUs of a model (None: any)."""

    @property
    def count(self) -> int: ...
    @property
    def model(self) -> str | None: ...


def findings(
    gpu: Gpu | None,
    node: Node,
    *,
    wanted: Wanted | None = None,
    memory_bytes: int | None = None,
    toolkits: Toolkits = NO_TABLE,
) -> list[Finding]:
    """Compare what an image needs with what a node has.

    `wanted` is what the run asks for: with a count of 0 nothing is compared, as an image with CUDA runs without a
    GPU too; None compares the image with every GPU of the node. `memory_bytes` is the least memory of each GPU.
    With `toolkits` hints name the CUDA that would do.
    """
    if wanted is not None and wanted.count == 0:
        return []
    devices = chosen(node, wanted)
    found = [count(node, wanted, devices)] if wanted else []
    found += memory(devices, memory_bytes) if memory_bytes else []
    if gpu is None:
        return found
    return [*found, driver(gpu, node, toolkits), *codes(gpu, node, devices, toolkits, wanted.count if wanted else None)]


def chosen(node: Node, wanted: Wanted | None) -> tuple[Device, ...]:
    """Return the devices that a run may get: those of the model that it wants."""
    model = wanted.model if wanted else None
    return tuple(device for device in node.devices if model is None or same_model(model, device.model) is not False)


def same_model(asked: str, model: str | None) -> bool | None:
    """Tell whether a model is meant by a short name: "H100" is an "NVIDIA H100 80GB HBM3". None when it has no name.

    All words asked for have to be among the model's words, whatever their case ("A100-80GB" is two), or be some of
    them in a row without a gap ("RTX4090"). An "L4" is no "L40S".
    """
    if model is None:
        return None
    ours, theirs = words(asked), words(model)
    return set(ours) <= set(theirs) or "".join(ours) in runs(theirs)


def words(name: str) -> list[str]:
    return [word for word in name.lower().replace("-", " ").replace("_", " ").split() if word != "nvidia"]


def runs(parts: list[str]) -> set[str]:
    """Return every row of consecutive words, written as one."""
    return {"".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)}


def count(node: Node, wanted: Wanted, devices: tuple[Device, ...]) -> Finding:
    asked = f"{wanted.count} x {wanted.model}" if wanted.model else plural(wanted.count)
    if node.source is None and not node.devices:
        hint = "is there a driver? nvidia-smi, NVML and /proc/driver/nvidia said nothing"
        return Finding(subject="gpus", verdict="unknown", says=f"{asked} wanted, and nothing tells of any", hint=hint)
    there = inventory(node.devices)
    named = [device for device in devices if wanted.model is None or device.model is not None]
    if len(named) >= wanted.count:
        return Finding(subject="gpus", verdict="ok", says=f"{asked} wanted, and there is {there}")
    if len(devices) >= wanted.count:
        return Finding(subject="gpus", verdict="unknown", says=f"{asked} wanted, and not all GPUs tell their model")
    hint = "ask for what there is (`resources.gpus`), or run it elsewhere"
    return Finding(subject="gpus", verdict="refused", says=f"{asked} wanted, and there is {there}", hint=hint)


def plural(number: int) -> str:
    return "1 GPU" if number == 1 else f"{number} GPUs"


def inventory(devices: Iterable[Device]) -> str:
    """Return what there is, as "8 x NVIDIA H100 80GB HBM3"."""
    names = [device.model or "GPU of an unknown model" for device in devices]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or "none"


def memory(devices: tuple[Device, ...], wanted: int) -> list[Finding]:
    """Compare memory, with one finding for all GPUs."""
    known = [device.memory_bytes for device in devices if device.memory_bytes is not None]
    says = f"{gib(wanted)} wanted on each GPU"
    if len(known) < len(devices) or not known:
        return [Finding(subject="gpu memory", verdict="unknown", says=f"{says}, and not every GPU tells what it has")]
    least = min(known)
    if least >= wanted:
        return [Finding(subject="gpu memory", verdict="ok", says=f"{says}, and the smallest has {gib(least)}")]
    return [Finding(subject="gpu memory", verdict="refused", says=f"{says}, and the smallest has {gib(least)}")]


def gib(size: int) -> str:
    return f"{size / (1 << 30):.4g} GiB"


def driver(gpu: Gpu, node: Node, toolkits: Toolkits) -> Finding:
    """Compare the driver with the lowest that minor-version compatibility allows (NVIDIA, "CUDA Compatibility")."""
    if node.driver is None or not is_version(node.driver):
        return Finding(
            subject="driver",
            verdict="unknown",
            says=f"CUDA {gpu.cuda} needs driver {gpu.driver or 'of its time'} or newer; this node's can't be read",
        )
    if gpu.driver is None:
        says = f"driver {node.driver}; which one CUDA {gpu.cuda} needs is not known here"
        return Finding(subject="driver", verdict="unknown", says=says, hint="a newer launcher may know this CUDA")
    if not at_least(node.driver, gpu.driver):
        says = f"driver {node.driver} is too old: CUDA {gpu.cuda} needs {gpu.driver} or newer"
        return Finding(subject="driver", verdict="refused", says=says, hint=older(node, node.driver, toolkits))
    if gpu.driver_exact and not at_least(node.driver, gpu.driver_exact):
        says = f"driver {node.driver} serves CUDA {gpu.cuda} by minor-version compatibility, from {gpu.driver} on"
        return Finding(subject="driver", verdict="ok", says=f"{says}; PTX would need {gpu.driver_exact}")
    return Finding(subject="driver", verdict="ok", says=f"driver {node.driver} serves CUDA {gpu.cuda}")


def older(node: Node, version: str, toolkits: Toolkits) -> str:
    """Say what to do with an old driver."""
    family = toolkits.family(version) or (node.cuda.split(".")[0] if node.cuda else None)
    newest = toolkits.newest(version) or node.cuda
    way_out = "update the driver, or take wheels for an older CUDA"
    if family and newest:
        return f"{way_out}: this driver serves CUDA {family}.x, and was made for {newest}; {NO_COMPAT}"
    return f"{way_out}; {NO_COMPAT}"


def codes(
    gpu: Gpu, node: Node, devices: tuple[Device, ...], toolkits: Toolkits, wanted: int | None = None
) -> list[Finding]:
    """Compare each artifact's code with each kind of GPU.

    When there are as many GPUs that all code runs on as are `wanted` (None: all of them), the others are only warned
    of: such as the small card of a workstation that drives its screen.
    """
    if not devices:
        return []
    if not gpu.code:
        says = f"nothing tells which GPUs the code for CUDA {gpu.cuda} in this image was compiled for"
        return [Finding(subject="code", verdict="unknown", says=says)]
    kinds = dict.fromkeys(kind(device) for device in devices)
    found = {each: [code_on(gpu, code, node, *each, toolkits) for code in gpu.code] for each in kinds}
    bad = {each for each, told in found.items() if any(one.verdict == "refused" for one in told)}
    good = sum(kind(device) not in bad for device in devices)
    spare = wanted is not None and good >= wanted
    every = [found[each][number] for number in range(len(gpu.code)) for each in kinds]
    return [replace(one, verdict="warning") if spare and one.verdict == "refused" else one for one in every]


def has_code(gpu: Gpu, node: Node, device: Device) -> bool:
    """Tell whether nothing in the image is known to have no code for a GPU of a node."""
    told = (code_on(gpu, code, node, *kind(device), NO_TABLE) for code in gpu.code)
    return all(one.verdict != "refused" for one in told)


def kind(device: Device) -> tuple[str | None, str | None]:
    return device.model, device.capability


def code_on(gpu: Gpu, code: Code, node: Node, model: str | None, capability: str | None, toolkits: Toolkits) -> Finding:
    """Compare one artifact's code with one kind of GPU."""
    artifact, name = f"{code.name} {code.version}", model or "a GPU"
    if capability is None:
        says = f"{artifact}: nothing tells the compute capability of {name}"
        return Finding(subject="code", verdict="unknown", says=says)
    if not code.cubins and not code.ptx:
        return Finding(subject="code", verdict="unknown", says=f"{artifact}: what it was compiled for is not known")
    how = way(code, capability)
    if how == "cubin":
        return Finding(subject="code", verdict="ok", says=f"{artifact} has machine code for {name} ({capability})")
    if how == "ptx":
        return from_ptx(gpu, code, node, f"{name} ({capability})", toolkits)
    says = f"{artifact} has no code for {name} ({capability}): {holds(code)}"
    return Finding(subject="code", verdict="refused", says=says, hint=rebuilt(capability, gpu, toolkits))


def holds(code: Code) -> str:
    parts = [f"machine code for {listed(code.cubins)}"] if code.cubins else ["no machine code"]
    return " and ".join([*parts, f"PTX of {listed(code.ptx)}" if code.ptx else "no PTX"])


def from_ptx(gpu: Gpu, code: Code, node: Node, name: str, toolkits: Toolkits) -> Finding:
    """Compare PTX with the driver: one that is older than the toolkit can't compile it ("CUDA Compatibility")."""
    says = f"{code.name} {code.version} has only PTX for {name}, which the driver compiles"
    if node.driver is None or gpu.driver_exact is None or not is_version(node.driver):
        which = f" from {gpu.driver_exact} on" if gpu.driver_exact else ""
        return Finding(subject="code", verdict="unknown", says=f"{says}{which}; whether this one can is not known")
    if at_least(node.driver, gpu.driver_exact):
        hint = "its first start takes longer, up to minutes"
        return Finding(subject="code", verdict="ok", says=f"{says}: {node.driver} can", hint=hint)
    says += f": {node.driver} can't read PTX of CUDA {gpu.cuda}, that takes {gpu.driver_exact} or newer"
    return Finding(subject="code", verdict="refused", says=says, hint=older(node, node.driver, toolkits))


def rebuilt(capability: str, gpu: Gpu, toolkits: Toolkits) -> str:
    """Say which CUDA's wheels would have code for a GPU."""
    first, last = toolkits.compiles.get(capability, (None, None))
    if first and not at_least(gpu.cuda, first):
        return f"take wheels that were built for CUDA {first} or newer"
    if last and at_least(gpu.cuda, next_minor(last)):
        return f"take wheels that were built for CUDA {last} or older: later ones can't compile for {capability}"
    return f"take another build or version of it that has code for {capability}, or run it on other GPUs"


def next_minor(cuda: str) -> str:
    major, minor = minor_release(cuda).split(".")
    return f"{major}.{int(minor) + 1}"
