"""Whether a partition has nodes that a job fits on: CPUs, memory, architecture, GPUs, their driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from launcher.findings import Finding, Verdict
from launcher.gpu import verdict
from launcher.gpu.model import Device, Gpu, Node
from launcher.gpu.table import Toolkits
from launcher.profiles.gres import Gpus, gpus
from launcher.profiles.model import Kind, Partition, Profile


class Resources(Protocol):
    """What a job asks for, in a spec's words; `nodes` times the rest, which is of each node."""

    @property
    def nodes(self) -> int: ...
    @property
    def gpus(self) -> verdict.Wanted: ...
    @property
    def cpus(self) -> int | None: ...
    @property
    def memory_bytes(self) -> int | None: ...
    @property
    def time_s(self) -> int | None: ...


@dataclass(frozen=True, kw_only=True)
class Need:
    """One thing that each node has to have: whether a kind has it (None: that is not known), and what to say."""

    subject: str
    wanted: str
    has: Callable[[Kind], bool | None]
    there: str
    hint: str


def finding(subject: str, told: Verdict, says: str, hint: str | None = None) -> Finding:
    return Finding(subject=subject, verdict=told, says=says, hint=hint)


def refused(subject: str, says: str, hint: str) -> Finding:
    return finding(subject, "refused", says, hint)


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def clock(seconds: int) -> str:
    """Return a time as Slurm writes it: D-HH:MM:SS."""
    days, rest = divmod(seconds, 86400)
    text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{text}" if days else text


def compare(
    asked: Resources,
    gpu: Gpu | None,
    profile: Profile,
    partition: Partition,
    architecture: str | None,
    toolkits: Toolkits,
) -> Iterator[Finding]:
    """Yield what is to be said of a job and a partition's nodes."""
    kinds = partition.kinds or (of_sums(partition),)
    needs = [*wanted(asked, profile, partition, kinds, architecture)]
    found = [told for need in needs if (told := each(need, kinds, partition.name))]
    yield from found
    fitting = [kind for kind in kinds if all(need.has(kind) is not False for need in needs)]
    if not any(one.verdict == "refused" for one in found):
        yield from together(asked, needs, fitting, partition)
    if asked.gpus.count and fitting:
        yield from drivers(asked, gpu, profile, partition.name, fitting, toolkits)


def of_sums(partition: Partition) -> Kind:
    """Make a kind of what is known of a partition as a whole."""
    return Kind(
        count=partition.nodes or 1,
        cpus=partition.cpus,
        memory_mb=partition.memory_mb,
        gres=partition.gres,
        driver=partition.driver,
        capability=partition.capability,
        gpu_memory_mb=partition.gpu_memory_mb,
    )


def wanted(
    asked: Resources, profile: Profile, partition: Partition, kinds: Sequence[Kind], architecture: str | None
) -> Iterator[Need]:
    """Yield what each node has to have."""
    elsewhere = "or name another partition"
    if asked.cpus is not None:
        yield Need(
            subject="cpus",
            wanted=f"{counted(asked.cpus, 'CPU')} wanted on each node",
            has=lambda kind: enough(kind.cpus, asked.cpus),
            there=f"the largest node of `{partition.name}` has {most(kind.cpus for kind in kinds)}",
            hint=f"ask for fewer under `resources.cpus`, {elsewhere}",
        )
    if asked.memory_bytes is not None:
        yield Need(
            subject="memory",
            wanted=f"{-(-asked.memory_bytes >> 20)} MiB wanted on each node",
            has=lambda kind: enough(kind.memory_mb, -(-(asked.memory_bytes or 0) >> 20)),
            there=f"the largest node of `{partition.name}` has {most(kind.memory_mb for kind in kinds)} MiB",
            hint=f"ask for less under `resources.memory`, {elsewhere}",
        )
    if architecture:
        yield Need(
            subject="architecture",
            wanted=f"the image is for linux/{architecture}",
            has=lambda kind: None if kind.architecture is None else kind.architecture == architecture,
            there=f"the nodes of `{partition.name}` are {listed(kind.architecture for kind in kinds)}",
            hint="`image.platform` says what an image is for",
        )
    if asked.gpus.count:
        yield gpu_need(asked, profile, partition, kinds)


def gpu_need(asked: Resources, profile: Profile, partition: Partition, kinds: Sequence[Kind]) -> Need:
    there = listed(inventory(kind, profile) for kind in kinds)
    gpus_ = f"{asked.gpus.count} x {asked.gpus.model}" if asked.gpus.model else counted(asked.gpus.count, "GPU")
    return Need(
        subject="gpus",
        wanted=f"{gpus_} wanted on each node",
        has=lambda kind: has_gpus(kind, asked.gpus, profile),
        there=f"the nodes of `{partition.name}` have {there or 'none'}",
        hint=elsewhere(asked, profile, partition),
    )


