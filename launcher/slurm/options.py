"""What sbatch is asked for: a job's needs and a site's facts become options of submitit's Slurm executor. Pure.

submitit's names are sbatch's with underscores; what it has no name for goes into `additional_parameters`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.errors import Problem, TargetError
from launcher.job import Job
from launcher.profiles.model import Partition, Profile
from launcher.spec.model import Gpus

# Options that a profile must not name as further ones: they are said in other ways, or are launcher's own.
OURS = {
    *("account", "array", "chdir", "comment", "constraint", "cpus-per-task", "dependency", "error", "export", "gpus"),
    *("gpus-per-node", "gres", "hold", "input", "job-name", "mem", "no-requeue", "nodes", "ntasks", "ntasks-per-node"),
    *("open-mode", "output", "parsable", "partition", "qos", "requeue", "signal", "test-only", "time", "wait", "wrap"),
}
UNIT_S = 60  # Slurm counts time limits in minutes, rounded up (sbatch(1), --time)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a person says on the command line: it counts more than the profile."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time_s: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)


NOTHING = Asked()


def options(job: Job, profile: Profile, asked: Asked = NOTHING, *, pack: int = 1) -> dict[str, Any]:
    """Return parameters for `submitit.SlurmExecutor.update_parameters`, all but those of one submission.

    With `pack` a task's allocation has room for so many points. Raises TargetError with every reason why the site
    can't be asked for this.
    """
    wants = job.resources
    place = partition(profile, asked, job)
    found: dict[str, Any] = {
        "partition": asked.partition or profile.partition or (place.name if place and not place.default else None),
        "account": asked.account or profile.account,
        "qos": asked.qos or profile.qos,
        "constraint": asked.constraint or profile.constraint,
        "nodes": wants.nodes,
        "ntasks_per_node": pack,
        "cpus_per_task": wants.cpus,
        "mem": memory(wants.memory_bytes, pack),
        "time": minutes(time_limit(job, profile, place, asked)),
        "signal_delay_s": profile.warn_s,
        "stderr_to_stdout": True,
        "use_srun": False,  # the batch script calls srun itself: it has to see what becomes of it
        **gpus(wants.gpus, profile, place, pack),
    }
    problems = [*time_problems(job, profile, place, asked), *foreign(profile.options), *foreign(asked.options)]
    if pack > 1 and wants.nodes > 1:
        problems.append(Problem(message=f"`pack: {pack}` packs points on one node, and a point wants {wants.nodes}"))
    if problems:
        raise TargetError.of(problems)
    further = {name: value if value else True for name, value in {**profile.options, **asked.options}.items()}
    requeue = {"requeue": True} if profile.requeue and job.restart else {"no-requeue": True}
    given = {name: value for name, value in found.items() if value is not None}
    return {**given, "additional_parameters": {**requeue, **further}}


def partition(profile: Profile, asked: Asked, job: Job) -> Partition | None:
    """Return the job's partition: the named one, the default, or the first that fits; None where none is known."""
    if name := asked.partition or profile.partition:
        return next((one for one in profile.partitions if one.name == name), None)
    default = next((one for one in profile.partitions if one.default), None)
    if default or not profile.partitions:
        return default
    fitting = (one for one in profile.partitions if one.up and fits(one, job))
    return next(fitting, profile.partitions[0])


def fits(place: Partition, job: Job) -> bool:
    """Tell whether nothing that is known of a partition speaks against a job."""
    wants = job.resources
    needed = (wants.memory_bytes or 0) / 2**20
    return (
        (place.nodes is None or wants.nodes <= place.nodes)
        and (place.max_nodes is None or wants.nodes <= place.max_nodes)
        and (place.cpus is None or (wants.cpus or 1) <= place.cpus)
        and (place.memory_mb is None or needed <= place.memory_mb)
        and (place.max_time_s is None or (wants.time_s or 0) <= place.max_time_s)
        and (not wants.gpus.count or bool(place.gres))
    )


def time_limit(job: Job, profile: Profile, place: Partition | None, asked: Asked) -> int:
    """Return the time limit in seconds: the command line's, the spec's, the partition's default, the profile's."""
    wanted = asked.time_s or job.resources.time_s
    if wanted:
        return wanted
    default = (place.default_time_s if place else None) or profile.time_s
    most = place.max_time_s if place else None
    return min(default, most) if most else default


def time_problems(job: Job, profile: Profile, place: Partition | None, asked: Asked) -> list[Problem]:
    limit = time_limit(job, profile, place, asked)
    found = []
    if place and place.max_time_s is not None and limit > place.max_time_s:
        hint = "ask for less time, or name another partition: a run goes on in its next attempt when the time is over"
        most = f"the partition {place.name} gives {place.max_time_s} s at most"
        found.append(Problem(message=f"the job wants {limit} s, and {most}", hint=hint))
    if limit <= profile.warn_s:
        message = f"the time limit of {limit} s is not longer than the {profile.warn_s} s that a job has to save"
        found.append(Problem(message=message, hint="ask for more time, or lower `warn_s` of the target"))
    return found


def minutes(seconds: int) -> int:
    return math.ceil(seconds / UNIT_S)


def memory(size: int | None, pack: int) -> str | None:
    """Return a node's memory in Slurm's MiB (sbatch(1), --mem), rounded up."""
    return None if size is None else f"{math.ceil(size * pack / 2**20)}M"


def gpus(wants: Gpus, profile: Profile, place: Partition | None, pack: int) -> dict[str, str]:
    """Return --gres, or --gpus-per-node where the site wants that."""
    if not wants.count:
        return {}
    count = wants.count * pack
    model = model_name(wants.model, place.gres if place else ()) if wants.model else None
    if profile.gres:
        return {"gres": ":".join([profile.gres, *([model] if model else []), str(count)])}
    return {"gpus_per_node": f"{model}:{count}" if model else str(count)}


def model_name(model: str, gres: tuple[str, ...]) -> str:
    """Return a GPU's model as the site calls it: Slurm compares types as text, and sites write what they like."""
    types = [parts[1] for parts in (entry.split("(")[0].split(":") for entry in gres) if len(parts) > 2]
    plain = simplified(model)
    same = [one for one in types if simplified(one) == plain]
    near = [one for one in types if plain in simplified(one)]
    return (same or near or [model.lower()])[0]


def simplified(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def foreign(given: Mapping[str, str]) -> list[Problem]:
    """Refuse further options that are launcher's own, or none of sbatch's long ones."""
    found = []
    for name, value in given.items():
        if name in OURS or name.replace("_", "-") in OURS:
            hint = "see the keys of the target, and `resources:` of the spec"
            found.append(Problem(message=f"sbatch's option --{name} is set by launcher", hint=hint))
        elif not re.fullmatch(r"[a-z][a-z-]*", name) or "\n" in value:
            message = f"`{name}` with the value {value!r} is no long option of sbatch"
            found.append(Problem(message=message, hint="write it without its dashes"))
    return found
