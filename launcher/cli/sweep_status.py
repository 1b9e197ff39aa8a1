"""How a sweep looks: counts, why points wait, what runs, what failed and why; for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from launcher.cli.listing import age, number, one_line, print_table
from launcher.cli.ls import metrics, short
from launcher.cli.output import print_text

if TYPE_CHECKING:
    from launcher.cli.sweeps import View
    from launcher.records.standing import Stand, Standing

ALL_WELL, BADLY, NOT_OVER = 0, 1, 3  # exit codes
RUNNING_HEADS = ("POINT", "RUN", "STATE", "BEGAN", "LAST SIGN", "STEP", "METRICS")
BAD_HEADS = ("POINT", "RUN", "STATE", "ENDED", "PARAMETERS", "REASON")
REASONS = 5  # different ones that are told


def code(found: Standing) -> int:
    """Return 0 when all points have succeeded, 1 when one came to a bad end or all is over without that, else 3."""
    from launcher.records.standing import BAD

    if all(point.state == "succeeded" for point in found.points):
        return ALL_WELL
    return BADLY if found.over or found.of(*BAD) else NOT_OVER


def report(view: View, limit: int) -> None:
    """Print how a sweep stands, at most `limit` points of each kind."""
    found = view.standing
    print_text(head(view))
    print_text("  " + ", ".join(f"{count} {state}" for state, count in found.counts.items()))
    for title, lines in reasons(found):
        print_text(f"\n{title}")
        print_text("\n".join(f"  {line}" for line in lines))
    part("running", RUNNING_HEADS, [running_row(point) for point in found.of("running")[:limit]])
    bad = [bad_row(point) for point in found.of("failed", "killed", "refused", "lost")[:limit]]
    part("came to a bad end", BAD_HEADS, bad)
    if text := what_next(found):
        print_text(f"\n{text}")


def head(view: View) -> str:
    plan = view.plan
    count = len(plan.runs)
    where = f" on {', '.join(view.targets)}" if view.targets else ""
    by = f", planned {age(plan.when)}" + (f" by {plan.who}" if plan.who else "")
    return f"{plan.sweep}: {count} point{'s' * (count != 1)}{where}{by}"


def part(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        print_text(f"\n{title}")
        print_table(heads, rows, states=2)


def reasons(found: Standing) -> list[tuple[str, list[str]]]:
    """Say why points are queued, waiting or unknown, each reason once with how many it holds for."""
    told = []
    for state, usual in (("queued", "in the scheduler's queue"), ("waiting", WAITING), ("unknown", "no answer")):
        counted = Counter(one_line(point.reason or (UNSENT if unsent(point) else usual)) for point in found.of(state))
        lines = [f"{count} x {reason}" for reason, count in counted.most_common(REASONS)]
        more = len(counted) - REASONS
        told.append((state, [*lines, *([f"and {more} other reasons"] if more > 0 else [])]))
    return [(state, lines) for state, lines in told if lines]


WAITING = "not submitted yet: the site takes no more jobs now, or a submit was cut short"
UNSENT = "not submitted: a submit has not come so far, or was cut short before; the same `launcher submit` sends it"


def unsent(point: Stand) -> bool:
    """Tell whether nobody has meant to submit a point yet: waiting alone doesn't bring it to the scheduler."""
    return point.state == "waiting" and point.live is False


def what_next(found: Standing) -> str:
    """Say what to type, when there is something to do."""
    sweep = found.plan.sweep
    if found.of("failed", "killed", "refused", "lost"):
        return f"`launcher retry --failed {sweep}` runs those again that came to a bad end"
    if found.of("cancelled") and found.over:
        return f"`launcher retry {sweep}` takes up what was cancelled"
    if found.over:
        return f"`launcher table {sweep}` compares the runs"
    return ""


def running_row(point: Stand) -> tuple[str, ...]:
    told = point.brief
    step = "-" if told.step is None else number(told.step)
    began, sign = age(told.started or told.queued), age(told.last_sign)
    return (str(point.index), point.run, point.state, began, sign, step, metrics(told))


def bad_row(point: Stand) -> tuple[str, ...]:
    told = point.brief
    return (str(point.index), point.run, point.state, age(told.ended), params(told.params), point.reason or "-")


def params(values: Any) -> str:
    return " ".join(f"{name}={short(number(value))}" for name, value in values.items())


def facts(view: View, whole: bool = True) -> dict[str, Any]:
    """Return a sweep for a program; with `whole` a line for each point, too."""
    found, plan = view.standing, view.plan
    told: dict[str, Any] = {
        "sweep": plan.sweep,
        "name": plan.name,
        "planned": plan.when,
        "who": plan.who,
        "targets": list(view.targets),
        "size": len(plan.runs),
        "counts": found.counts,
        "over": found.over,
        "scheduler_answered": found.answered,
        "notes": list(view.notes),
    }
    return told | ({"points": [line(point) for point in found.points]} if whole else {})


def line(point: Stand) -> dict[str, Any]:
    told = point.brief
    same = {name: getattr(told, name) for name in ("queued", "started", "ended", "duration_s", "complete")}
    place = {"point": point.index, "run": point.run, "state": point.state, "reason": point.reason, "by": point.by}
    return {**place, "attempts": told.attempt, "params": dict(told.params), **same}
