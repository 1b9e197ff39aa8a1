"""The plan of a sweep: all its jobs in one compact object, which is written once before anything is submitted.

What the points share is said once, as a job without its run id; what differs is a row of values for each point.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from launcher.digest import canonical_json
from launcher.errors import StoreError
from launcher.job.digests import digester, point_digest, point_group
from launcher.job.model import Job
from launcher.job.planning import point_run
from launcher.job.wire import from_values, to_values
from launcher.spec.command import Template, template
from launcher.spec.model import Param, Spec, Sweep

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sweep, fully decided. Points are told by their place, from 0.

    `shared` is what all jobs have in common: its `run` is the beginning of every run id, its `argv` is empty.
    `names` are the parameters in which points differ, `rows` their values; `seeds` is empty when all points have
    the seed of `shared`. `code_facts` are what a record says of the code.
    """

    version: int = VERSION
    sweep: str
    name: str
    when: str  # RFC 3339, UTC
    who: str | None = None
    code_facts: Mapping[str, Any] | None = None
    max_parallel: int | None = None
    pack: int = 1
    retries: int = 0
    shared: Job
    names: tuple[str, ...] = ()
    rows: tuple[tuple[Param, ...], ...]
    seeds: tuple[int, ...] = ()
    digests: tuple[str, ...]

    @classmethod
    def of(
        cls,
        jobs: Sequence[Job],
        spec: Spec,
        *,
        when: datetime,
        who: str | None = None,
        code_facts: Mapping[str, Any] | None = None,
    ) -> Plan:
        """Make the plan of the jobs that `launcher.job.plan` made of the points of a spec."""
        first, sweep = jobs[0], spec.sweep or Sweep()
        assert first.sweep is not None, "jobs of a sweep are planned with their points"
        names = differing(jobs)
        params = {name: value for name, value in first.params.items() if name not in names}
        seeds = tuple(job.seed for job in jobs)
        return cls(
            sweep=first.sweep,
            name=first.name,
            when=when.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            who=who,
            code_facts=code_facts,
            max_parallel=sweep.max_parallel,
            pack=sweep.pack,
            retries=first.retries,
            shared=replace(
                first, run=first.run.rpartition("-")[0], params=params, argv=(), sweep=None, point=None, seed=seeds[0]
            ),
            names=names,
            rows=tuple(tuple(job.params[name] for name in names) for job in jobs),
            seeds=seeds if len(set(seeds)) > 1 else (),
            digests=tuple(map(digester(first), (job.argv for job in jobs), (job.params for job in jobs), seeds)),
        )

    def __len__(self) -> int:
        return len(self.digests)

    @cached_property
    def runs(self) -> tuple[str, ...]:
        """Return the run id of every point."""
        return tuple(point_run(self.shared.run, number) for number in range(len(self)))

    @cached_property
    def group(self) -> str:
        """Return the digest below which the store keeps those of these points that are finished."""
        return point_group(self.shared)

    @cached_property
    def command(self) -> Template:
        return template(self.shared.command, [*self.shared.params, *self.names])

    def params(self, index: int) -> dict[str, Param]:
        """Return the parameters of a point in which points differ."""
        return dict(zip(self.names, self.rows[index], strict=True))

    def job(self, index: int) -> Job:
        """Return the job of a point. Raises StoreError when it is another than was planned."""
        params = {**self.shared.params, **self.params(index)}
        job = replace(
            self.shared,
            run=point_run(self.shared.run, index),
            params=params,
            argv=self.command.fill(params),
            seed=self.seeds[index] if self.seeds else self.shared.seed,
            sweep=self.sweep,
            point=index,
        )
        if point_digest(job) != self.digests[index]:
            hint = "the launcher that planned it fills commands in another way: use that version"
            raise StoreError(f"point {index} of {self.sweep} is another than was planned", hint=hint)
        return job

    def index(self, run: str) -> int | None:
        """Return the place of the point that has this run id, or None."""
        base, _, tail = run.rpartition("-")
        found = int(tail) if base == self.shared.run and tail.isdecimal() else len(self)
        return found if found < len(self) and point_run(base, found) == run else None

    def numbered(self, number: int) -> Plan:
        """Return the same points as another sweep, the one with this number: 2 is the second."""
        return replace(self, sweep=f"{self.sweep}-{number}")


def differing(jobs: Sequence[Job]) -> tuple[str, ...]:
    """Return the parameters that don't have the same value in all jobs; 1 and 1.0 are two values."""
    first = jobs[0].params
    return tuple(
        name
        for name, value in first.items()
        if any(job.params[name] != value or type(job.params[name]) is not type(value) for job in jobs)
    )


def to_json(plan: Plan) -> bytes:
    """Return the plan as canonical JSON; `from_json` gives an equal plan back."""
    values = {entry.name: getattr(plan, entry.name) for entry in fields(plan)}
    return canonical_json(values | {"shared": to_values(plan.shared)})


def from_json(data: bytes | str) -> Plan:
    """Read a plan. Raises StoreError when it is none, or was written by a newer launcher."""
    try:
        told = json.loads(data)
        if told["version"] != VERSION:
            raise StoreError(
                f"this plan of a sweep has version {told['version']}, and this launcher knows {VERSION}",
                hint="use the launcher that wrote it, or a newer one",
            )
        told |= {name: tuple(told[name]) for name in ("names", "seeds", "digests")}
        told |= {"rows": tuple(map(tuple, told["rows"])), "shared": from_values(told["shared"])}
        return Plan(**told)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise StoreError(f"this is no plan of a sweep: {e}", hint="was the object written by something else?") from e
