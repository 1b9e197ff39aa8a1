"""Choose wheels from a pylock (PEP 751) for one platform, the same ones whatever the order of its entries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from launcher.digest import SHA256, sha256_file
from launcher.errors import Problem, ResolveError
from launcher.indexes.local import local_path
from launcher.lock.model import Wheel
from launcher.resolve.platform import Platform
from launcher.resolve.uv import FROM_SOURCE

UNKNOWN_SIZE = 0
NO_HASH = "ask the index's keeper for sha256 hashes, or download the file and put it into a find-links folder"
NO_URL = "name it by version (`NAME==VERSION`) and put its wheel on an index or into a find-links folder"
NO_WHEEL = "take another version, another Python or a newer base"
File = Mapping[str, Any]


def select(raw: Mapping[str, Any], target: Platform, kept: Sequence[Wheel]) -> tuple[Wheel, ...]:
    """Choose one wheel of each package: the best tag, then the newest build, then the least sha256.

    A file of `kept` goes first where it is still offered. Raises ResolveError with every package that has none.
    """
    from packaging.pylock import Pylock, PylockSelectError, PylockValidationError

    problems: list[Problem] = []
    packages = [cleaned for package in raw.get("packages", []) if (cleaned := clean(package, target, kept, problems))]
    if problems:
        raise ResolveError.of(problems)
    try:
        chosen = list(Pylock.from_dict({**raw, "packages": packages}).select(**criteria(target)))
    except (PylockValidationError, PylockSelectError) as e:
        raise ResolveError(f"the resolved set can't be used: {e}", hint=NO_WHEEL) from e
    return tuple(sorted((wheel_of(package, file) for package, file in chosen), key=lambda wheel: wheel.name))


def criteria(target: Platform) -> dict[str, Any]:
    return {"environment": target.environment(), "tags": target.tags()}


def wheel_of(package: Any, file: Any) -> Wheel:
    """Make our noun of a chosen file."""
    return Wheel(
        name=str(package.name),
        version=str(package.version),
        filename=file.filename,
        size=file.size or UNKNOWN_SIZE,
        sha256=file.hashes["sha256"],
    )


def clean(
    package: Mapping[str, Any], target: Platform, kept: Sequence[Wheel], problems: list[Problem]
) -> dict[str, Any] | None:
    """Return a package with its usable wheels in our order, or None with a problem added."""
    title = f"{package.get('name')} {package.get('version', '')}".rstrip()
    if any(key in package for key in ("vcs", "directory", "archive")):
        problems.append(Problem(message=f"{title} comes from a URL or a folder, which a lock can't name", hint=NO_URL))
        return None
    wheels = [hashed(wheel) for wheel in package.get("wheels", [])]
    if not wheels:
        problems.append(Problem(message=f"{title} exists only as source", hint=FROM_SOURCE))
        return None
    fitting = ordered(wheels, target, kept)
    if not fitting:
        message = f"no wheel of {title} runs on Python {target.python_version}, {target.uv_name}"
        problems.append(Problem(message=message, hint=NO_WHEEL))
        return None
    if not sha256_of(fitting[0]):
        message = f"{title}: the index gives no sha256 for {filename(fitting[0])}, so nobody could check it later"
        problems.append(Problem(message=message, hint=NO_HASH))
        return None
    return {
        **{key: value for key, value in package.items() if key not in ("sdist", "wheels")},
        "wheels": [normal(wheel) for wheel in fitting if sha256_of(wheel)],
    }


def ordered(wheels: list[File], target: Platform, kept: Sequence[Wheel]) -> list[File]:
    """Sort the wheels that run there: the ones that were pinned, then by tag, newest build, sha256."""
    from packaging.tags import create_compatible_tags_selector
    from packaging.utils import parse_wheel_filename

    pinned = {wheel.sha256 for wheel in kept}
    if again := [wheel for wheel in wheels if sha256_of(wheel) in pinned]:
        return again
    parsed = [(wheel, parse_wheel_filename(filename(wheel))) for wheel in wheels]
    parsed.sort(key=lambda pair: sha256_of(pair[0]) or "")
    parsed.sort(key=lambda pair: pair[1][2], reverse=True)  # the build tag; () when there is none
    return list(create_compatible_tags_selector(target.tags())((wheel, name[3]) for wheel, name in parsed))


def hashed(wheel: File) -> File:
    """Give a file of this machine that has no sha256 the one that we compute."""
    path = local_path(str(wheel.get("url") or wheel.get("path") or "://"))
    if sha256_of(wheel) or path is None or not path.is_file():
        return wheel
    sha256, size = sha256_file(path)
    return {**wheel, "size": size, "hashes": {"sha256": sha256}}


def normal(wheel: File) -> dict[str, Any]:
    """Keep what we use, so that nothing else of the answer can be refused."""
    kept = {"name": filename(wheel), "url": "file:///" + filename(wheel), "hashes": {"sha256": sha256_of(wheel)}}
    return {**kept, **({"size": wheel["size"]} if wheel.get("size") else {})}


def sha256_of(wheel: File) -> str | None:
    value = str(wheel.get("hashes", {}).get("sha256", "")).lower()
    return value if SHA256.fullmatch(value) else None


def filename(wheel: File) -> str:
    """Return a wheel's file name: given, or the last part of its path or URL."""
    if name := wheel.get("name"):
        return str(name)
    return unquote(re.split(r"[/\\]", str(wheel.get("path") or urlsplit(str(wheel.get("url", ""))).path))[-1])
