"""What Slurm says of jobs: squeue, then scontrol, then sacct, each read by separators that hold in 22.05 to 24.11.

None is no answer; an answer without a job means that Slurm surely hasn't it. `--json` differs between versions, and
its numbers became objects in 23.02: so the older columns are asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from launcher.errors import ProcessError
from launcher.process import run
from launcher.slurm.model import NAME

PATIENCE_S = 60.0
COLUMNS = "%F|%K|%j|%T|%N|%r"  # array's id, index, name, state, nodes, reason; the last may hold anything (squeue(1))
ACCOUNTED = ("JobID", "JobName", "State", "NodeList")
PAIR = re.compile(r"(?:^| )(JobId|ArrayJobId|ArrayTaskId|JobName|JobState|NodeList|Reason)=(\S*)")
RANGE = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?$")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line about tasks of an array; a single job is the array whose only index is 0."""

    job: str  # id of the array, or of the job
    indices: tuple[int, ...]
    array: bool  # whether Slurm takes it for one
    name: str
    state: str  # Slurm's word
    node: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one of Slurm's commands told, and which. `surely` means that what isn't in it is nowhere in the queue."""

    rows: tuple[Row, ...] = ()
    by: str = "squeue"
    surely: bool = True


@dataclass(frozen=True, kw_only=True)
class Silence:
    """Nobody answered: what each of them said instead."""

    why: str


def ask(names: Sequence[str], jobs: Sequence[str] = (), *, accounting: bool = True) -> Answer | Silence:
    """Ask for jobs of this user by their names; where squeue fails scontrol, then sacct by `jobs`, their ids."""
    if not names:
        return Answer()
    failures = []
    for way in (squeue, scontrol, sacct) if accounting else (squeue, scontrol):
        found = way(names, jobs)
        if isinstance(found, Answer):
            return found
        failures.append(found.why)
    return Silence(why="; ".join(dict.fromkeys(failures)))


def squeue(names: Sequence[str], jobs: Sequence[str] = ()) -> Answer | Silence:
    """Ask for all of this user's jobs, as squeue filters names itself and calls unknown ids an error."""
    argv = ["squeue", "--me", "--noheader", "--states=all", f"--name={','.join(names)}", f"--format={COLUMNS}"]
    said = told(argv, {"SLURM_BITSTR_LEN": "0"})  # or lists of indices end in dots (squeue(1), ENVIRONMENT VARIABLES)
    if isinstance(said, Silence):
        return said
    try:
        return Answer(rows=tuple(squeue_rows(said)))
    except ValueError as e:
        return Silence(why=f"squeue: {e}")


def squeue_rows(said: str) -> Iterator[Row]:
    """Read squeue's lines. Raises ValueError for one that is none."""
    for line in filter(None, said.splitlines()):
        parts = line.split("|", len(COLUMNS.split("|")) - 1)
        if len(parts) < len(COLUMNS.split("|")) or not parts[0].isdigit():
            raise ValueError(f"this is no line of squeue: {line!r}")
        job, index, name, state, node, reason = (part.strip() for part in parts)
        yield Row(
            job=job, indices=indices(index), array=is_array(index), name=name, state=state, node=node, reason=reason
        )


def indices(text: str) -> tuple[int, ...]:
    """Read Slurm's array indices: 7, 0-3,9, 0-8:2, 5-99%4, with or without brackets; N/A is the single job's 0.

    Raises ValueError, also for a list that was cut short by dots: half of the truth is none.
    """
    text = text.strip("[]").partition("%")[0].strip("[]")
    if not is_array(text):
        return (0,)
    found: list[int] = []
    for part in text.split(","):
        match = RANGE.match(part)
        if not match:
            raise ValueError(f"`{text}` is no list of array indices")
        low, high, step = match.groups()
        found += range(int(low), int(high or low) + 1, int(step or 1))
    return tuple(found)


