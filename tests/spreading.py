"""Who runs which tests when several processes run them side by side (`make test`): whole files, the longest first."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Any

import pytest

# Files that take more than a minute, the longest first: begun last they would be what all others are waited for.
LONG = (
    "slurm: sweeps",
    "slurm",
    "boxes: faults",
    "boxes",
    "test_debian_parity",
    "test_examples",
    "test_containerfile",
    "test_apt_mirror",
    "test_inputs_s3",
    "test_image_interpreters",
    "test_apt_on_base",
    "test_run_s3",
    "test_image_engines",
    "test_cli_run",
    "test_runner_checkpoints",
    "test_runner_shipping",
    "test_image_build",
)
# Clusters are sensitive to load: no more than two run at once, dealt out so that both take as long; so are boxes.
SWEEPS = ("test_slurm_faults", "test_slurm_limits")
FAULTS = ("test_box_faults", "test_box_queue")
WORKER_MB = 3000  # what one process and all that it starts may need at once


def room(path: str) -> str:
    """Return what must stay in one process: a file, or all that share a cluster, or boxes."""
    place = PurePosixPath(path)
    if place.parent.name != "services" or not place.stem.startswith(("test_slurm_", "test_box")):
        return path
    if place.stem.startswith("test_box"):
        return "boxes: faults" if place.stem in FAULTS else "boxes"
    return "slurm: sweeps" if place.stem in SWEEPS else "slurm"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Answer `-n auto`: tests wait about as much as they compute, so there may be one more of them than processors."""
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return max(1, min(len(os.sched_getaffinity(0)) + 1, memory_mb // WORKER_MB))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadFileScheduling

    class Rooms(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return room(nodeid.partition("::")[0])

    return Rooms(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # of pytest-xdist; alone they run in the order in which they are written
        items.sort(key=place)


def place(item: pytest.Item) -> tuple[int, bool]:
    """Say when a test shall begin: those of long files, then other real services, then the rest."""
    name = PurePosixPath(room(str(item.path))).stem
    return LONG.index(name) if name in LONG else len(LONG), item.path.parent.name != "services"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests found out and noted by `record_property("figures", ...)`."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figures":
                terminalreporter.write_line(f"{report.nodeid}: {value}")
