"""What `launcher show` says of a sweep, and of a point whose run has not begun: their plan, and where they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launcher.cli.listing import number, one_line, print_plain
from launcher.cli.output import print_json

if TYPE_CHECKING:
    from launcher.cli.sweeps import Named, View
    from launcher.job import Job
    from launcher.job.sweeps import Plan
    from launcher.records.standing import Stand
    from launcher.store.objects import Store


def show_planned(store: Store, place: str | None, word: Named, as_json: bool) -> bool:
    """Show a sweep, or a point that has not begun. Return whether the word named one of these."""
    from launcher.cli.sweeps import tell, viewed

    if word.sweep is None or (not word.is_sweep and word.begun):
        return False
    with viewed(store, place, word.sweep) as view:
        tell(view.notes)
        if word.is_sweep:
            show_sweep(view, as_json)
        else:
            show_point(view, str(word.run), as_json)
    return True


def show_sweep(view: View, as_json: bool) -> None:
    from launcher.cli import sweep_status

    plan = view.plan
    if as_json:
        print_json(sweep_status.facts(view, whole=False) | shared(plan))
        return
    counts = ", ".join(f"{count} {state}" for state, count in view.standing.counts.items())
    lines = {
        "sweep": plan.sweep,
        "points": f"{len(plan.runs)}: {counts}",
        "runs": f"{plan.runs[0]} ..." if len(plan.runs) > 1 else plan.runs[0],
        "planned": f"{plan.when}{f' by {plan.who}' if plan.who else ''}",
        "targets": ", ".join(view.targets),
        "at once": "" if plan.max_parallel is None else str(plan.max_parallel),
        "packed": "" if plan.pack == 1 else f"{plan.pack} points on one allocation",
        "retries": str(plan.retries) if plan.retries else "",
        "differ in": ", ".join([*plan.names, *(["seed"] if plan.seeds else [])]),
        **of_job(plan.shared),
    }
    print_plain([(label, one_line(value)) for label, value in lines.items() if value])


def shared(plan: Plan) -> dict[str, Any]:
    """Return what all points of a plan have in common, for a program."""
    job = plan.shared
    same = {name: getattr(job, name) for name in ("lock", "image", "code", "command", "data", "params")}
    limits = {"max_parallel": plan.max_parallel, "pack": plan.pack, "retries": plan.retries}
    return {**same, **limits, "differ_in": list(plan.names)}


def of_job(job: Job) -> dict[str, str]:
    command = job.command if isinstance(job.command, str) else " ".join(job.command)
    params = ", ".join(f"{name}={number(value)}" for name, value in job.params.items())
    return {"command": command.strip(), "params": params, "image": job.image, "lock": job.lock, "code": job.code}


def show_point(view: View, run: str, as_json: bool) -> None:
    """Show a point that has not begun: where it stands, and what it will run."""
    import shlex

    index = view.plan.index(run)
    assert index is not None, "the plan has this run"
    point, job = view.standing.points[index], view.plan.job(index)
    if as_json:
        print_json(of_point(point, job))
        return
    lines = {"run": run, "state": point.state + (f": {point.reason}" if point.reason else "")}
    lines |= {"sweep": f"{view.plan.sweep}, point {index}", "finished by": point.by or ""}
    lines |= {**of_job(job), "command": shlex.join(job.argv), "seed": str(job.seed)}
    print_plain([(label, one_line(value)) for label, value in lines.items() if value])


def of_point(point: Stand, job: Job) -> dict[str, Any]:
    same = {name: getattr(job, name) for name in ("name", "lock", "image", "code", "command", "argv", "params", "seed")}
    place = {"run": job.run, "sweep": job.sweep, "point": point.index, "state": point.state, "reason": point.reason}
    return {**place, "by": point.by, **same}
