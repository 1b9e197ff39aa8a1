"""What all tests share: nothing of this machine's caches and stores is touched, and artifacts are fetched once.

Several processes may run them side by side (`make test`): each takes whole files, the longest first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.progress import Silent
from tests.debian_mirror import Signer

pytest_plugins = ["tests.certificates", "tests.store_fixtures", "tests.services.ceph"]
# Files that take more than a minute, the longest first: begun last they would be what all others are waited for.
LONG = (
    "test_debian_parity",
    "test_never_lose",
    "test_examples",
    "test_containerfile",
    "test_apt_mirror",
    "test_store_trouble",
    "test_inputs_s3",
    "test_overlap",
    "test_image_interpreters",
    "test_apt_on_base",
    "test_run_s3",
    "test_image_engines",
    "test_cli_run",
    "test_runner_checkpoints",
    "test_runner_shipping",
    "test_image_build",
)
WORKER_MB = 3000  # what one process and all that it starts may need at once
FOLDERS = {"LAUNCHER_CACHE": "cache", "LAUNCHER_STORE": "store", "XDG_CACHE_HOME": "xdg-cache", "XDG_DATA_HOME": "xdg"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Answer `-n auto`: tests wait about as much as they compute, so there may be two more of them than processors."""
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return max(1, min(len(os.sched_getaffinity(0)) + 2, memory_mb // WORKER_MB))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # of pytest-xdist; alone they run in the order in which they are written
        items.sort(key=place)


def place(item: pytest.Item) -> tuple[int, bool]:
    """Say when a test's file shall begin: long ones, then other real services, then the rest."""
    where = LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG)
    return where, item.path.parent.name != "services"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests found out and noted by `record_property("figures", ...)`."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figures":
                terminalreporter.write_line(f"{report.nodeid}: {value}")


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Point caches and stores at a folder of this session, for this process and all that it starts.

    pip's and uv's settings stay what they are: tests against real indexes use the ones that this machine is
    configured for.
    """
    root = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in FOLDERS.items():
            patch.setenv(name, str(root / folder))
        patch.delenv("SOURCE_DATE_EPOCH", raising=False)
        yield root


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache that outlives the session when the Makefile names one ($LAUNCHER_TEST_CACHE): real .debs and wheels
    are fetched into it once. A test of cold behaviour makes its own cache and copies artifacts over."""
    kept = os.environ.get("LAUNCHER_TEST_CACHE")
    return Cache(Path(kept) if kept else tmp_path_factory.mktemp("shared-cache"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """A cache of this test's own."""
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    """A key that signs mirrors."""
    one = Signer.make(tmp_path_factory.mktemp("gpg") / "home", "mirror")
    yield one
    one.stop()


class Notes(Silent):
    """Keeps what long work tells."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)
