"""The Debian mirror that this machine is configured for: our choice of packages against apt's own."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import LauncherError
from launcher.fetch import fetch
from launcher.indexes.apt import apt_config, mirrors
from launcher.indexes.apt_source import AptMirror
from launcher.indexes.apt_suite import WITHOUT_POCKETS, open_suite
from launcher.progress import SILENT
from launcher.resolve.debian import DebianSet, resolve_debian
from launcher.resolve.debian.choose import ALWAYS

pytestmark = [
    pytest.mark.services,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is the judge"),
]

TOOLS = (
    *("git", "ffmpeg", "graphviz", "openssh-client", "libsndfile1", "jq", "vim", "procps"),
    *("tmux", "make", "gcc", "g++", "curl", "rsync", "libgl1", "file"),
)
BIGGER = ("build-essential", "cmake", "default-jdk-headless", "r-base-core", "libopenmpi-dev", "postgresql")
AS_ROOT = ("-o", "APT::Sandbox::User=root", "-o", "APT::Install-Recommends=false")


@dataclass(frozen=True)
class Nothing:
    all: bool = False
    packages: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    try:
        mirrors(apt_config(), "bookworm", "amd64")
    except LauncherError as e:
        pytest.skip(str(e))
    return Cache(tmp_path_factory.mktemp("apt") / "cache")


def ours(cache: Cache, suite: str, apt: Sequence[str], python: str | None = None) -> DebianSet:
    return resolve_debian(
        base=f"debian:{suite}",
        apt=tuple(apt),
        python=python,
        architecture="amd64",
        previous=(),
        upgrade=Nothing(),
        cache=cache,
        progress=SILENT,
    )


def apt_state(folder: Path, suite: str) -> list[str]:
    """Give apt a state of its own in which nothing is installed; return its options."""
    for name in ("lists/partial", "cache/archives/partial", "parts", "preferences"):
        (folder / name).mkdir(parents=True)
    (folder / "status").write_text("")
    lines = []
    for mirror in mirrors(apt_config(), suite, "amd64"):
        pockets = [f"{suite}-security"] if mirror.security else [suite, f"{suite}-updates"]
        signed = f"[signed-by={mirror.signed_by}] " if mirror.signed_by else ""
        lines += [
            f"deb {signed}{mirror.root} {pocket} {' '.join(mirror.components)}\n"
            for pocket in pockets
            if pocket == suite or suite not in WITHOUT_POCKETS
        ]
    (folder / "sources.list").write_text("".join(lines))
    places = {
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": folder / "parts",
        "Dir::Etc::preferences": folder / "none",
        "Dir::Etc::preferencesparts": folder / "preferences",
    }
    return [*AS_ROOT, *(word for key, value in places.items() for word in ("-o", f"{key}={value}"))]


def apts(options: list[str], packages: Sequence[str]) -> dict[str, str]:
    command = ["apt-get", *options, "install", "--no-install-recommends", "--simulate", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(re.findall(r"^Inst (\S+) \((\S+) ", done.stdout, re.MULTILINE))


def essential(cache: Cache, suite: str) -> list[str]:
    indexes = open_suite(suite, "amd64", cache, SILENT).indexes
    names = sorted({p.name for index in indexes for p in index.essential()})
    for index in indexes:
        index.close()
    return names


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "sid"])
def test_the_choice_is_apts(suite: str, cache: Cache, tmp_path: Path) -> None:
    options = apt_state(tmp_path, suite)
    subprocess.run(["apt-get", *options, "update", "-qq"], check=True, capture_output=True)
    base = [*essential(cache, suite), *(name for name, _ in ALWAYS)]
    for asked in ((), TOOLS, BIGGER):
        chosen = {deb.name: deb.version for deb in ours(cache, suite, asked).debs}
        assert chosen == apts(options, [*base, *asked])


def test_the_one_named_difference_is_that_the_base_stays_what_it_is(cache: Cache) -> None:
    """Asked for gawk, apt leaves mawk out of an empty system; launcher's base has it, whatever is asked for."""
    alone, with_gawk = ours(cache, "trixie", ()), ours(cache, "trixie", ["gawk"])
    assert [d for d in with_gawk.debs if d.group == "base"] == list(alone.debs)
    assert {"mawk", "gawk"} <= {d.name for d in with_gawk.debs}


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "sid"])
def test_the_suites_python(suite: str, cache: Cache) -> None:
    found = ours(cache, suite, ())
    assert re.fullmatch(r"3\.\d+\.\d+((a|b|rc)\d+)?", found.python)
    assert re.fullmatch(r"glibc 2\.\d+", found.libc)
    assert found.suite == suite
    assert ours(cache, suite, (), python=found.python.rpartition(".")[0]) == found


@pytest.mark.alone
def test_a_warm_resolution_is_quick(cache: Cache) -> None:
    ours(cache, "bookworm", TOOLS)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        ours(cache, "bookworm", TOOLS)
        times.append(time.perf_counter() - start)
    assert min(times) < 1.0  # measured 0.2 s on two idle cores; the mirror and the neighbours take their share


def test_debs_are_fetched_from_every_root(cache: Cache) -> None:
    debs = ours(cache, "bookworm", ["jq"]).debs
    small = sorted(debs, key=lambda d: d.size)[:6]
    security = [d for d in debs if d.pool.startswith("pool/updates/")][:1]
    paths = fetch([*small, *security], cache, [AptMirror()])
    assert {path.stat().st_size for path in paths.values()} >= {d.size for d in small}
