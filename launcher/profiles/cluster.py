"""Make partitions, QOS and limits of what Slurm said of itself. Pure: what was not said stays None."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from launcher.profiles.answers import (
    NO_ANSWER,
    Answers,
    known,
    least,
    megabytes,
    names,
    number,
    records,
    rows,
    seconds,
    settings,
    tres,
)
from launcher.profiles.asking import ASSOCIATION, QOS
from launcher.profiles.gres import gpus, split
from launcher.profiles.model import Kind, Partition, Profile, Qos

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # uname -m to what images are called by
AWAY = ("DOWN", "DRAIN", "FAIL", "NOT_RESPONDING", "MAINT", "INVAL", "FUTURE", "UNKNOWN")
DEFAULT_MAX_ARRAY = 1001  # slurm.conf(5)


def seen(profile: Profile, said: Answers) -> Profile:
    """Return the profile with everything that Slurm itself said of the site and of this user."""
    config = settings(said.get("config", NO_ANSWER))
    nodes = list(records(said.get("node", NO_ANSWER)))
    found = [partition(one, nodes) for one in records(said.get("partition", NO_ANSWER)) if "PartitionName" in one]
    known_here = limited(profile, said)
    return replace(
        known_here,
        slurm=config.get("SLURM_VERSION"),
        cluster=known(config.get("ClusterName")),
        max_array=number(config.get("MaxArraySize")) or DEFAULT_MAX_ARRAY,
        accounting=said.get("sacct", NO_ANSWER).good,
        requeue=True,  # JobRequeue is what a job has that says nothing; launcher's say --requeue
        enforced=tuple(word for word in names(config.get("AccountingStorageEnforce", "").lower()) if word != "none"),
        partitions=tuple(found),
        max_submit=submit_limit(known_here, found, rows(said.get("assoc", NO_ANSWER), ASSOCIATION)),
    )


def partition(told: Mapping[str, str], nodes: Iterable[Mapping[str, str]]) -> Partition:
    name = told["PartitionName"]
    own = [node for node in nodes if name in node.get("Partitions", "").split(",")]
    kinds = told_apart(told, own)
    total = number(told.get("TotalNodes"))
    return Partition(
        name=name,
        default=told.get("Default") == "YES",
        up=told.get("State") == "UP",
        nodes=total,
        cpus=max((kind.cpus for kind in kinds if kind.cpus is not None), default=None),
        memory_mb=max((kind.memory_mb for kind in kinds if kind.memory_mb is not None), default=None),
        gres=most(kinds),
        features=tuple(sorted({feature for kind in kinds for feature in kind.features})),
        max_time_s=seconds(told.get("MaxTime")),
        default_time_s=seconds(told.get("DefaultTime")),
        max_nodes=number(told.get("MaxNodes")),
        preempt=known(told.get("PreemptMode")),
        grace_s=number(told.get("GraceTime")),
        priority=number(told.get("PriorityTier")),
        kinds=kinds,
        allow_accounts=names(told.get("AllowAccounts")),
        allow_qos=names(told.get("AllowQos")),
        qos=known(told.get("QoS")),
    )


def told_apart(told: Mapping[str, str], nodes: Iterable[Mapping[str, str]]) -> tuple[Kind, ...]:
    """Return the kinds of nodes of a partition with their numbers; what the partition caps is capped."""
    cpus, memory = number(told.get("MaxCPUsPerNode")), number(told.get("MaxMemPerNode"))
    counted = Counter(kind(node, cpus, memory) for node in nodes)
    return tuple(replace(one, count=count) for one, count in counted.items())


def kind(node: Mapping[str, str], most_cpus: int | None, most_memory_mb: int | None) -> Kind:
    memory, reserved = number(node.get("RealMemory")), number(node.get("MemSpecLimit")) or 0
    return Kind(
        cpus=least([number(node.get("CPUEfctv")) or number(node.get("CPUTot")), most_cpus]),
        memory_mb=least([memory - reserved if memory is not None else None, most_memory_mb]),
        gres=split(node.get("Gres", "")),
        features=names(node.get("AvailableFeatures")),
        architecture=ARCHITECTURES.get(node.get("Arch", "")),
    )


def most(kinds: Iterable[Kind]) -> tuple[str, ...]:
    """Return of each type of GPU the most that one node has, and other resources as they are."""
    found: dict[str, tuple[int, str]] = {}
    for one in (gres for kind in kinds for gres in kind.gres):
        name, count = (one, 0) if one.count(":") == 0 else one.rsplit(":", 1)
        amount = int(count) if str(count).isdecimal() else 0
        found[str(name)] = max(found.get(str(name), (0, one)), (amount, one))
    return tuple(told for _, told in found.values())


def is_away(node: Mapping[str, str]) -> bool:
    """Tell whether a node takes no jobs now: down, drained, not answering."""
    state = node.get("State", "")
    return state.endswith("*") or any(word in state for word in AWAY)


def limited(profile: Profile, said: Answers) -> Profile:
    """Return the profile with the accounts and QOS that this user may use."""
    associations = rows(said.get("assoc", NO_ANSWER), ASSOCIATION)
    default = next(iter(said.get("default", NO_ANSWER).lines), None) if said.get("default", NO_ANSWER).good else None
    allowed = {name for row in associations for name in names(row["QOS"])}
    found = tuple(qos(row) for row in rows(said.get("qos", NO_ANSWER), QOS))
    own = [row for row in associations if row["Account"] == (profile.account or default)]
    return replace(
        profile,
        accounts=tuple(dict.fromkeys(row["Account"] for row in associations)),
        default_account=default,
        qoses=tuple(one for one in found if one.name in allowed) or found,
        default_qos=next((row["DefaultQOS"] for row in own if row["DefaultQOS"]), None),
    )


def qos(row: Mapping[str, str]) -> Qos:
    job, user = tres(row["MaxTRES"]), tres(row["MaxTRESPU"])  # what a user may have at once, one job may not exceed
    return Qos(
        name=row["Name"],
        max_time_s=seconds(row["MaxWall"]),
        max_submit=number(row["MaxSubmitPU"]),
        max_nodes=least([number(job.get("node")), number(user.get("node"))]),
        max_cpus=least([number(job.get("cpu")), number(user.get("cpu"))]),
        max_gpus=least([number(job.get("gres/gpu")), number(user.get("gres/gpu"))]),
        max_memory_mb=least([megabytes(job.get("mem")), megabytes(user.get("mem"))]),
    )


def submit_limit(profile: Profile, found: Iterable[Partition], rows_: list[dict[str, str]]) -> int | None:
    """Return how many tasks this user may have in the queue: the least of association, QOS and the partition's QOS."""
    account = profile.account or profile.default_account
    own = [number(row["MaxSubmit"]) for row in rows_ if row["Account"] == account]
    names_ = {profile.qos or profile.default_qos, *(one.qos for one in found if one.name == profile.partition)}
    return least([*own, *(one.max_submit for one in profile.qoses if one.name in names_)])


def nodes_away(said: Answers) -> list[tuple[str, str]]:
    """Return the nodes that take no jobs now, with their state and the reason that somebody gave."""
    found = [node for node in records(said.get("node", NO_ANSWER)) if is_away(node)]
    return [(node["NodeName"], f"{node['State']} {known(node.get('Reason')) or ''}".strip()) for node in found]


def gpu_total(one: Kind, name: str) -> int:
    return sum(gpu.count for gpu in gpus(one.gres, name))
