"""Whether a target can serve a lock and what a run asks for: a pure comparison, every finding with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from launcher.errors import Problem, TargetError
from launcher.findings import Finding
from launcher.gpu.table import Toolkits
from launcher.gpu.verdict import Wanted, findings
from launcher.lock.model import Lock
from launcher.target.architecture import ELSEWHERE
from launcher.target.facts import Facts

CLOCK_S = 5.0  # a clock that is further off puts events in the wrong order, and signatures of clouds fail at minutes
TIGHT = 0.9  # of the free space: from here on an image that fits is worth a warning


class Resources(Protocol):
    """What a run asks for, in a spec's words."""

    @property
    def nodes(self) -> int: ...
    @property
    def gpus(self) -> Wanted: ...
    @property
    def cpus(self) -> int | None: ...
    @property
    def memory_bytes(self) -> int | None: ...


def compare(lock: Lock, asked: Resources, facts: Facts, toolkits: Toolkits) -> list[Finding]:
    """Return everything that can be said of a lock and a run on a target; the order is that of the report."""
    return [
        architecture(lock, facts),
        *gpus(lock, asked, facts, toolkits),
        *machine(asked, facts),
        *runtimes(facts),
        disk(facts),
        *store(facts),
        *data(facts),
    ]


def refusal(found: list[Finding]) -> TargetError | None:
    """Return the error that tells every reason at once, or None when nothing is refused."""
    problems = [Problem(message=finding.says, hint=finding.hint) for finding in found if finding.verdict == "refused"]
    if not problems:
        return None
    error = TargetError.of(problems)
    assert isinstance(error, TargetError)
    return error


def architecture(lock: Lock, facts: Facts) -> Finding:
    if facts.architecture is None:
        return Finding(subject="architecture", verdict="unknown", says=f"the image is for linux/{lock.architecture}")
    if lock.architecture == facts.architecture:
        return Finding(subject="architecture", verdict="ok", says=f"image and machine are linux/{facts.architecture}")
    says = f"the image is for linux/{lock.architecture}, and this machine is linux/{facts.architecture}"
    return Finding(subject="architecture", verdict="refused", says=says, hint=ELSEWHERE)


def gpus(lock: Lock, asked: Resources, facts: Facts, toolkits: Toolkits) -> list[Finding]:
    """Compare driver and GPUs. A run that asks for none gets none, whatever its image could do with one."""
    if asked.gpus.count:
        return findings(lock.gpu, facts.node, wanted=asked.gpus, toolkits=toolkits)
    if lock.gpu is None:
        return []
    says = f"the image has CUDA {lock.gpu.cuda}, and the run asks for no GPU"
    return [Finding(subject="gpus", verdict="ok", says=says, hint="`resources: {gpus: 1}` asks for one")]


def machine(asked: Resources, facts: Facts) -> Iterator[Finding]:
    if asked.nodes > 1 and facts.target == "local":
        says = f"the job wants {asked.nodes} nodes, and this is one machine"
        yield Finding(subject="nodes", verdict="refused", says=says, hint="ask for one node under `resources:`")
    if asked.cpus is not None:
        yield enough("cpus", plural(asked.cpus), asked.cpus, facts.cpus, f"{facts.cpus}")
    if asked.memory_bytes is not None:
        there = gb(facts.memory_bytes) if facts.memory_bytes is not None else ""
        yield enough("memory", gb(asked.memory_bytes), asked.memory_bytes, facts.memory_bytes, there)


def plural(cpus: int) -> str:
    return "1 CPU" if cpus == 1 else f"{cpus} CPUs"


def enough(subject: str, wanted: str, least: int, there: int | None, shown: str) -> Finding:
    if there is None:
        return Finding(subject=subject, verdict="unknown", says=f"{wanted} wanted; what there is can't be told")
    if there >= least:
        return Finding(subject=subject, verdict="ok", says=f"{wanted} wanted, and there are {shown}")
    hint = "ask for less under `resources:`, or run it where there is more"
    return Finding(subject=subject, verdict="refused", says=f"{wanted} wanted, and there are {shown}", hint=hint)


