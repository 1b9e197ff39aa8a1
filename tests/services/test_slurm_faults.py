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
from pathlib import Path
from typing import Any

import pytest

from launcher import records
from launcher.cache import Cache
from tests.clusters import Cluster, started, wait_until
from tests.object_stores import ObjectStore, moto, new_bucket
from tests.patience import LONG_S
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
    return Site(cluster=cluster, home=home, cache=shared_cache.root, place=bucket.url, bucket=bucket)


@pytest.fixture(autouse=True)
def mended(cluster: Cluster) -> Iterator[None]:
    """Leave a cluster behind that the next test can use."""
    yield
    cluster.start("slurmdbd")
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
EITHER = "goes on as it was, or in the next attempt"
FAULTS: list[tuple[Fault, str]] = [
    (kill_container, NEXT),
    (kill_host_side, NEXT),
    (kill_slurmd, SAME),
    (restart_controller, SAME),
    (stop_database, SAME),
    (requeue, NEXT),
    (preempt, NEXT),
    (power_off, NEXT),
    (lose_slurmd, EITHER),
]


@contextlib.contextmanager
def underway(site: Site, name: str, *, steps: int = STEPS, begun: int = 3, **more: Any) -> Iterator[Trial]:
    """Submit three points; go on when the first has saved a few steps, and judge all of them at the end."""
    base = next(BASES)
    starts = [base, base + 1, base + 2]
    sweep = site.submit(site.experiment(name, starts, steps=steps, **more))
    runs = site.plan(sweep).runs
    with Watcher(site, sweep) as watcher:
        site.wait_for_step(runs[0], begun, told=lambda: site.told(sweep))
        yield Trial(site=site, sweep=sweep, starts=starts, runs=runs)
        site.wait(sweep)
    must_have_ended_well(site, sweep, starts, steps=steps)
    watcher.must_have_been_honest()


@pytest.mark.parametrize(("fault", "then"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_run_outlives(site: Site, fault: Fault, then: str) -> None:
    steps = 40 if fault is preempt else STEPS  # Slurm lets those that make way know, and waits
    with underway(site, fault.__name__.replace("_", "-"), steps=steps) as trial:
        fault(trial)
    many = len(trial.attempts())
    assert {SAME: many == 1, NEXT: many >= 2, EITHER: many >= 1}[then], f"{many} attempts"


def test_a_run_outlives_a_node_that_is_cut_off_and_runs_on(far_site: Site) -> None:
    """The node computes on, and finds out that the run is another's when it can ask again."""
    with underway(far_site, "cut-off", steps=30) as trial:
        first, node = trial.attempts()[-1].attempt, trial.cluster.node(trial.node)
        node.cut()
        try:
            wait_until(lambda: trial.attempts()[-1].attempt > first, 120, "the run is begun again elsewhere")
            wait_until(lambda: trial.attempts()[-1].claim, 120, "the next attempt has taken the run")
        finally:
            node.join()
    assert trial.attempts()[0].state != "succeeded"
    assert {(one.scheduler or {}).get("node") for one in trial.attempts()} > {node.name}


def test_a_run_outlives_a_minute_without_the_store(far_site: Site) -> None:
    with underway(far_site, "no-store") as trial:
        trial.cluster.call("cut", "host")  # neither the store nor this client can be reached
        try:
            time.sleep(60)
        finally:
            trial.cluster.call("join", "host")
    assert len(trial.attempts()) == 1


def test_a_full_shared_folder_stops_nothing_that_runs(far_site: Site) -> None:
    cluster = far_site.cluster
    base = next(BASES)
    waiting = far_site.experiment("waiting", [base], steps=2)
    with underway(far_site, "full", steps=20):
        fill(cluster)
        try:
            process = far_site.start("submit", str(waiting), "--on", "cluster")
            _, err = process.communicate(timeout=LONG_S)
            time.sleep(5)
        finally:
            cluster.resize(FULL)
        assert process.returncode == 73, err.decode()
        assert "no room in" in err.decode(), err.decode()
    sweep = far_site.submit(waiting)
    far_site.wait(sweep)
    must_have_ended_well(far_site, sweep, [base], steps=2)


def fill(cluster: Cluster) -> None:
    """Let the shared folder have no room but for what it holds."""
    held = os.statvfs(cluster.shared)
    cluster.resize((held.f_blocks - held.f_bfree) * held.f_frsize)


def test_a_run_outlives_its_time_limit_three_times(site: Site) -> None:
    with underway(site, "limited", steps=110, pause=1.0, resources=", time: 1m") as trial:
        pass
    causes = [(one.parted or {}).get("cause") for one in trial.attempts()]
    assert causes.count("time limit") >= 3, causes


def test_a_run_outlives_where_nothing_is_accounted(
    shared_cache: Cache, apptainer: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """There is no slurmdbd at all; sacct answers nothing."""
    with started("--nodes", "1", "--no-accounting", apptainer=apptainer) as alone:
        home, place = tmp_path_factory.mktemp("alone"), str(alone.shared / "store")
        site = Site(cluster=alone, home=home, cache=shared_cache.root, place=place)
        with underway(site, "alone") as trial:
            kill_host_side(trial)
            wait_until(lambda: len(trial.attempts()) == 2, 90, "the next attempt")
            trial.site.wait_for_step(trial.runs[0], 6)
            requeue(trial)
        assert len(trial.attempts()) >= 3
