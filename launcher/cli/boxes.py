"""What the verbs of boxes share: which run a word names, on which box it is, and what that box says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from launcher.errors import LauncherError, UsageError

if TYPE_CHECKING:
    from launcher.box.model import State
    from launcher.profiles import Profile
    from launcher.records.brief import Brief
    from launcher.ssh.door import Sent
    from launcher.store.objects import Store

GOING = {"waiting": "queued", "starting": "queued", "running": "running", "held": "queued"}
ENDED = ("succeeded", "failed", "killed", "refused")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A run on a box. `opened` is the store that has it; None where only the box was asked."""

    run: str
    profile: Profile
    opened: Store | None
    sent: Sent | None = None


def find(place: str | None, word: str, target: str | None = None) -> Found:
    """Return the run that a beginning of its id names, and the box that it is on.

    With `target` the box may know a run that the store doesn't. Raises UsageError for a run that is on no box.
    """
    from launcher import access
    from launcher.cli.launch import box
    from launcher.cli.sweeps import named
    from launcher.ssh import door

    profile = box(target) if target else None
    opened = access.open(place or (profile.store if profile else None))
    try:
        run = named(opened, place, word).run
    except UsageError:
        if profile is None:
            raise
        return Found(run=on_box(profile, word), profile=profile, opened=None)
    if run is None:
        raise UsageError(f"{word} is a sweep: its runs are on a cluster", hint=f"`launcher status {word}` tells of it")
    told = door.last_sent(opened, run)
    if profile is None and (told is None or told.kind != "ssh"):
        hint = f"`launcher show {run}` tells where it ran; what runs here ends by Ctrl-C or SIGTERM"
        raise UsageError(f"{run} was sent to no box", hint=hint)
    return Found(run=run, profile=profile or door.profile_of(told), opened=opened, sent=told)  # type: ignore[arg-type]


def on_box(profile: Profile, word: str) -> str:
    """Return the run of a box whose id begins so. Raises UsageError, with the choice, when it isn't one."""
    from launcher.cli.sweeps import only
    from launcher.ssh.states import states

    found = [one.run for one in states(profile, None) if one.run.startswith(word)]
    if not found:
        hint = f"`launcher status --on {profile.name}` lists what is there"
        raise UsageError(f"no run in the store or on {profile.name} begins with `{word}`", hint=hint)
    return only(word, runs=found)


@dataclass(frozen=True, kw_only=True)
class Word:
    """What boxes say of runs; None where one doesn't answer or has no such run, and then a note says which."""

    seen: Mapping[str, State | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def asked(opened: Store, runs: Sequence[str]) -> Word:
    """Ask the boxes that runs were sent to, each once. A box that doesn't answer is told, and nothing follows of it."""
    from launcher.ssh import door

    sent = {run: told for run in runs if (told := door.last_sent(opened, run)) is not None and told.kind == "ssh"}
    seen: dict[str, State | None] = dict.fromkeys(sent)
    notes: list[str] = []
    for name in dict.fromkeys(told.target for told in sent.values()):
        theirs = [run for run, told in sent.items() if told.target == name]
        try:
            found = states_of(sent[theirs[0]], theirs, opened)
        except LauncherError as e:
            notes.append(f"{name} can't be asked: {e.problems[0].message}")
            continue
        seen |= found
        notes += [f"{name} knows nothing of {run}" for run in theirs if run not in found]
    return Word(seen=seen, notes=tuple(notes))


def states_of(told: Sent, runs: Sequence[str], opened: Store | None = None) -> dict[str, State]:
    """Ask the box that runs were sent to; with their store, they get credentials for it where they want some."""
    from launcher.ssh import door
    from launcher.ssh.states import states

    return {one.run: one for one in states(door.profile_of(told), list(runs), opened=opened)}


def judged(told: Brief, seen: State | None) -> Brief:
    """Return what to tell of a run on a box: the store's word, with the box's as a second opinion.

    An end that was good stands. One that was bad stands unless the box goes on with another attempt. What had not
    ended is what the box says; where that says nothing, nobody knows, unless there was a sign of life just now.
    """
    if told.state == "succeeded":
        return told
    if seen is None:
        return told if told.state in (*ENDED, "running") else replace(told, state="unknown", reason=UNHEARD)
    if seen.over:
        return told if told.state in ENDED else replace(told, state="unknown", reason=over(seen))
    return replace(told, state=GOING[seen.phase], reason=standing(seen), complete=False, ended=None)


UNHEARD = "the box tells nothing of it"


def over(seen: State) -> str:
    from launcher.cli.attaching import phase

    return f"{phase(seen)} on the box; `launcher pull` brings the rest"


def standing(seen: State) -> str | None:
    from launcher.cli.attaching import phase

    if seen.phase == "running" and seen.alive:
        return None
    asleep = "" if seen.alive else "; nothing of it lives there now"
    return phase(seen) + asleep