def runtimes(facts: Facts) -> Iterator[Finding]:
    """One runtime that works is enough; the others are told of so that nobody wonders."""
    working = [runtime for runtime in facts.runtimes if runtime.refusal is None]
    for runtime in facts.runtimes:
        if runtime.refusal is None:
            version = f" {runtime.version}" if runtime.version else ""
            yield Finding(subject="runtime", verdict="ok", says=f"{runtime.name}{version} can run containers")
        elif working:
            yield Finding(subject="runtime", verdict="ok", says=f"{runtime.name} isn't needed; {runtime.refusal}")
    if not working and facts.runtimes:
        reasons = "; ".join(f"{runtime.name}: {runtime.refusal}" for runtime in facts.runtimes)
        hint = "one of them is enough; docs/how-to/without-root.md says what each of them needs"
        yield Finding(subject="runtime", verdict="refused", says=f"nothing can run a container: {reasons}", hint=hint)
    if not facts.runtimes:
        yield Finding(subject="runtime", verdict="unknown", says="nothing tells what runs containers there")
    yield namespaces(facts)


def namespaces(facts: Facts) -> Finding:
    if facts.user_namespaces is None:
        return Finding(subject="user namespaces", verdict="unknown", says="nobody asked the kernel for one")
    if facts.user_namespaces == "":
        return Finding(subject="user namespaces", verdict="ok", says="no setting forbids them")
    hint = "the sandbox, rootless Podman and Apptainer need them; an engine of root's doesn't"
    return Finding(subject="user namespaces", verdict="warning", says=facts.user_namespaces, hint=hint)


def disk(facts: Facts) -> Finding:
    """Compare what of the image is not there yet with the space that is free."""
    if facts.absent_bytes is None or facts.disk_free_bytes is None:
        return Finding(subject="disk", verdict="unknown", says="how much of the image is missing there can't be told")
    free, place = gb(facts.disk_free_bytes), facts.place or "the target"
    says = f"{gb(facts.absent_bytes)} of the image still to come, {free} free in {place}"
    if facts.absent_bytes > facts.disk_free_bytes:
        hint = "free some, or put LAUNCHER_CACHE on a larger disk"
        return Finding(subject="disk", verdict="refused", says=says, hint=hint)
    tight = facts.absent_bytes > facts.disk_free_bytes * TIGHT
    return Finding(subject="disk", verdict="warning" if tight else "ok", says=says)


def store(facts: Facts) -> Iterator[Finding]:
    if facts.store is None:
        yield Finding(subject="store", verdict="unknown", says="nobody asked the store")
        return
    if facts.store_problem is not None:
        hint = "name another by `store:`, --store or LAUNCHER_STORE, or make this one writable"
        says = f"the store {facts.store} can't be used: {facts.store_problem.removeprefix(f'{facts.store}: ')}"
        yield Finding(subject="store", verdict="refused", says=says, hint=facts.store_hint or hint)
        return
    yield Finding(subject="store", verdict="ok", says=f"the store {facts.store} can be written")
    yield clock(facts.clock_offset_s)


def clock(offset_s: float | None) -> Finding:
    if offset_s is None:
        return Finding(subject="clock", verdict="unknown", says="there is no other clock to compare with")
    if abs(offset_s) <= CLOCK_S:
        return Finding(subject="clock", verdict="ok", says=f"within {CLOCK_S:g} s of the store's")
    says = f"{abs(offset_s):.0f} s {'ahead of' if offset_s > 0 else 'behind'} the store's clock"
    return Finding(subject="clock", verdict="warning", says=says, hint="let chrony or another NTP client set it")


def data(facts: Facts) -> Iterator[Finding]:
    for name, problem in sorted(facts.data.items()):
        if problem:
            hint = f"`data: {{{name}: PATH}}` in the spec says where it is"
            yield Finding(subject="data", verdict="refused", says=f"the input `{name}`: {problem}", hint=hint)
        else:
            yield Finding(subject="data", verdict="ok", says=f"the input `{name}` is there")


def gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
