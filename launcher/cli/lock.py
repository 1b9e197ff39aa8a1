"""`launcher lock`: resolve a spec, or tell whether its lock still fits."""

from __future__ import annotations

from pathlib import Path

import click

from launcher.cache import Cache
from launcher.cli.output import json_option, print_json, print_text
from launcher.cli.pipeline import given, lock_path, relock
from launcher.cli.progress import choose_progress
from launcher.errors import LockError, Problem
from launcher.lock import Artifact, Lock, load
from launcher.progress import Progress


@click.command("lock")
@click.argument("spec", type=click.Path(path_type=Path), required=False)
@click.option("--check", is_flag=True, help="Only tell, without resolving, whether the lock still fits the spec.")
@click.option("-U", "--upgrade", is_flag=True, help="Take the newest of everything.")
@click.option("-P", "--upgrade-package", multiple=True, metavar="NAME", help="Take the newest of one package.")
@click.option("--no-image", is_flag=True, help="Don't assemble the image: the lock then can't tell its id.")
@json_option
def lock(
    spec: Path | None, check: bool, upgrade: bool, upgrade_package: tuple[str, ...], no_image: bool, as_json: bool
) -> None:
    """Resolve SPEC (experiment.yaml) into a lock beside it: every artifact by its digest.

    What is pinned stays pinned unless it is upgraded.
    """
    path = given(spec)
    place = lock_path(path)
    if check:
        check_fit(path, place, choose_progress(), as_json)
        return
    from launcher import spec as specs
    from launcher.resolve.upgrade import Upgrade

    loaded = specs.load(path)
    progress = choose_progress()
    previous = before(place, progress, needed=not upgrade)
    wanted = Upgrade(all=upgrade, packages=frozenset(upgrade_package))
    made = relock(loaded, place, previous, Cache(), progress, wanted, image=not no_image)
    for name in unknown(upgrade_package, made):
        progress.note(f"`{name}` is no package of this lock: nothing to upgrade")
    report(place, previous, made, as_json)


def before(place: Path, progress: Progress, *, needed: bool) -> Lock | None:
    """Return the lock that is there. One that can't be read raises LockError only when its pins are `needed`."""
    if not place.exists():
        return None
    try:
        return load(place)
    except LockError as e:
        if needed:
            raise
        progress.note(f"{e.problems[0].where or place}: {e.problems[0].message}: written anew")
        return None


def check_fit(path: Path, place: Path, progress: Progress, as_json: bool) -> None:
    """Raise LockError unless the lock fits the spec."""
    from launcher import spec as specs
    from launcher.inputs import fit
    from launcher.lock.check import problems

    loaded = specs.load(path)
    if not place.exists():
        raise LockError(f"there is no lock {place}", hint=f"`launcher lock {path}` makes it")
    pinned = load(place)
    inputs = fit(pinned, loaded, Cache(), progress)
    for text in inputs.unknown:
        progress.note(text)
    if found := [*problems(pinned, loaded), *inputs.asked, *inputs.changed]:
        raise LockError.of([*found, Problem(message=f"{place} no longer fits", hint=f"run `launcher lock {path}`")])
    if as_json:
        print_json({"lock": str(place), "fits": True})
    else:
        print_text(f"{place} fits {path}")


def report(place: Path, previous: Lock | None, made: Lock, as_json: bool) -> None:
    changes = changed(previous, made)
    if as_json:
        print_json({"lock": str(place), "image": made.image and f"sha256:{made.image.id}", "changes": changes})
        return
    for line in changes:
        print_text(line)
    size = sum(artifact.size for artifact in made.artifacts)
    print_text(f"{place}: {len(made.debs)} Debian packages, {len(made.wheels)} wheels, {size / 1e6:.1f} MB")
    if made.image:
        print_text(f"image sha256:{made.image.id}")


def changed(previous: Lock | None, made: Lock) -> list[str]:
    """Return a line for each package that came, went or moved; none for a first lock."""
    if previous is None:
        return []
    lines = []
    for old, new in ((previous.debs, made.debs), (previous.wheels, made.wheels)):
        before, after = versions(old), versions(new)
        lines += [f"+ {name} {after[name]}" for name in sorted(after.keys() - before.keys())]
        lines += [f"- {name} {before[name]}" for name in sorted(before.keys() - after.keys())]
        both = sorted(before.keys() & after.keys())
        lines += [f"~ {name} {before[name]} -> {after[name]}" for name in both if before[name] != after[name]]
    return lines


def unknown(names: tuple[str, ...], made: Lock) -> list[str]:
    """Return the names that no artifact has, however they are spelt."""
    from packaging.utils import canonicalize_name

    known = {canonicalize_name(artifact.name) for artifact in made.artifacts}
    return [name for name in names if canonicalize_name(name) not in known]


def versions(artifacts: tuple[Artifact, ...]) -> dict[str, str]:
    return {artifact.name: artifact.version for artifact in artifacts}
