"""`launcher show`: the record of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from launcher.cli.listing import duration, number, one_line, print_plain, size, store_option
from launcher.cli.output import json_option, print_json, print_text
from launcher.errors import Problem, UsageError

if TYPE_CHECKING:
    from launcher.records import Attempt, Record
    from launcher.store.objects import Store


@click.command()
@click.argument("run", required=False, metavar="[RUN|SWEEP]")
@click.option("--curve", "curves", multiple=True, metavar="METRIC", help="Draw a metric by its steps instead.")
@store_option
@json_option
def show(run: str | None, curves: tuple[str, ...], store: str | None, as_json: bool) -> None:
    """Show the record of RUN: who, what, how, and what came of it.

    The beginning of its id is enough; without one it is the newest run. Of a SWEEP, or of a point of one that has not
    begun, its plan is shown.
    """
    from launcher import access, records
    from launcher.cli.runs import chosen
    from launcher.cli.sweep_show import show_planned
    from launcher.cli.sweeps import named

    opened = access.open_to_read(store)
    if run and show_planned(opened, store, named(opened, store, run), as_json):
        return
    record = records.load(opened, chosen(opened, store, run))
    if curves:
        print_curves(opened, record, curves, as_json)
        return
    if as_json:
        print_json(record)
        return
    print_plain([line for line in facts(record) if line[1]])
    print_metrics(record)
    for title, lines in sections(record, removed(opened, record)):
        print_text(f"\n{title}")
        for line in lines:
            print_text(f"  {one_line(line)}")


def print_curves(store: Store, record: Record, names: tuple[str, ...], as_json: bool) -> None:
    """Draw metrics, or print their points. Raises UsageError for one that the run doesn't have."""
    import sys

    from launcher.cli.curve import draw
    from launcher.records.series import series

    known = record.metrics.get("names", {})
    if unknown := [name for name in names if name not in known]:
        has = f", only {one_line(', '.join(sorted(known)))}" if known else ", nor any other"
        raise UsageError.of(Problem(message=f"{record.run} has no metric `{name}`{has}") for name in unknown)
    found = {name: series(store, record.run, name) for name in names}
    if as_json:
        print_json(found)
        return
    braille = "utf" in (sys.stdout.encoding or "").lower()
    for name, points in found.items():
        print_text(f"{one_line(name)} by step")
        print_text("\n".join(draw(points, braille=braille)))


def facts(record: Record) -> list[tuple[str, str]]:
    """Return (label, value) of what fits on a line; the empty ones are not shown."""
    import shlex

    params = ", ".join(f"{name}={value!r}" for name, value in record.params.items())
    data = ", ".join(f"{name} {digest[:12]}" for name, digest in record.data.items())
    found = [
        ("run", record.run),
        ("name", record.name),
        ("state", state(record)),
        ("by", record.who),
        ("queued", record.queued),
        ("started", record.started),
        ("ended", record.ended),
        ("took", duration(record.duration_s) if record.duration_s is not None else None),
        ("command", shlex.join(record.argv)),
        ("params", params),
        ("seed", f"{record.seed} ({record.determinism})" if record.seed is not None else None),
        ("image", record.image),
        ("lock", record.lock),
        ("code", code(record)),
        ("data", data),
        ("host", host(record)),
        ("slurm", slurm(record.scheduler)),
        ("box", box(record.scheduler, record.host)),
        ("frameworks", ", ".join(f"{name} {value}" for name, value in (record.frameworks or {}).items())),
        ("runner", record.runner),
        ("outputs", outputs(record)),
    ]
    return [(label, one_line(value or "")) for label, value in found]


def state(record: Record) -> str:
    told = f"{record.state}: {record.reason}" if record.reason else record.state
    return told if record.complete or record.ended is None else f"{told} (not everything is in the store)"


def code(record: Record) -> str:
    told = record.code_facts or {}
    commit = f", commit {told['commit'][:12]}" if told.get("commit") else ""
    return f"{record.code}{commit}{' with changes' if told.get('dirty') else ''}" if record.code else ""


