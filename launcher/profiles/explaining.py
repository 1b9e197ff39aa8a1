"""Say in plain words what was found of a site, what is missing, and what to do. Pure: a comparison of values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launcher.findings import Finding
from launcher.profiles import cluster, explaining_nodes
from launcher.profiles.answers import NO_ANSWER, Answer, Answers, settings, tables
from launcher.profiles.fit import accounts, enforces, named, qos_known
from launcher.profiles.fit_nodes import clock, counted, finding, refused
from launcher.profiles.model import Partition, Profile
from launcher.profiles.node_facts import Place, Seen, places

LEAST_PYTHON = (3, 10)
SCARCE_KIB = 20 << 20
SCARCE_INODES = 10_000


@dataclass(frozen=True, kw_only=True)
class Site:
    """Everything that was asked: a profile made of the answers, and the answers themselves.

    `probes` has what was said by partition, the login node's part under the empty name; `nodes` those that answered.
    """

    profile: Profile
    login: Answers
    probes: Mapping[str, Answers]
    nodes: tuple[Seen, ...]
    where: str


def findings(site: Site) -> Iterator[Finding]:
    """Yield what is to be said, in the order of the report."""
    yield from slurm(site)
    yield from setup(site)
    yield from modules(site)
    yield from partitions(site)
    yield from nodes_away(site)
    yield from submitting(site)
    yield from charging(site)
    yield from going_on(site)
    yield from python(site.login.get("python", NO_ANSWER), told(site.login, "pythons"), site.profile, "the login node")
    yield from shared(site)
    yield from explaining_nodes.probes(site.profile, site.probes, site.nodes)
    for node in {one.host: one for one in site.nodes}.values():
        yield from python(node.python, node.pythons, site.profile, node.host)
        yield from explaining_nodes.node(site.profile, node, site.login)
    yield from explaining_nodes.all_nodes(site.profile, site.nodes)


def slurm(site: Site) -> Iterator[Finding]:
    profile = site.profile
    says = f"Slurm {profile.slurm or 'of an unknown version'}, cluster {profile.cluster or '?'}, asked on {site.where}"
    yield finding("slurm", "ok", says)
    if "sbatch" not in told(site.login, "programs"):
        hint = '`setup = ["module load slurm"]` in the target\'s file may bring it'
        yield refused("slurm", "there is no program `sbatch` on the login node", hint)


def told(said: Answers, name: str) -> tuple[str, ...]:
    """Return the programs that were found, those that can't say their version left out of Pythons."""
    rows = tables(said.get(name, NO_ANSWER))
    return tuple(row[0] for row in rows if len(row) == 3 and (row[2] or name != "pythons"))


def setup(site: Site) -> Iterator[Finding]:
    failed = site.login.get("setup")
    if failed:
        says = f"lines of `setup` fail on the login node: {'; '.join(failed.lines)}"
        yield refused("setup", says, "mend them in the target's file, or load other modules (--modules lists some)")


def modules(site: Site) -> Iterator[Finding]:
    asked = site.login.get("modules")
    if asked is not None:
        names = [line.strip() for line in asked.lines if not line.rstrip().endswith(":")]
        yield finding(
            "modules", "ok" if names else "unknown", ", ".join(names) or "`module avail` lists none that matter"
        )


def partitions(site: Site) -> Iterator[Finding]:
    _, wrong = named(site.profile)
    yield from wrong
    for one in site.profile.partitions:
        if one.up:
            yield finding("partition", "ok", described(one))
        else:
            says = f"`{one.name}` takes no jobs now: it is down, drained or inactive"
            yield finding(
                "partition", "warning", says, f"`scontrol show partition {one.name}` says which, the site why"
            )


def described(one: Partition) -> str:
    """Return a partition's facts in a line."""
    parts = [counted(one.nodes or 0, "node")]
    parts += [f"up to {counted(one.cpus, 'CPU')}"] if one.cpus else []
    parts += [f"{one.memory_mb} MiB"] if one.memory_mb else []
    parts += one.gres
    parts += [f"jobs end after {clock(one.max_time_s)}" if one.max_time_s else "no time limit"]
    parts += [f"unless they say otherwise after {clock(one.default_time_s)}"] if one.default_time_s else []
    if one.preempt and one.preempt != "OFF":
        parts += [f"may be preempted ({one.preempt}, {one.grace_s or 0} s to make way)"]
    return f"`{one.name}`{' (the default)' if one.default else ''}: {', '.join(parts)}"


def nodes_away(site: Site) -> Iterator[Finding]:
    away = cluster.nodes_away(site.login)
    if away:
        some = "; ".join(f"{name}: {state}" for name, state in away[:5]) + (" ..." if len(away) > 5 else "")
        hint = "nothing is wrong with the target: jobs go to the others, or wait"
        yield finding("nodes", "warning", f"{counted(len(away), 'node')} can't take jobs now: {some}", hint)


