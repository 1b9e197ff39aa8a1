"""`launcher status` of boxes: what is on one, and what boxes say of runs that are named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from launcher.cli.boxes import ENDED, asked, judged
from launcher.cli.listing import age, print_table
from launcher.cli.output import print_json, print_text
from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.box.model import State
    from launcher.records.brief import Brief
    from launcher.records.runs import Runs

HEADS = ("RUN", "PHASE", "SINCE", "ATTEMPT", "GPUS", "TOLD")


def status_on(target: str, words: Sequence[str], as_json: bool) -> int:
    """Say what is on a box: it alone is asked, and no store. Raises TargetError when it doesn't answer."""
    from launcher.cli.launch import box
    from launcher.ssh.states import states

    profile = box(target)
    every = sorted(states(profile, None), key=lambda one: one.run, reverse=True)  # newest first
    found = [one for one in every if not words or one.run.startswith(tuple(words))]
    if lost := [word for word in words if not any(one.run.startswith(word) for one in found)]:
        raise UsageError(f"{target} has no run that begins with `{lost[0]}`", hint="leave it out: all are shown then")
    if as_json:
        print_json([one.to_json() for one in found])
    elif not found:
        print_text(f"{target}: there is no run on it")
    else:
        print_table(HEADS, [row(one) for one in found])
    return 0


def row(one: State) -> tuple[str, ...]:
    from launcher.cli.attaching import phase

    text = phase(one)
    told = bare(text.removeprefix(one.phase).strip()) + ("" if one.alive or one.over else "; nothing of it lives now")
    gpus = ", ".join(one.gpus) or "-"
    return (one.run, one.phase, age(one.when), str(one.attempt or "-"), gpus, told.strip("; ") or "-")


def bare(text: str) -> str:
    """Return a text without the parentheses that are around all of it."""
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def with_boxes(runs: Runs, found: list[Brief]) -> list[Brief]:
    """Return runs with what their boxes say of them; boxes that don't answer are told on stderr.

    The store tells of an end that was good; of all else a box may know more.
    """
    if runs.store is None or not runs.fresh:
        return found
    doubtful = [told.run for told in found if not settled(told)]
    word = asked(runs.store, doubtful)
    heard = [judged(told, word.seen[told.run]) if told.run in word.seen else told for told in found]
    reasons = (f"{told.run}: {told.reason}" for told in heard if word.seen.get(told.run) and told.reason)
    for note in [*word.notes, *reasons]:
        click.echo(f"note: {note}", err=True)
    return heard


def settled(told: Brief) -> bool:
    """Tell whether nothing that a box could say would change what the store says."""
    return told.state == "succeeded" or (told.state in ENDED and told.exit.get("code") == 0)
