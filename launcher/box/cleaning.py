"""`launcher target clean` on a box: runs that are over and safe elsewhere, and what no other run needs.

A run may go when it is over for a while, nobody holds it, and all that it left is in the real store: what was relayed
says so by a file (launcher.box.giving), what was shipped has nothing left here; else the client has to know.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.box import credentials, engine_images, state
from launcher.box.model import Order, State
from launcher.box.state import RELAYED
from launcher.errors import LauncherError
from launcher.node.clearing import Clearing, Found, found, needs_of, remove, told
from launcher.profiles.places import Places
from launcher.store import keys
from launcher.store.credentials import moment

OURS = ("attempt.json", "params.json", "ca.pem", "home", "secrets", "store")  # of a run's folder: no results


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run on this box, as its folder tells; `order` is None where nobody can read it."""

    folder: Path
    state: State | None
    order: Order | None

    @property
    def busy(self) -> bool:
        return self.state is None or self.state.alive or not self.state.over


def clean(argument: Mapping[str, Any]) -> dict[str, Any]:
    """Answer the agent's question of this name.

    {"shared", "older_s": seconds, "delete": false, "complete": [runs whose results are all in the real store]}
    -> {"found", "removed": [{"kind", "name", "bytes"}], "unsure": [runs that are over, but not known to be safe]}
    """
    shared, older_s = argument["shared"], float(argument["older_s"])
    credentials.sweep(shared)
    every = [look(folder) for folder in state.folders(shared)]
    before = time.time() - older_s
    old = [one for one in every if not one.busy and is_old(one, before)]
    safe = [one for one in old if is_safe(shared, one, argument.get("complete", ()))]
    staying = [one.order for one in every if one not in safe and one.order]
    needs = needs_of(staying, busy=any(one.busy for one in every))
    things = [*(of_run(shared, one) for one in safe), *Clearing(shared, needs, older_s).found()]
    runtimes = {argument["runtime"], *(one.order.profile.runtime for one in every if one.order)}
    held = in_engines(runtimes, things)
    if held is None:
        things, held = [one for one in things if one.kind != "images"], []
    gone = cleared(shared, things, held, safe) if argument.get("delete") else []
    answer = told([*things, *(one.found for one in held)], gone)
    return answer | {"unsure": [one.folder.name for one in old if one not in safe]}


def look(folder: Path) -> Run:
    """Read a run's folder; what can't be read stays, and keeps nothing else."""
    order, found_state = None, None
    with contextlib.suppress(LauncherError):
        order = state.order(folder)
        found_state = state.read(folder)
    return Run(folder=folder, state=found_state, order=order)


def is_old(run: Run, before: float) -> bool:
    try:
        return run.state is not None and moment(run.state.when).timestamp() <= before
    except ValueError:
        return False


def is_safe(shared: str, run: Run, complete: Container[str]) -> bool:
    """Tell whether nothing of a run is here alone. Of what is relayed only the relay can say so: the store may have
    heard of the run's end on another box. What an attempt could not ship, on a full disk say, no relay has seen."""
    name = run.folder.name
    if (run.folder / RELAYED).exists():
        return name in complete or not has_results(left(shared, name) / "inside")
    return (
        run.order is not None and run.order.ship == "direct" and (name in complete or not left(shared, name).exists())
    )


def has_results(inside: Path) -> bool:
    """Tell whether a run's own folder holds files that its command or its runner made. What can't be looked into counts
    as some."""
    try:
        for path in inside.iterdir():
            if path.name in OURS:
                continue
            if not path.is_dir() or any(files for _, _, files in os.walk(path, onerror=raised)):
                return True
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def raised(error: OSError) -> None:
    raise error


def left(shared: str, run: str) -> Path:
    """Return the folder in which an attempt keeps what it hasn't shipped (launcher.target.local)."""
    return Path(Places(shared).cache()) / "runs" / keys.quoted(run)


def of_run(shared: str, run: Run) -> Found:
    """Return all that a run has here: its folder, its part of the box's own store, what its attempts left."""
    name, places = run.folder.name, Places(shared)
    mine = left(shared, name)
    own = Path(places.store()) / keys.run(name).rstrip("/")
    places_of = (own, mine, mine.with_suffix(".lock"), Path(places.secrets(name)).parent, run.folder)
    return found("runs", *(path for path in places_of if path.exists()), name=name)


@dataclass(frozen=True, kw_only=True)
class Held:
    """An image that an engine has of us."""

    runtime: str
    found: Found


def in_engines(runtimes: set[str], things: list[Found]) -> list[Held] | None:
    """Return what engines hold of images that go; None where one of them can't tell."""
    images = [one.name for one in things if one.kind == "images"]
    every = []
    for runtime in sorted(runtimes) if images else ():
        sizes = engine_images.sizes(runtime, images)
        if sizes is None:
            return None
        every += [
            Held(runtime=runtime, found=Found(kind="engine", name=name, size=size, paths=()))
            for name, size in sizes.items()
        ]
    return every


def cleared(shared: str, things: list[Found], held: list[Held], runs: list[Run]) -> list[Found]:
    """Remove things, runs first; an image's folder stays while the engine doesn't let go of the image.

    Where a run was begun anew meanwhile, nothing but runs goes: who knows what it needs.
    """
    over = {run.folder.name: run for run in runs}
    gone = [one for one in things if one.kind == "runs" and removed(shared, one, over[one.name])]
    if len(gone) < len(runs):
        return gone
    freed = [one for one in held if engine_images.remove_image(one.runtime, one.found.name)]
    stuck = {one.found.name for one in held if one not in freed}
    going = [one for one in things if one.kind != "runs" and (one.kind != "images" or one.name not in stuck)]
    return [*gone, *(one.found for one in freed), *(one for one in going if remove(shared, one))]


def removed(shared: str, one: Found, run: Run) -> bool:
    """Remove a run, unless it was begun anew since we looked; return whether it is gone."""
    with state.changing(run.folder):
        now = look(run.folder)
        if now.busy or now.state != run.state:
            return False
        if run.order:
            engine_images.remove_containers(run.order.profile.runtime, run.folder.name)
        return remove(shared, one)
