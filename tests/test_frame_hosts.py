"""No tracked file names where this machine gets its packages, or where the checkout lies: that is configuration."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from launcher.indexes.settings import configured
from tests.patience import LONG_S

ROOT = Path(__file__).parents[1]
HOST = re.compile(r"https?://(?:[^/\s@]*@)?([A-Za-z0-9.-]+)")


def apt_hosts(folder: Path = Path("/etc/apt")) -> set[str]:
    """Return the hosts that apt's sources name, those of commented lines left out (sources.list(5))."""
    files = [folder / "sources.list", *folder.glob("sources.list.d/*.list"), *folder.glob("sources.list.d/*.sources")]
    text = "\n".join(path.read_text() for path in files if path.is_file())
    return {host for line in text.splitlines() if not line.startswith("#") for host in HOST.findall(line)}


def index_places() -> set[str]:
    """Return the hosts and folders that pip's and uv's settings name."""
    places = set()
    for url in configured().urls:
        parts = urlsplit(url)
        places.add(parts.hostname or parts.path)
    return places


def npm_hosts() -> set[str]:
    if not shutil.which("npm"):
        return set()
    said = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True, timeout=LONG_S).stdout
    return set(HOST.findall(said))


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name.decode() for name in listed.split(b"\0") if name]


def named(places: set[str]) -> list[str]:
    wanted = [place.encode() for place in places if len(place) > 4]
    return [
        f"{path.relative_to(ROOT)} names {place.decode()}"
        for path in tracked()
        if path.is_file()
        for place in wanted
        if place in path.read_bytes()
    ]


def test_no_file_names_a_host_of_this_machines_indexes() -> None:
    assert not named(apt_hosts() | index_places() | npm_hosts())


def test_no_file_names_the_place_of_this_checkout() -> None:
    if len(ROOT.parts) < 3:
        pytest.skip("the checkout lies too near the root for its name to mean anything")
    assert not named({str(ROOT)})


def test_the_search_finds_what_is_there() -> None:
    assert any(line.startswith("pyproject.toml ") for line in named({"hatchling"}))