def submitting(site: Site) -> Iterator[Finding]:
    profile = site.profile
    yield finding("arrays", "ok", f"MaxArraySize {profile.max_array}: longer sweeps are split")
    if profile.max_submit is not None:
        says = (
            f"you may have {counted(profile.max_submit, 'task')} in the queue; what is more is submitted as others end"
        )
        yield finding("limits", "ok", says)
    elif site.login.get("assoc", NO_ANSWER).good:
        yield finding("limits", "ok", "no limit of submitted tasks is told")
    else:
        says = f"which limits hold for you can't be told: {site.login.get('assoc', NO_ANSWER).reason}"
        hint = "if there is one, say it in the target's file: max_submit = 100"
        yield finding("limits", "unknown" if profile.enforced else "ok", says, hint)


def charging(site: Site) -> Iterator[Finding]:
    profile, sacct = site.profile, site.login.get("sacct", NO_ANSWER)
    wrong = [*accounts(profile, None), *qos_known(profile)]
    yield from wrong
    if profile.accounts and not wrong:
        account = profile.account or profile.default_account
        yield finding("account", "ok", f"jobs are charged to `{account}`; yours: {', '.join(profile.accounts)}")
    elif enforces(profile, "associations") and not profile.accounts:
        hint = "ask the site whether you have an account there; when slurmdbd is back, look again"
        yield finding("account", "unknown", "the site wants an account, and tells of none of yours", hint)
    if sacct.good:
        yield finding("accounting", "ok", "sacct answers")
    else:
        says = f"sacct doesn't answer ({sacct.reason}): states are read from the store, squeue and scontrol"
        yield finding("accounting", "ok" if "disabled" in sacct.text else "warning", says, "nothing depends on it")


def going_on(site: Site) -> Iterator[Finding]:
    """Say what requeue and preemption do here."""
    config = settings(site.login.get("config", NO_ANSWER))
    default = "by default" if config.get("JobRequeue") == "1" else "as launcher asks for it with --requeue"
    yield finding(
        "requeue", "ok", f"jobs may be requeued {default}; {config.get('KillWait', '30 sec')} from SIGTERM to SIGKILL"
    )
    cancels = [one.name for one in site.profile.partitions if one.preempt == "CANCEL"]
    if cancels:
        says = f"preempted jobs of {', '.join(f'`{name}`' for name in cancels)} are cancelled, not requeued"
        yield finding("requeue", "warning", says, "their runs go on when the sweep is submitted again")


def python(answer: Answer, others: tuple[str, ...], profile: Profile, where: str) -> Iterator[Finding]:
    version = tuple(int(part) for part in answer.text.split(".")[:2] if part.isdecimal()) if answer.good else ()
    if version >= LEAST_PYTHON:
        yield finding("python", "ok", f"{where}: {profile.python} is Python {answer.text.strip()}")
        return
    is_old = f"is Python {answer.text.strip()}, and 3.10 is wanted" if version else f"can't be run: {answer.reason}"
    newest = f'python = "{others[-1]}"' if others else 'setup = ["module load python"], or another `python`,'
    yield refused("python", f"{where}: {profile.python} {is_old}", f"{newest} in the target's file")


def shared(site: Site) -> Iterator[Finding]:
    """Say what is known of the shared folder on the login node."""
    answer = site.login.get("shared", NO_ANSWER)
    there = places(answer)
    if not site.profile.shared:
        seen = "; ".join(
            f"{place.path} ({place.type}, {gib(place.free_kib)} free)" for place in there if place.writable
        )
        hint = f'shared = "DIR" in the target\'s file, where nodes see it too; writable here: {seen or "nothing known"}'
        yield refused("shared", "no shared folder is named, and the nodes get everything from there", hint)
    elif not there:
        reason = answer.reason.removeprefix("mkdir: ")
        yield refused("shared", f"the shared folder isn't there: {reason}", "name another, or make it")
    else:
        yield of_place("shared", there[0])
    if quota := site.login.get("quota", NO_ANSWER).lines:
        yield finding("quota", "ok", "; ".join(" ".join(line.split()) for line in quota))


def of_place(subject: str, place: Place) -> Finding:
    if not place.writable:
        return refused(
            subject, f"{place.path} can't be written", "mend its mode, free some space there, or name another"
        )
    says = f"{place.path} ({place.type}): {gib(place.free_kib)} free"
    if (place.free_kib or SCARCE_KIB) < SCARCE_KIB:
        return finding(subject, "warning", says, "an image with PyTorch and CUDA takes about 10 GiB there")
    if (place.inodes or SCARCE_INODES) < SCARCE_INODES:
        return finding(
            subject, "warning", f"{says}, for {place.inodes} more files", "launcher's tools are some thousand"
        )
    return finding(subject, "ok", says)


def gib(kib: int | None) -> str:
    return "an unknown amount" if kib is None else f"{kib / (1 << 20):.1f} GiB"
