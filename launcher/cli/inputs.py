"""What verbs do with inputs: refuse what changed, bring what a job names, remember where it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cache import Cache
from launcher.errors import FetchError, IntegrityError, LauncherError, LockError, Problem
from launcher.findings import Finding
from launcher.spec.model import CodeSpec, DataSpec

if TYPE_CHECKING:
    from launcher.inputs import Fit, Staged
    from launcher.lock import DataPin, Lock
    from launcher.progress import Progress
    from launcher.spec.model import Spec
    from launcher.store.objects import Store

PLACES = "data-places"


def refuse_changed(found: Fit, spec: Path, progress: Progress) -> None:
    """Raise LockError when inputs aren't what was locked; tell of sources that could not be asked."""
    for text in found.unknown:
        progress.note(text)
    if found.changed:
        hint = f"put the data back, or run `launcher lock {spec}` to take them as they are now"
        raise LockError.of([*found.changed, Problem(message="inputs changed since they were locked", hint=hint)])


def bring(
    pins: Mapping[str, DataPin],
    sources: Mapping[str, DataSpec],
    cache: Cache,
    store: Store | None,
    progress: Progress,
) -> dict[str, Staged]:
    """Return where each input lies on this machine, brought here if need be. Raises every reason why one can't be."""
    if not pins:
        return {}
    from launcher.inputs import stage

    found: dict[str, Staged] = {}
    failed: list[LauncherError] = []
    for name, pin in pins.items():
        try:
            if source := sources.get(name):
                found[name] = stage(pin, source, cache, store=store, progress=progress)
                remember(cache, pin.sha256, source)
            else:
                found[name] = stage_recalled(pin, cache, store, progress)
        except LauncherError as e:
            failed.append(e)
    if failed:
        raise type(failed[0]).of(problem for error in failed for problem in error.problems)
    return found


def stage_recalled(pin: DataPin, cache: Cache, store: Store | None, progress: Progress) -> Staged:
    """Stage an input whose source nobody names: from where it was had before, if it is still what it was there."""
    from launcher.inputs import stage

    source = recalled(cache, pin.name, pin.sha256)
    try:
        return stage(pin, source, cache, store=store, progress=progress)
    except IntegrityError as e:
        if source is None or source.path is None:
            raise
        try:
            return stage(pin, None, cache, store=store, progress=progress)
        except FetchError:
            raise e from None


def code_of(spec: Spec, progress: Progress) -> CodeSpec:
    """Return what belongs to the code.

    A spec with a signed URL in it is a secret, and stays here. What says which points a sweep has is no code: one more
    point must not make others of those that are finished. `code.include` insists on it.
    """
    from launcher.inputs.web import signed

    if any(data.url and signed(data.url) for data in spec.data) and (name := below(spec.code.root, spec.file)):
        progress.note(f"{name} holds a signed URL, so it is not kept with the code")
        return without(spec.code, [name])
    return without(spec.code, told_points(spec)) if spec.sweep else spec.code


def told_points(spec: Spec) -> list[str]:
    """Return the files of the code's tree that say what a sweep is, and nothing to its runs."""
    from pathspec import GitIgnoreSpec

    listed = spec.sweep.file.path if spec.sweep and spec.sweep.file else spec.file
    insisted = GitIgnoreSpec.from_lines(spec.code.include)
    names = (below(spec.code.root, file) for file in (spec.file, spec.file.with_suffix(".lock"), listed))
    return [name for name in dict.fromkeys(names) if name and not insisted.match_file(name)]


def below(root: Path, file: Path) -> str | None:
    """Return a file's path in a tree, or None when it lies elsewhere."""
    root, file = root.resolve(), file.resolve()
    return file.relative_to(root).as_posix() if root in file.parents else None


def without(code: CodeSpec, names: Iterable[str]) -> CodeSpec:
    """Return the code without some of its files."""
    patterns = ("/" + re.sub(r"([\\*?\[\]! ])", r"\\\1", name) for name in names)
    return replace(code, exclude=(*code.exclude, *patterns))


def paths(found: Mapping[str, Staged]) -> dict[str, Path]:
    return {name: one.path for name, one in found.items()}


def origins(found: Mapping[str, Staged]) -> dict[str, str]:
    return {name: one.origin for name, one in found.items()}


def remember(cache: Cache, sha256: str, source: DataSpec) -> None:
    """Note where this machine has an input from: records name digests only, so that they mean something elsewhere.

    A signed URL is a secret, and is forgotten.
    """
    if source.path:
        cache.write_note(PLACES, sha256, str(source.path))
    elif source.url and "?" not in source.url:
        cache.write_note(PLACES, sha256, source.url)


def recalled(cache: Cache, name: str, sha256: str) -> DataSpec | None:
    noted = cache.note(PLACES, sha256)
    if not isinstance(noted, str):
        return None
    if "://" in noted:
        return DataSpec(name=name, url=noted)
    return DataSpec(name=name, path=Path(noted)) if Path(noted).exists() else None


def lying(spec: Spec) -> dict[str, Path]:
    """Return the inputs that lie on this machine already."""
    return {data.name: data.path for data in spec.data if data.path and data.path.exists()}


def findings(lock: Lock, spec: Spec, cache: Cache) -> Iterator[Finding]:
    """Say of inputs that have to be brought here whether there is room for them."""
    from launcher.inputs.room import amount, room_for
    from launcher.inputs.shelf import Shelf

    shelf, here = Shelf.of(cache), lying(spec)
    for pin in lock.data:
        if pin.name in here:
            continue
        if held := shelf.find(pin.sha256):
            held.release()
            yield Finding(subject="data", verdict="ok", says=f"the input `{pin.name}` is on this node")
        elif (lacking := pin.size - room_for(shelf)) > 0:
            says = f"the input `{pin.name}` takes {amount(pin.size)}, and {shelf.root} lacks {amount(lacking)}"
            hint = "point LAUNCHER_INPUTS at a larger disk, or raise LAUNCHER_INPUTS_MAX"
            yield Finding(subject="data", verdict="refused", says=says, hint=hint)
        else:
            says = f"the input `{pin.name}` is brought here first: {amount(pin.size)}"
            yield Finding(subject="data", verdict="ok", says=says)


def locked_pins(path: Path, spec: Spec, cache: Cache, progress: Progress) -> dict[str, DataPin]:
    """Return the pins of a spec's inputs: its lock's if there is one, and then they must fit. Raises LockError."""
    from launcher.cli.pipeline import lock_path
    from launcher.inputs import fit, pin
    from launcher.lock import load

    place = lock_path(path)
    if not place.exists():
        return {data.name: pin(data, cache, progress) for data in spec.data}
    lock = load(place)
    found = fit(lock, spec, cache, progress)
    refuse_changed(found, path, progress)
    if found.asked:
        hint = f"run `launcher lock {path}`"
        raise LockError.of([*found.asked, Problem(message="the lock no longer fits", hint=hint)])
    return {pin.name: pin for pin in lock.data}
