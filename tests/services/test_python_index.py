"""Real packages from the index that this machine is configured for."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

from launcher.cache import Cache
from launcher.fetch import default_sources, fetch, fill_sizes
from launcher.resolve.platform import platform
from launcher.resolve.python import resolve_python

pytestmark = pytest.mark.services
REQUIREMENTS = ("attrs", "pyyaml", "markupsafe", "requests", "tqdm>4")
HERE = {"python": "3.11.2", "libc": "glibc 2.36", "architecture": "amd64"}


def test_real_packages_are_pinned_fetched_and_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    wheels = resolve_python(REQUIREMENTS, **HERE, cache=cache)
    names = {wheel.name for wheel in wheels}
    assert {"attrs", "pyyaml", "markupsafe", "requests", "tqdm", "urllib3", "idna", "certifi"} <= names
    usable = set(platform(**HERE).tags())
    assert all(parse_wheel_filename(wheel.filename)[3] & usable for wheel in wheels)
    paths = fetch(wheels, cache, default_sources(strict=True))
    whole = fill_sizes(wheels, paths)
    assert all(wheel.size == paths[wheel.sha256].stat().st_size > 0 for wheel in whole)
    again = resolve_python(REQUIREMENTS, **HERE, previous=whole, cache=cache)
    assert fill_sizes(again, paths) == whole


def test_another_platform_is_resolved_from_here(tmp_path: Path) -> None:
    wheels = resolve_python(
        ("markupsafe",), python="3.13.1", libc="glibc 2.41", architecture="arm64", cache=Cache(tmp_path)
    )
    (wheel,) = wheels
    assert "cp313" in wheel.filename and "aarch64" in wheel.filename