def is_array(index: str) -> bool:
    return index not in ("", "N/A", "None", "4294967294")


def scontrol(names: Sequence[str], jobs: Sequence[str] = ()) -> Answer | Silence:
    """Ask the same daemon by another door: `scontrol show job` prints key=value pairs (scontrol(1))."""
    said = told(["scontrol", "--oneliner", "show", "job"], {"SLURM_BITSTR_LEN": "0"})
    if isinstance(said, Silence):
        return said
    try:
        wanted = set(names)
        return Answer(rows=tuple(row for row in scontrol_rows(said) if row.name in wanted), by="scontrol")
    except ValueError as e:
        return Silence(why=f"scontrol: {e}")


def scontrol_rows(said: str) -> Iterator[Row]:
    for line in said.splitlines():
        if not line.startswith("JobId="):
            if line.strip() and "No jobs" not in line:
                raise ValueError(f"this is no line of scontrol: {line!r}")
            continue
        facts = dict(reversed(PAIR.findall(line)))  # the first of each counts: a comment may look like another
        yield Row(
            job=facts.get("ArrayJobId") or facts["JobId"],
            indices=indices(facts.get("ArrayTaskId", "N/A")),
            array="ArrayTaskId" in facts,
            name=facts.get("JobName", ""),
            state=facts.get("JobState", ""),
            node=facts.get("NodeList", "").replace("(null)", ""),
            reason=facts.get("Reason", ""),
        )


def sacct(names: Sequence[str], jobs: Sequence[str] = ()) -> Answer | Silence:
    """Ask accounting: it lags behind, and what it calls an end may have been requeued since."""
    if not jobs:
        return Silence(why="sacct can't be asked for a job whose id nobody knows")
    columns = ",".join(ACCOUNTED)
    argv = ["sacct", "--allocations", "--noheader", "--parsable2", f"--format={columns}", f"--jobs={','.join(jobs)}"]
    said = told(argv, {})
    if isinstance(said, Silence):
        return said
    try:
        return Answer(rows=tuple(sacct_rows(said)), by="sacct", surely=False)
    except ValueError as e:
        return Silence(why=f"sacct: {e}")


def sacct_rows(said: str) -> Iterator[Row]:
    for line in filter(None, said.splitlines()):
        parts = line.split("|")
        job, _, index = parts[0].partition("_")
        if len(parts) != len(ACCOUNTED) or not job.isdigit():
            raise ValueError(f"this is no line of sacct: {line!r}")
        state = parts[2].split()[0] if parts[2] else ""  # CANCELLED by 1000
        found = indices(index or "N/A")
        yield Row(job=job, indices=found, array=bool(index), name=parts[1], state=state, node=parts[3].strip())


def told(argv: Sequence[str], further: Mapping[str, str]) -> str | Silence:
    """Return what a command printed; a failure is silence, and so is a complaint with nothing said besides."""
    from launcher.slurm.sbatch import environment

    try:
        done = run(argv, env={**environment(os.environ), **further}, timeout_s=PATIENCE_S, check=False)
    except ProcessError as e:
        return Silence(why=e.problems[0].message)
    complaint = done.stderr.decode(errors="replace").strip()
    if done.returncode or (complaint and not done.stdout):
        last = complaint.splitlines()[-1] if complaint else f"ended with code {done.returncode}"
        return Silence(why=f"{argv[0]}: {last.removeprefix(argv[0] + ': ').removeprefix('error: ')}")
    return done.stdout.decode(errors="replace")


def is_empty() -> bool:
    """Tell whether this user has surely no job of ours in the queue, but for the one that asks: it is about to end."""
    said = told(["squeue", "--me", "--noheader", "--format=%A|%j"], {})
    if isinstance(said, Silence):
        return False
    mine = os.environ.get("SLURM_JOB_ID", "")
    lines = (line.partition("|") for line in said.splitlines())
    return not any(name.startswith(NAME) and job != mine for job, _, name in lines)
