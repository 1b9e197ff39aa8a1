"""Tell, without any network, whether a lock still fits its spec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from launcher.errors import Problem, Where
from launcher.lock.gpu import unmet
from launcher.lock.inputs import inputs
from launcher.lock.model import Lock
from launcher.lock.requirements import display
from launcher.spec.model import Spec

PLACES = {
    "apt": "image.apt",
    "pip": "image.pip",
    "constraints": "image.pip",
    "build": "image.build.packages",
    "build_apt": "image.build.apt",
}


def problems(lock: Lock, spec: Spec) -> tuple[Problem, ...]:
    """Return what the spec says today and the lock doesn't, or the other way round; empty when it fits.

    Data are another matter: see `launcher.inputs.fit`. Raises SpecError when a requirements file can't be read.
    """
    found = [*differing_inputs(lock, spec), *differing_env(lock, spec)]
    file = display(spec.file)
    unfit = (Problem(message=text, where=Where(file=file, key=key)) for key, text in found)
    return (*unfit, *unmet(spec, lock))


def differing_inputs(lock: Lock, spec: Spec) -> Iterator[tuple[str, str]]:
    now = inputs(spec)
    if now.containerfile and lock.inputs.containerfile and now.containerfile != lock.inputs.containerfile:
        yield "image.containerfile", "the Containerfile, or a file that it copies, has changed since the lock was made"
        lock = replace(lock, inputs=replace(lock.inputs, containerfile=now.containerfile))
    for key in ("base", "containerfile", "platform", "python", "build_base"):
        asked, locked = getattr(now, key), getattr(lock.inputs, key)
        if asked != locked:
            yield f"image.{key.replace('_', '.')}", f"is {said(asked)} now, and the lock was made for {said(locked)}"
    for key, place in PLACES.items():
        noun = "constraint" if key == "constraints" else "request"
        yield from differing_items(place, noun, getattr(now, key), getattr(lock.inputs, key))


def differing_items(place: str, noun: str, asked: Iterable[str], locked: Iterable[str]) -> Iterator[tuple[str, str]]:
    for item in sorted(set(asked) - set(locked)):
        yield place, f"the {noun} `{item}` came after the lock was made"
    for item in sorted(set(locked) - set(asked)):
        yield place, f"the {noun} `{item}` is in the lock and no longer in the spec"


def differing_env(lock: Lock, spec: Spec) -> Iterator[tuple[str, str]]:
    now = spec.image.env
    for key in sorted(now.keys() | lock.env.keys()):
        if now.get(key) != lock.env.get(key):
            yield f"image.env.{key}", f"is {said(now.get(key))} now, and {said(lock.env.get(key))} in the lock"


def said(value: str | None) -> str:
    return "not set" if value is None else f"`{value}`"
