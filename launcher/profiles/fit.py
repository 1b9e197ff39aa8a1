"""Whether a job fits a site, before anything is sent there: a pure comparison with what is known of it.

What is not known refuses nothing. States that pass by themselves (a partition that is down, nodes that are drained)
are not compared: a profile remembers them from another day.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from launcher.errors import Problem
from launcher.findings import Finding
from launcher.gpu.model import Gpu
from launcher.gpu.table import Toolkits
from launcher.profiles import box_fit, fit_nodes
from launcher.profiles.fit_nodes import Resources, clock, counted, finding, refused
from launcher.profiles.model import Partition, Profile, Qos

ENFORCES = {  # words of AccountingStorageEnforce, and what they imply (slurm.conf(5))
    "associations": {"associations", "limits", "nojobs", "nosteps", "safe", "wckeys", "qos", "all"},
    "limits": {"limits", "safe", "all"},
    "qos": {"qos", "all"},
}
NO_TABLE = Toolkits()


class Asked(Protocol):
    """What has to fit: a job, or whatever asks for resources."""

    @property
    def resources(self) -> Resources: ...


def refusals(
    job: Asked,
    gpu: Gpu | None,
    profile: Profile,
    *,
    architecture: str | None = None,
    toolkits: Toolkits = NO_TABLE,
) -> tuple[Problem, ...]:
    """Return every reason why a site can't run a job, each with the way out; none when nothing speaks against it.

    `gpu` is what the image needs of GPUs (the lock's), `architecture` what it is for; with `toolkits` hints name the
    CUDA that an old driver would serve.
    """
    found = compare(job, gpu, profile, architecture=architecture, toolkits=toolkits)
    return tuple(Problem(message=one.says, hint=one.hint) for one in found if one.verdict == "refused")


def compare(
    job: Asked, gpu: Gpu | None, profile: Profile, *, architecture: str | None = None, toolkits: Toolkits = NO_TABLE
) -> list[Finding]:
    """Return everything that can be said of a job and a site."""
    if profile.kind == "ssh":
        return box_fit.compare(job, gpu, profile, architecture=architecture, toolkits=toolkits)
    if not profile.partitions:
        hint = f"`launcher doctor {profile.name}` looks"
        return [finding("partition", "unknown", f"nobody has looked at {profile.name} yet", hint)]
    chosen, wrong = named(profile)
    if wrong or not chosen:
        return [*wrong, *accounts(profile, None), *qos_known(profile)]
    tried = [[*of_partition(job.resources, gpu, profile, one, architecture, toolkits)] for one in chosen]
    fitting = [found for found in tried if all(one.verdict != "refused" for one in found)]
    best = fitting[0] if fitting else [one for found in tried for one in found]
    return [*dict.fromkeys([*qos_known(profile), *best, *time_to_save(job.resources, profile)])]


def named(profile: Profile) -> tuple[list[Partition], list[Finding]]:
    """Return the partitions that a job may land in, and what is wrong with their names."""
    known = {one.name: one for one in profile.partitions}
    if profile.partition is None:
        default = [one for one in profile.partitions if one.default]
        if default:
            return default, []
        says, hint = "no partition is named, and the site has no default one", f'partition = "{next(iter(known))}", say'
        return [], [refused("partition", says, f"{hint}, in the target's file; there are {', '.join(known)}")]
    names = profile.partition.split(",")
    wrong = [
        refused("partition", f"there is no partition `{name}` on {profile.name}", nearest(name, known))
        for name in names
        if name not in known
    ]
    return [known[name] for name in names if name in known], wrong


def nearest(word: str, known: Iterable[str]) -> str:
    words = list(known)
    near = difflib.get_close_matches(word, words, 1)
    return f"did you mean `{near[0]}`?" if near else f"there are {', '.join(words)}"


def of_partition(
    asked: Resources,
    gpu: Gpu | None,
    profile: Profile,
    partition: Partition,
    architecture: str | None,
    toolkits: Toolkits,
) -> Iterator[Finding]:
    """Yield what is to be said of a job in one partition."""
    yield from accounts(profile, partition)
    yield from allowed_qos(profile, partition)
    yield from nodes(asked, partition)
    yield from time(asked, profile, partition)
    yield from fit_nodes.compare(asked, gpu, profile, partition, architecture, toolkits)
    if enforces(profile, "limits"):
        yield from limits(asked, profile, partition)


def enforces(profile: Profile, what: str) -> bool:
    return bool(ENFORCES[what] & set(profile.enforced))


def accounts(profile: Profile, partition: Partition | None) -> Iterator[Finding]:
    """Compare the account with those that this user may charge, where the site insists on one."""
    account = profile.account or profile.default_account
    if enforces(profile, "associations") and profile.accounts:
        if account is None:
            hint = (
                f'account = "{profile.accounts[0]}", say, in the target\'s file; yours: {", ".join(profile.accounts)}'
            )
            yield refused("account", "the site wants an account, and none is named", hint)
        elif account not in profile.accounts:
            yield refused("account", f"`{account}` is no account of yours", nearest(account, profile.accounts))
    if partition and partition.allow_accounts and account and account not in partition.allow_accounts:
        says = f"partition `{partition.name}` doesn't take the account `{account}`"
        yield refused("account", says, f"it takes {', '.join(partition.allow_accounts)}; or name another partition")


def qos_known(profile: Profile) -> Iterator[Finding]:
    names = [one.name for one in profile.qoses]
    if profile.qos and names and profile.qos not in names and enforces(profile, "associations"):
        yield refused("qos", f"`{profile.qos}` is no QOS of yours", nearest(profile.qos, names))


def allowed_qos(profile: Profile, partition: Partition) -> Iterator[Finding]:
    qos = profile.qos or profile.default_qos
    if partition.allow_qos and qos and qos not in partition.allow_qos:
        says = f"partition `{partition.name}` doesn't take the QOS `{qos}`"
        yield refused("qos", says, f"it takes {', '.join(partition.allow_qos)}; or name another partition")


def nodes(asked: Resources, partition: Partition) -> Iterator[Finding]:
    """Compare the number of nodes with what the partition has, and lets one job have."""
    wanted, there, most = asked.nodes, partition.nodes, partition.max_nodes
    if there is not None and wanted > there:
        says = f"{counted(wanted, 'node')} wanted, and `{partition.name}` has {there}"
        yield refused("nodes", says, "ask for fewer under `resources.nodes`, or name another partition")
    elif most is not None and wanted > most:
        says = f"{counted(wanted, 'node')} wanted, and `{partition.name}` lets one job have {most}"
        yield refused("nodes", says, "ask for fewer under `resources.nodes`, or name another partition")
    elif there is not None:
        yield finding("nodes", "ok", f"{counted(wanted, 'node')} wanted, and `{partition.name}` has {there}")


def time(asked: Resources, profile: Profile, partition: Partition) -> Iterator[Finding]:
    wanted, most = time_s(asked, profile, partition), partition.max_time_s
    if most is not None and wanted > most:
        says = f"{clock(wanted)} wanted, and `{partition.name}` ends jobs after {clock(most)}"
        yield refused("time", says, saves(most, "name another partition"))
    elif most is not None:
        yield finding("time", "ok", f"{clock(wanted)} wanted, and `{partition.name}` lets jobs run for {clock(most)}")


def time_s(asked: Resources, profile: Profile, partition: Partition) -> int:
    return asked.time_s or partition.default_time_s or profile.time_s


def saves(most_s: int, otherwise: str) -> str:
    """Say that a time limit is no end: a run goes on from its checkpoint."""
    return f"ask for {clock(most_s)} at most: a run that saves checkpoints goes on after it; or {otherwise}"


def time_to_save(asked: Resources, profile: Profile) -> Iterator[Finding]:
    if asked.time_s is not None and asked.time_s <= profile.warn_s:
        says = f"the time limit of {clock(asked.time_s)} leaves no time before its warning, {profile.warn_s} s earlier"
        yield finding("time", "warning", says, "ask for more under `resources.time`, or set warn_s lower in the target")


def limits(asked: Resources, profile: Profile, partition: Partition) -> Iterator[Finding]:
    """Compare with the limits of the QOS that the job gets, and of the partition's own."""
    own = profile.qos or profile.default_qos
    for qos in (one for one in profile.qoses if one.name in (own, partition.qos)):
        yield from of_qos(asked, qos, time_s(asked, profile, partition), [one.name for one in profile.qoses])


def of_qos(asked: Resources, qos: Qos, wanted_s: int, known: Sequence[str]) -> Iterator[Finding]:
    others = ", ".join(name for name in known if name != qos.name)
    other = f"name another QOS ({others})" if others else "ask the site for another QOS"
    if qos.max_time_s is not None and wanted_s > qos.max_time_s:
        says = f"{clock(wanted_s)} wanted, and the QOS `{qos.name}` ends jobs after {clock(qos.max_time_s)}"
        yield refused("qos", says, saves(qos.max_time_s, other))
    for wanted, most, unit in (
        (asked.nodes, qos.max_nodes, "node"),
        ((asked.cpus or 1) * asked.nodes, qos.max_cpus, "CPU"),
        (asked.gpus.count * asked.nodes, qos.max_gpus, "GPU"),
    ):
        if most is not None and wanted > most:
            says = f"{counted(wanted, unit)} wanted in all, and the QOS `{qos.name}` lets you have {most}"
            yield refused("qos", says, f"ask for less under `resources:`, or {other}: Slurm would let it wait for ever")
    memory = (asked.memory_bytes or 0) * asked.nodes >> 20
    if qos.max_memory_mb is not None and memory > qos.max_memory_mb:
        says = f"{memory} MiB wanted in all, and the QOS `{qos.name}` lets you have {qos.max_memory_mb} MiB"
        yield refused("qos", says, f"ask for less under `resources.memory`, or {other}")