def elsewhere(asked: Resources, profile: Profile, partition: Partition) -> str:
    """Name the partitions that have such GPUs."""
    others = [
        one.name
        for one in profile.partitions
        if one.name != partition.name and any(has_gpus(kind, asked.gpus, profile) for kind in one.kinds)
    ]
    if others:
        return (
            f'they are in {", ".join(f"`{name}`" for name in others)}: partition = "{others[0]}" in the target\'s file'
        )
    return "ask for what there is under `resources.gpus`, or run it elsewhere"


def enough(there: int | None, least: int | None) -> bool | None:
    return None if there is None or least is None else there >= least


def has_gpus(kind: Kind, asked: verdict.Wanted, profile: Profile) -> bool | None:
    """Tell whether nodes of a kind have so many GPUs of a model; None when the model can't be told."""
    own = gpus(kind.gres, profile.gres)
    if sum(gpu.count for gpu in own) < asked.count:
        return False
    told = [(gpu.count, is_model(gpu, kind, asked.model)) for gpu in own]
    if sum(count for count, same in told if same) >= asked.count:
        return True
    return None if sum(count for count, same in told if same is not False) >= asked.count else False


def is_model(gpu: Gpus, kind: Kind, model: str | None) -> bool | None:
    """Compare a model with Slurm's word for it, and with the driver's."""
    if model is None:
        return True
    answers = [verdict.same_model(model, name) for name in (gpu.type, kind.gpu) if name is not None]
    return any(answers) if answers else None


def inventory(kind: Kind, profile: Profile) -> str:
    return ", ".join(f"{one.count} x {one.type or kind.gpu or 'GPU'}" for one in gpus(kind.gres, profile.gres))


def most(values: Iterator[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def listed(values: Iterator[str | None]) -> str:
    return " or ".join(dict.fromkeys(value for value in values if value))


def each(need: Need, kinds: Sequence[Kind], partition: str) -> Finding | None:
    """Compare one need with all kinds: one that has it is enough."""
    answers = [need.has(kind) for kind in kinds]
    if any(answers):
        return finding(need.subject, "ok", f"{need.wanted}, and {need.there}")
    if None in answers:
        return finding(need.subject, "unknown", f"{need.wanted}, and what those of `{partition}` have can't be told")
    return refused(need.subject, f"{need.wanted}, and {need.there}", need.hint)


def together(
    asked: Resources, needs: Sequence[Need], fitting: Sequence[Kind], partition: Partition
) -> Iterator[Finding]:
    """Compare all needs at once: nodes that have everything, and enough of them."""
    there = sum(kind.count for kind in fitting)
    if there >= asked.nodes or not partition.kinds:
        return
    everything = "; ".join(need.wanted for need in needs)
    hint = "ask for less under `resources:`, or name another partition"
    if not fitting:
        yield refused("nodes", f"no node of `{partition.name}` has all of it at once: {everything}", hint)
    elif asked.nodes <= (partition.nodes or 0):
        says = f"{counted(asked.nodes, 'node')} wanted, and {there} of `{partition.name}` will do: {everything}"
        yield refused("nodes", says, hint)


def drivers(
    asked: Resources, gpu: Gpu | None, profile: Profile, partition: str, fitting: Sequence[Kind], toolkits: Toolkits
) -> Iterator[Finding]:
    """Compare the driver and the GPUs of each kind with the image. Where some kinds will do, others are warned of."""
    told = [[*verdict.findings(gpu, as_node(kind, asked, profile), toolkits=toolkits)] for kind in fitting]
    bad = [found for found in told if any(one.verdict == "refused" for one in found)]
    for one in dict.fromkeys(one for found in told for one in found):
        if one.verdict != "refused":
            if len(bad) < len(told):
                yield one
        elif len(bad) == len(told):
            yield refused(one.subject, f"`{partition}`: {one.says}", one.hint or "")
        else:
            hint = "choose nodes by `constraint` in the target's file, or Slurm may take these"
            yield finding(one.subject, "warning", f"some nodes of `{partition}`: {one.says}", hint)


def as_node(kind: Kind, asked: Resources, profile: Profile) -> Node:
    """Make of a kind what a node would say of itself."""
    own = [one for one in gpus(kind.gres, profile.gres) if is_model(one, kind, asked.gpus.model) is not False]
    memory = kind.gpu_memory_mb << 20 if kind.gpu_memory_mb is not None else None
    names = [one.type or kind.gpu for one in own for _ in range(one.count)]
    devices = (
        Device(index=index, model=kind.gpu or name, capability=kind.capability, memory_bytes=memory)
        for index, name in enumerate(names)
    )
    return Node(driver=kind.driver, devices=tuple(devices), source="profile")
