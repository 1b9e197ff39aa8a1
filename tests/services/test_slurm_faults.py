"""Whatever happens to a cluster while a sweep runs: no point is lost, none runs twice at once, and each ends as if
nothing had happened; and the status is honest all the time."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from launcher import records
from launcher.cache import Cache
from tests.clusters import Cluster, wait_until
from tests.object_stores import ObjectStore, moto, new_bucket
from tests.trials import Site, Watcher, container, host_side, must_have_ended_well

pytestmark = [pytest.mark.services, pytest.mark.slow]

STEPS = 12
BASES = itertools.count(1000, 1000)  # no two sweeps have a point in common: what is done is not run again
FULL = 6 << 30


@pytest.fixture(scope="module")
def site(cluster: Cluster, shared_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose store is a folder on the shared one."""
    place = cluster.shared / f"store-{os.getpid()}"
    return Site(cluster=cluster, home=tmp_path_factory.mktemp("site"), cache=shared_cache.root, place=str(place))


@pytest.fixture(scope="module")
def bucket(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A bucket that nodes reach by their cables only."""
    with moto(tmp_path_factory.mktemp("moto"), cluster.host_address) as server:
        yield new_bucket(server)


@pytest.fixture(scope="module")
def far_site(
    cluster: Cluster, bucket: ObjectStore, shared_cache: Cache, tmp_path_factory: pytest.TempPathFactory
) -> Site:
    """A site whose store is that bucket."""
    home = tmp_path_factory.mktemp("far-site")
    return Site(cluster=cluster, home=home, cache=shared_cache.root, place=bucket.url, environment=bucket.environment)


@pytest.fixture(autouse=True)
def mended(cluster: Cluster) -> Iterator[None]:
    """Leave a cluster behind that the next test can use."""
    yield
    cluster.slurm("scancel", "-u", "root", check=False)
    cluster.ready()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A sweep of three points that is under way: the first has saved some steps."""

    site: Site
    sweep: str
    starts: Sequence[int]
    runs: Sequence[str]

    @property
    def cluster(self) -> Cluster:
        return self.site.cluster

    def attempts(self, point: int = 0) -> Sequence[records.Attempt]:
        return records.load(self.site.store, self.runs[point]).attempts

    def scheduler(self, point: int = 0) -> dict[str, Any]:
        return dict(self.attempts(point)[-1].scheduler or {})

    @property
    def task(self) -> str:
        """The first point's name in Slurm, such as 812_0."""
        return str(self.scheduler()["job"])

    @property
    def node(self) -> int:
        """The number of the node that the first point runs on."""
        return int(str(self.scheduler()["node"]).removeprefix("node"))

    @property
    def slurm_state(self) -> str:
        return self.cluster.slurm("squeue", "-h", "-j", self.task, "-o", "%T", check=False).strip()


Fault = Callable[[Trial], None]


def kill_container(trial: Trial) -> None:
    os.kill(container(host_side(trial.cluster, trial.task)), signal.SIGKILL)


def kill_host_side(trial: Trial) -> None:
    os.kill(host_side(trial.cluster, trial.task), signal.SIGKILL)


def kill_slurmd(trial: Trial) -> None:
    """What it started lives on, and it finds that again."""
    node = f"node{trial.node}"
    trial.cluster.kill("slurmd", node)
    time.sleep(2)
    trial.cluster.start("slurmd", node)


def lose_slurmd(trial: Trial) -> None:
    """Slurm takes the node for dead and starts its jobs elsewhere, while they still run."""
    node = f"node{trial.node}"
    trial.cluster.kill("slurmd", node)
    wait_until(lambda: trial.slurm_state != "RUNNING", 60, "Slurm takes the node for dead")
    time.sleep(3)
    trial.cluster.start("slurmd", node)


def power_off(trial: Trial) -> None:
    node = trial.cluster.node(trial.node)
    node.kill()
    wait_until(lambda: trial.slurm_state != "RUNNING", 60, "Slurm takes the node for dead")
    node.up()


def restart_controller(trial: Trial) -> None:
    trial.cluster.kill("slurmctld")
    time.sleep(3)
    trial.cluster.start("slurmctld")


def stop_database(trial: Trial) -> None:
    trial.cluster.stop("slurmdbd")


def requeue(trial: Trial) -> None:
    trial.cluster.slurm("scontrol", "requeue", trial.task)


def preempt(trial: Trial) -> None:
    """Fill the cluster with what counts more."""
    for node in ("node1", "node2", "node3"):
        words = ["sbatch", "-p", "high", "-w", node, "-n", "4", "--mem", "3500", "-o", "/dev/null", "--wrap", "sleep 5"]
        trial.cluster.slurm(*words)
    wait_until(lambda: trial.slurm_state != "RUNNING", 90, "it makes way")


NEXT = "goes on in the next attempt"
SAME = "goes on as it was"
FAULTS: list[tuple[Fault, str]] = [
    (kill_container, NEXT),
    (kill_host_side, NEXT),
    (kill_slurmd, SAME),
    (restart_controller, SAME),
    (stop_database, SAME),
    (requeue, NEXT),
    (preempt, NEXT),
    (power_off, NEXT),
]


@contextlib.contextmanager
def underway(site: Site, name: str, *, steps: int = STEPS, begun: int = 3, **more: Any) -> Iterator[Trial]:
    """Submit three points; go on when the first has saved a few steps, and judge all of them at the end."""
    base = next(BASES)
    starts = [base, base + 1, base + 2]
    sweep = site.submit(site.experiment(name, starts, steps=steps, **more))
    runs = site.plan(sweep).runs
    with Watcher(site, sweep) as watcher:
        site.wait_for_step(runs[0], begun)
        yield Trial(site=site, sweep=sweep, starts=starts, runs=runs)
        site.wait(sweep)
    must_have_ended_well(site, sweep, starts, steps=steps)
    watcher.must_have_been_honest()


@pytest.mark.parametrize(("fault", "then"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_run_outlives(site: Site, fault: Fault, then: str) -> None:
    with underway(site, fault.__name__.replace("_", "-")) as trial:
        fault(trial)
    many = len(trial.attempts())
    assert many == 1 if then == SAME else many >= 2, f"{many} attempts"
    if fault is stop_database:
        site.cluster.start("slurmdbd")
