"""What is done where sbatch is: `python -m launcher.slurm.agent` answers one question, `... continue ORDER` submits
what waits.

Light until something is to be done: every task that ends comes by.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def submit(argument: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Place submissions; leave word for tasks that end where some have to wait."""
    from launcher.slurm.model import to_json
    from launcher.slurm.placing import Request, Site, mark_waiting

    requests = [Request(**one) for one in argument["requests"]]
    outcomes = Site(argument["shared"], accounting=argument["accounting"]).place(requests)
    for sweep in {one.sweep for one in requests}:
        mark_waiting(argument["shared"], sweep, outcomes)
    return [to_json(one) for one in outcomes]


def states(argument: Mapping[str, Any]) -> dict[str, Any]:
    """Ask Slurm for submissions by their tokens, and the shared folder for those that nobody knows of."""
    from launcher.slurm.states import looked

    return looked(argument)


def cancel(argument: Mapping[str, Any]) -> list[str]:
    """Cancel jobs; return what could not be cancelled, and why."""
    from launcher.slurm.scancel import scancel

    return scancel(argument["jobs"])


def probe(argument: Mapping[str, Any]) -> dict[str, Any]:
    """Tell Slurm's version and this user's name there."""
    from launcher.process import run
    from launcher.records.writing import user

    said = run(["sbatch", "--version"], timeout_s=60).stdout.decode(errors="replace")
    return {"slurm": said.split()[-1] if said.split() else None, "user": user()}


def clean(argument: Mapping[str, Any]) -> dict[str, Any]:
    """Tell what nobody needs on the shared folder, and remove it where that is wanted."""
    from launcher.slurm.cleaning import clean as look_and_clean

    return look_and_clean(argument)


FUNCTIONS = {"submit": submit, "states": states, "cancel": cancel, "probe": probe, "clean": clean}


def go_on(order: Path) -> None:
    """Submit what waits for the site's limit, if anything does."""
    sweep = order.parent
    if (sweep / "waiting").exists():
        from launcher.slurm.continuing import go_on as submit_more

        submit_more(order)


def main(words: Sequence[str]) -> None:
    if words[:1] == ["continue"]:
        go_on(Path(words[1]))
        return
    from launcher.remote.agent import serve

    serve(FUNCTIONS)


if __name__ == "__main__":
    main(sys.argv[1:])
