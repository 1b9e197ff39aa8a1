"""Look at a site: two round trips of questions, and what follows from the answers. Nothing is guessed."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Protocol

from launcher.errors import TargetError
from launcher.findings import Finding
from launcher.profiles import asking, cluster, explaining, node_facts
from launcher.profiles.answers import NO_ANSWER, Answer, answers, by_partition, settings
from launcher.profiles.model import Partition, Profile, Warned
from launcher.progress import SILENT, Progress

MOST_PROBES = 12  # partitions that are probed when none is named
WAIT_S = 60
PATIENCE_S = 60  # for everything that a script does besides waiting


class Ended(Protocol):
    """How a command on the site ended (launcher.remote.model.Done)."""

    @property
    def code(self) -> int: ...
    @property
    def stdout(self) -> bytes: ...
    @property
    def stderr(self) -> bytes: ...


class Shell(Protocol):
    """The way to the login node (launcher.remote.model.Shell)."""

    @property
    def where(self) -> str: ...
    def run(self, argv: Sequence[str], *, timeout_s: float | None = None) -> Ended: ...


@dataclass(frozen=True, kw_only=True)
class Report:
    """A profile with what was found, and everything that is to be said of it."""

    profile: Profile
    findings: tuple[Finding, ...]


def look(shell: Shell, profile: Profile) -> Profile:
    """Return the profile with what was found. Raises TargetError when nobody answers there."""
    return examine(shell, profile).profile


def examine(
    shell: Shell,
    profile: Profile,
    *,
    before: Profile | None = None,
    job: bool = True,
    partitions: Sequence[str] = (),
    wait_s: int = WAIT_S,
    endpoint: tuple[str, int] | None = None,
    modules: bool = False,
    progress: Progress = SILENT,
) -> Report:
    """Look at a site, and say what it comes to.

    One round trip asks the login node; another runs a short probe on a node of each partition that the profile names
    (`partitions` names others), waiting `wait_s` seconds for all of them together; without `job` none is run. Those
    that still wait are cancelled, and stay unknown. `endpoint` is what nodes try to reach: host and port of the
    store. `before` is what an earlier look found: what this one can't tell of GPUs is kept from there.

    Raises TargetError when there is no way there, or Slurm doesn't answer: then nothing is known.
    """
    progress.note(f"asking {shell.where}")
    said = answers(asked(shell, profile, asking.login(profile, modules=modules), 2 * asking.ASK_S + PATIENCE_S))
    refuse_silence(said, profile, shell)
    found = cluster.seen(profile, said)
    chosen = probed(found, partitions) if job else []
    if chosen:
        progress.note(f"running a probe in {', '.join(one.name for one in chosen)}, for {wait_s} s at most")
    memory = "MEMORY" in settings(said["config"]).get("SelectTypeParameters", "").upper()
    script = asking.probes(found, chosen, secrets.token_hex(6), wait_s, endpoint=endpoint, memory=memory)
    told = by_partition(asked(shell, profile, script, wait_s + 2 * PATIENCE_S)) if chosen else {}
    seen = [one for name in told if name and (one := node_facts.seen(name, told[name]))]
    found = with_nodes(found, seen, before)
    site = explaining.Site(profile=found, login=said, probes=told, nodes=tuple(seen), where=shell.where)
    findings = tuple(explaining.findings(site))
    return Report(profile=replace(found, warnings=warned(findings), seen=now()), findings=findings)


def warned(findings: Sequence[Finding]) -> tuple[Warned, ...]:
    """Return what a profile keeps of findings: what is wrong."""
    bad = (one for one in findings if one.verdict in ("refused", "warning"))
    return tuple(
        Warned(says=f"{one.subject}: {one.says}", hint=one.hint or "", refused=one.verdict == "refused") for one in bad
    )


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def asked(shell: Shell, profile: Profile, script: str, timeout_s: float) -> str:
    """Run a script there; over SSH as a login shell, so that what the site sets up for its users is there.

    Raises TargetError.
    """
    done = shell.run(["bash", "-lc" if profile.host else "-c", script], timeout_s=timeout_s)
    text = done.stdout.decode(errors="replace")
    if asking.MARK not in text:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        said = "; ".join(last) or f"exit code {done.code}"
        hint = "does bash start there? lines of `setup` and of your ~/.bashrc count"
        raise TargetError(f"{shell.where} didn't answer doctor's questions: {said}", hint=hint)
    return text


def refuse_silence(said: dict[str, Answer], profile: Profile, shell: Shell) -> None:
    """Raise TargetError when Slurm's controller said nothing: what was found earlier stays as it is."""
    config = said.get("config", NO_ANSWER)
    if config.good and said.get("partition", NO_ANSWER).good:
        return
    missing = "not found" in config.text or config.code == 127
    hint = (
        'no Slurm here? `setup = ["module load slurm"]` in the target\'s file may bring it, or host = ... lead to it'
        if missing
        else "is the controller down, or no Slurm set up here? try again later: what was found before stays as it is"
    )
    raise TargetError(f"{profile.name}: Slurm doesn't answer on {shell.where}: {config.reason}", hint=hint)


def probed(profile: Profile, asked: Sequence[str]) -> list[Partition]:
    """Return the partitions that a probe goes to: those asked for, or the profile's, or all that are up.

    Raises TargetError for names that there are not.
    """
    known = {one.name: one for one in profile.partitions}
    names = list(asked) or (profile.partition.split(",") if profile.partition else [])
    if wrong := [name for name in asked if name not in known]:
        raise TargetError(f"there is no partition `{wrong[0]}` on {profile.name}", hint=f"there are {', '.join(known)}")
    chosen = [known[name] for name in names if name in known] if names else in_order(known.values())[:MOST_PROBES]
    return [one for one in chosen if one.up and one.kinds]


def in_order(partitions: Iterable[Partition]) -> list[Partition]:
    return sorted(partitions, key=lambda one: (not one.default, not one.gres))


def with_nodes(profile: Profile, seen: Sequence[node_facts.Seen], before: Profile | None) -> Profile:
    """Lay what nodes said over the profile."""
    by_name = {one.partition: one for one in seen}
    earlier = {one.name: one for one in before.partitions} if before else {}
    told = (node_facts.told_of(one, by_name.get(one.name), earlier.get(one.name)) for one in profile.partitions)
    outbound = [one.outbound for one in seen if one.outbound is not None]
    return replace(
        profile,
        partitions=tuple(told),
        outbound=all(outbound) if outbound else before.outbound if before else None,
        scratches=scratches(seen) if seen else before.scratches if before else (),
    )


def scratches(seen: Sequence[node_facts.Seen]) -> tuple[str, ...]:
    """Return the folders of the nodes' own disks that all probes could write, the roomiest first."""
    per_node = [{place.path: place for place in one.scratch if place.local and place.writable} for one in seen]
    everywhere = set.intersection(*(set(one) for one in per_node)) if per_node else set()
    last = ("/tmp", "/var/tmp")  # everybody's, and often emptied
    return tuple(sorted(everywhere, key=lambda path: (path in last, -min(one[path].free_kib or 0 for one in per_node))))