def host(record: Record) -> str:
    told = record.host
    if not told:
        return ""
    memory, gpus = told.get("memory_bytes"), told.get("gpus")
    found = [f"{told.get('cpu')} ({told.get('cpus_allowed', told.get('cpus'))} CPUs)"]
    found.append(f"{size(memory)} memory" if isinstance(memory, int) else "memory unknown")
    found.append(str(told.get("kernel")))
    if isinstance(gpus, list):
        models = [str(gpu.get("model")) for gpu in gpus]
        counted = ", ".join(f"{models.count(model)} x {model}" for model in dict.fromkeys(models))
        found.append(f"{counted}, driver {told.get('driver')}")
    else:
        found.append(f"GPUs: {gpus}")
    return ", ".join(found)


def slurm(told: Mapping[str, Any] | None) -> str:
    """Say under which job of a cluster an attempt ran, and where."""
    if not told or told.get("kind") == "ssh":
        return ""
    where = ", ".join(f"{name} {told[name]}" for name in ("partition", "cluster") if told.get(name))
    return f"job {told.get('job')} on {told.get('node')}" + (f" ({where})" if where else "")


def box(told: Mapping[str, Any] | None, host: Mapping[str, Any] | None) -> str:
    """Say on which box an attempt ran: its target's name, its own name, and what ran the container."""
    if not told or told.get("kind") != "ssh":
        return ""
    facts = host or {}
    more = [str(facts[name]) for name in ("node", "engine") if facts.get(name)]
    return f"{told.get('target')}" + (f" ({', '.join(more)})" if more else "")


def outputs(record: Record) -> str:
    told = record.outputs
    return (
        f"{told['files']} file{'s' * (told['files'] != 1)}, {size(told['bytes'])}, digest {told['digest']}"
        if told
        else ""
    )


def print_metrics(record: Record) -> None:
    names = record.metrics.get("names", {})
    if not names:
        return
    print_text("\nmetrics")
    heads = ("  NAME", "LAST", "MIN", "MAX", "COUNT")
    rows = [
        (f"  {one_line(name)}", *(number(told[key]) for key in ("last", "min", "max", "count")))
        for name, told in names.items()
    ]
    print_plain([heads, *rows])


def removed(store: Store, record: Record) -> list[str]:
    """Say which checkpoints `keep` removed: how many, and the newest of them."""
    from launcher.records.choosing import forgotten

    found = forgotten(store, record.run) if record.checkpoints else []
    if not found:
        return []
    last = max(found, key=lambda told: (told["of_attempt"], told["number"]))
    return [
        f"{len(found)} more removed by `keep`, {size(sum(told['bytes'] for told in found))}: the last {last['name']}"
    ]


def checkpoint(told: Mapping[str, Any]) -> str:
    from launcher.runner.keeping import step_of

    step = step_of(told["name"], told["number"])
    return f"{told['name']}  step {step}  {size(told['bytes'])}  {told['time']}  attempt {told['attempt']}"


def sections(record: Record, removed: Sequence[str] = ()) -> list[tuple[str, list[str]]]:
    """Return the lists below the facts, those that have something in them."""
    made = sorted(record.checkpoints, key=lambda told: (told["attempt"], told["number"]))  # they were stored otherwise
    checkpoints = [*map(checkpoint, made), *removed]
    attempts = [attempt(told) for told in record.attempts] if len(record.attempts) > 1 else []
    problems = [problem for told in record.attempts for problem in told.problems]
    bad = record.metrics.get("bad", 0)
    if bad:
        problems.append(f"{bad} lines of the metrics file are no JSON objects and were passed over")
    found = [("attempts", attempts), ("checkpoints", checkpoints), ("problems", problems)]
    return [(title, lines) for title, lines in [*found, ("not in the store", list(record.missing))] if lines]


def attempt(told: Attempt) -> str:
    reason = f": {told.reason}" if told.reason else ""
    restored = f", from the checkpoint {told.restored['name']}" if told.restored else ""
    place = slurm(told.scheduler) or box(told.scheduler, told.host)
    where = f", {place}" if place else ""
    return f"{told.attempt}  {told.state}{reason}, {duration(told.duration_s)}{restored}{where}{parted(told)}"


def parted(told: Attempt) -> str:
    """Say what followed an attempt on a cluster, where it was no success."""
    if not told.parted:
        return ""
    words = {"requeue": "queued again", "again": "tried again at once", "hold": "held", "failed": "given up"}
    decision = str(told.parted.get("decision"))
    return f"; {words.get(decision, decision)}: {told.parted.get('why')}"
