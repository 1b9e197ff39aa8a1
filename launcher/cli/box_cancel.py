"""`launcher cancel` of runs on boxes: each box is told once; one that doesn't answer ends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from launcher.cli.output import print_text
from launcher.errors import LauncherError

if TYPE_CHECKING:
    from launcher.box.model import State
    from launcher.cli.boxes import Found
    from launcher.store.objects import Store


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What became of cancelling one run: how it stands on its box now, or why nobody knows."""

    run: str
    target: str
    state: State | None = None
    complaint: str = ""
    rest: str = ""  # what follows of a complaint

    def facts(self) -> dict[str, Any]:
        state = self.state.to_json() if self.state else None
        return {"run": self.run, "target": self.target, "state": state, "complaint": self.complaint or None}

    def tell(self) -> None:
        from launcher.cli.attaching import phase

        if self.state is None:
            click.echo(f"warning: {self.complaint}", err=True)
            print_text(f"{self.run}: {self.rest}")
        elif self.state.phase == "ended":
            print_text(f"{self.run}: was over already: {phase(self.state)}")
        elif self.state.phase == "cancelled":
            print_text(f"{self.run}: cancelled; `launcher resume {self.run}` takes it up again")
        else:
            print_text(f"{self.run}: told to save and to end; `launcher status {self.run}` tells when it has")


def split(opened: Store, place: str | None, words: Sequence[str], target: str | None) -> tuple[list[Found], list[str]]:
    """Return the runs on boxes that words name, and the other words. Raises UsageError for runs that nobody can end."""
    from launcher.cli.boxes import find
    from launcher.cli.sweeps import named

    if target is not None:
        return [find(place, word, target) for word in words], []
    alone, others = [], []
    for word in words:
        if named(opened, place, word).sweep is None:
            alone.append(find(place, word))
        else:
            others.append(word)
    return alone, others


def cancel_runs(found: Sequence[Found]) -> list[Ended]:
    """Tell boxes that runs are not wanted any more."""
    done = []
    for name in dict.fromkeys(one.profile.name for one in found):
        done += on_one([one for one in found if one.profile.name == name])
    return done


def on_one(found: Sequence[Found]) -> list[Ended]:
    """Tell one box of its runs, at once."""
    from launcher.ssh.cancelling import cancel

    profile, runs = found[0].profile, list(dict.fromkeys(one.run for one in found))
    try:
        states = {one.run: one for one in cancel(profile, runs)}
    except LauncherError as e:
        why = f"{profile.name} can't be asked: {e.problems[0].message}; what runs there runs on until then"
        rest = f"nothing is known of it now; the same again when {profile.name} answers"
        return [Ended(run=run, target=profile.name, complaint=why, rest=rest) for run in runs]
    return [told(run, profile.name, states.get(run)) for run in runs]


def told(run: str, target: str, state: State | None) -> Ended:
    if state is not None:
        return Ended(run=run, target=target, state=state)
    rest = "nothing of it is there to be ended: it has not begun, or was removed"
    return Ended(run=run, target=target, complaint=f"{target} knows nothing of {run}", rest=rest)
