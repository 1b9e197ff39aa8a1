"""Look at a box: one round trip of questions, one for a port that leads back, and what follows from the answers."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from launcher.errors import TargetError
from launcher.profiles import box_asking, box_engines, box_explaining, box_facts
from launcher.profiles.answers import Answers, answers
from launcher.profiles.asking import MARK
from launcher.profiles.doctor import Ended, Report, now, warned
from launcher.profiles.files import names, said_of, save_found
from launcher.profiles.model import Box, Profile

PATIENCE_S = 45
DISCARD = 9  # a port of ours that nobody listens on (RFC 863): what is led there ends there


class Shell(Protocol):
    """The way to the box (launcher.remote.model.Shell)."""

    where: str

    def run(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] | None = None, timeout_s: float | None = None
    ) -> Ended: ...
    def forward(self, port: int) -> AbstractContextManager[int]: ...


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a script's questions brought, and our own time (seconds since 1970) before and after it."""

    said: Answers
    began: float
    ended: float


def look(shell: Shell, profile: Profile) -> Profile:
    """Return the profile with what was found. Raises TargetError when nobody answers there."""
    return examine(shell, profile).profile


def examine(shell: Shell, profile: Profile, *, endpoint: tuple[str, int] | None = None) -> Report:
    """Look at a box, and say what it comes to.

    `endpoint` is what it should reach: host and port of the store. What the person says of the target is not changed:
    runtime and folder are chosen only where their file names none. Raises TargetError when there is no way there.
    """
    own = said_of(profile.name)
    forwarding = leads_back(shell)  # which opens the connection, so that the clock is asked over an open one
    script = box_asking.everything(unsettled(profile, own), endpoint)
    heard = asked(shell, profile, script)
    if box_engines.joined_since(heard.said) and (end := getattr(shell, "end", None)):
        end()  # sshd gives a session the groups that its user had when the connection was opened
        heard = asked(shell, profile, script)
    found = with_network(found_in(profile, heard, own), heard.said, endpoint)
    assert found.box is not None
    found = replace(found, box=replace(found.box, forwarding=forwarding))
    findings = tuple(box_explaining.findings(found, heard.said, shell.where))
    return Report(profile=replace(found, warnings=warned(findings), seen=now()), findings=findings)


def glance(shell: Shell, profile: Profile, *, endpoint: tuple[str, int] | None = None) -> Profile:
    """Return the profile with what may have changed since doctor looked, by one round trip and without a word of it:
    user, Python, folder and its room, engine, GPUs, driver; whether `endpoint` (the store's host and port) is reached.

    A box that nobody has looked at is looked at whole, and that is kept: its folder has to be the same the next time.
    Raises TargetError when there is no way there.
    """
    if profile.box is None:
        return first_look(shell, profile, endpoint)
    heard = asked(shell, profile, box_asking.some(profile, endpoint))
    known = box_facts.box(heard.said, profile.box)
    _, known = box_facts.folder(profile, known, heard.said)
    known = replace(
        known,
        engines=(engines := box_engines.again(known, heard.said)),
        boot=box_engines.boot(profile.runtime, engines, known, heard.said),
        skew_s=box_facts.skew_s(heard.said, heard.began, heard.ended),
    )
    found = replace(profile, box=known)
    return with_network(found, heard.said, endpoint) if endpoint else found


def first_look(shell: Shell, profile: Profile, endpoint: tuple[str, int] | None) -> Profile:
    """Look at a box, and keep what was found as doctor does; a runtime that was asked for once is not kept."""
    found = examine(shell, profile, endpoint=endpoint).profile
    if profile.name in names():
        save_found(found)
    if profile.runtime in (Profile.runtime, found.runtime):
        return found
    return glance(shell, replace(found, runtime=profile.runtime), endpoint=endpoint)


def unsettled(profile: Profile, own: Collection[str]) -> Profile:
    """Return the profile without the folder, where neither a person nor an earlier look has named one."""
    return profile if profile.box or "shared" in own else replace(profile, shared="")


def asked(shell: Shell, profile: Profile, script: str) -> Heard:
    """Run a script there; after `setup` in a login shell of bash, as all of launcher's commands. Raises TargetError."""
    words = ["bash", "-lc", 'eval "$(cat)"'] if profile.setup else ["sh"]
    began = time.time()
    done = shell.run(words, stdin=script.encode(), timeout_s=PATIENCE_S)
    ended = time.time()
    text = done.stdout.decode(errors="replace")
    if MARK not in text:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        said = "; ".join(last) or f"exit code {done.code}"
        hint = f"does `{words[0]}` start there? a login file may end it, or the user may have no shell"
        raise TargetError(f"{shell.where} didn't answer doctor's questions: {said}", hint=hint)
    return Heard(said=answers(text), began=began, ended=ended)


def found_in(profile: Profile, heard: Heard, own: Collection[str]) -> Profile:
    """Return the profile with the box, and the runtime and folder that follow from it."""
    known = box_facts.box(heard.said, replace(profile.box or Box(), gpus=(), driver=None))
    shared, known = box_facts.folder(unsettled(profile, own), known, heard.said)
    engines = box_engines.engines(known, heard.said)
    best = next((one.name for one in engines if one.usable), profile.runtime)
    runtime = profile.runtime if "runtime" in own else best
    engines = tuple(sorted(engines, key=lambda one: one.name != runtime))
    known = replace(
        known,
        engines=engines,
        skew_s=box_facts.skew_s(heard.said, heard.began, heard.ended),
        boot=box_engines.boot(runtime, engines, known, heard.said),
    )
    return replace(profile, shared=shared, runtime=runtime, box=known)


def with_network(profile: Profile, said: Answers, endpoint: tuple[str, int] | None) -> Profile:
    """Return the profile with whether the box reaches the store, as far as that can be told; a person's word counts.

    Without a store to ask for, a box that has no route to anywhere and no proxy reaches none.
    """
    if "outbound" in said_of(profile.name):
        return profile
    if endpoint and (answer := said.get("network")) is not None:
        return replace(profile, outbound=answer.good)
    routes = said.get("routes")
    return replace(profile, outbound=False if routes and routes.good and not routes.lines else None)


def leads_back(shell: Shell) -> bool:
    """Tell whether sshd there lets a port lead back to us. Raises TargetError when there is no way there."""
    if connect := getattr(shell, "connect", None):  # this machine needs none
        connect()
    try:
        with shell.forward(DISCARD):
            return True
    except TargetError:
        return False
