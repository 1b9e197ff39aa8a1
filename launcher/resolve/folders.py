"""Show uv the find-links folders of this machine as an index that knows hashes.

uv reads every wheel that it takes from a folder to hash it, at each lock: four seconds for a build of torch. What it
said once is noted by the file's fingerprint, and told to it as the fragment of a link (PEP 503) from then on.
"""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from launcher.cache import Cache, fingerprint
from launcher.digest import sha256_bytes
from launcher.indexes.local import local_path
from launcher.indexes.settings import BEST_MATCH, Indexes
from launcher.lock.model import Wheel

KIND = "wheel-hashes"
Marks = dict[Path, list[int]]


def marks(indexes: Indexes) -> Marks:
    """Return the fingerprints of all wheels in local find-links folders."""
    found: Marks = {}
    for place in indexes.find_links:
        path = local_path(place)
        for wheel in sorted(path.glob("*.whl")) if path and path.is_dir() else ():
            if wheel.is_file():
                found[wheel] = fingerprint(wheel)
    return found


def with_hashes(indexes: Indexes, known: Marks, folder: Path, cache: Cache) -> Indexes:
    """Return indexes in which folders with wheels whose sha256 is known are an index of links, made below `folder`.

    It stands first, as find-links do. Left as they are with a strategy that asks one index only, or with no index.
    """
    hashes = {path: sha256 for path, mark in known.items() if (sha256 := noted(path, mark, cache))}
    shown = {path.parent for path in hashes}
    if not shown or indexes.no_index or indexes.strategy != BEST_MATCH:
        return indexes
    links = (link(path, hashes.get(path)) for path in known if path.parent in shown)
    root = write_pages(folder / "folders", links)
    rest = tuple(place for place in indexes.find_links if local_path(place) not in shown)
    return replace(indexes, find_links=rest, extra=(root.as_uri(), *indexes.extra))


def remember(wheels: Iterable[Wheel], known: Marks, cache: Cache) -> None:
    """Note the sha256 of wheels that came from a folder and didn't change meanwhile."""
    for wheel in wheels:
        paths = [path for path in known if path.name == wheel.filename]
        with contextlib.suppress(OSError):  # it is gone again: nothing to note
            if len(paths) == 1 and fingerprint(paths[0]) == known[paths[0]]:  # of two it isn't known which was taken
                note(paths[0], known[paths[0]], wheel.sha256, cache)


def note(path: Path, mark: list[int], sha256: str, cache: Cache) -> None:
    if noted(path, mark, cache) != sha256:
        cache.write_note(KIND, key(path), [mark, sha256])


def noted(path: Path, mark: list[int], cache: Cache) -> str | None:
    found = cache.note(KIND, key(path))
    return str(found[1]) if isinstance(found, list) and len(found) == 2 and found[0] == mark else None


def key(path: Path) -> str:
    return sha256_bytes(str(path).encode(errors="surrogateescape"))


def link(path: Path, sha256: str | None) -> tuple[str, str]:
    """Return (project, HTML link) of a wheel; the project is empty when the name isn't a wheel's."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename
    from packaging.version import InvalidVersion

    try:
        project = str(parse_wheel_filename(path.name)[0])
    except (InvalidWheelFilename, InvalidVersion):
        return "", ""
    fragment = f"#sha256={sha256}" if sha256 else ""
    return project, f'<a href="{path.as_uri()}{fragment}">{html.escape(path.name)}</a><br>\n'


def write_pages(root: Path, links: Iterable[tuple[str, str]]) -> Path:
    """Write one page for each project."""
    pages: dict[str, str] = {}
    for project, text in links:
        if project:
            pages[project] = pages.get(project, "") + text
    for project, text in pages.items():
        (root / project).mkdir(parents=True)
        (root / project / "index.html").write_text(f"<!DOCTYPE html><html><body>\n{text}</body></html>\n")
    return root
