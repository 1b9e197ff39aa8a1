"""A sweep that is larger than all that the site takes at once goes through in parts, without anybody's help."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher import records
from launcher.cache import Cache
from tests.clusters import Cluster, started
from tests.trials import Site, must_have_ended_well

pytestmark = [pytest.mark.services, pytest.mark.slow]

POINTS = int(os.environ.get("LAUNCHER_POINTS", "200"))
ARRAY, SUBMITTED = POINTS // 10 + 1, POINTS // 5  # of 500 points, 51 and 100: a site's limits in the same proportion


@pytest.fixture(scope="module")
def narrow(apptainer: Path) -> Iterator[Cluster]:
    """A cluster that takes short arrays, and a fifth of the tasks at once."""
    limits = ("--set", f"MaxArraySize={ARRAY}", "--max-submit", str(SUBMITTED))
    with started(*limits, apptainer=apptainer) as one:
        yield one


class Queue:
    """Looks at the queue all the time."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.most = self.largest = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def __enter__(self) -> Queue:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join(30)

    def look(self) -> None:
        while not self.over.wait(1):
            jobs = Counter(self.cluster.slurm("squeue", "-h", "-r", "-t", "all", "-o", "%F").split())
            waiting = self.cluster.slurm("squeue", "-h", "-r", "-t", "PD,R,CG,S", "-o", "%F").split()
            self.most = max(self.most, len(waiting))
            self.largest = max([self.largest, *jobs.values()])


def test_many_points_go_through_a_narrow_door(narrow: Cluster, shared_cache: Cache, tmp_path: Path) -> None:
    place = str(narrow.shared / "store")
    site = Site(cluster=narrow, home=tmp_path, cache=shared_cache.root, place=place, target={"max_array": ARRAY})
    spec = site.experiment("many", list(range(POINTS)), steps=1, pause=0)
    with Queue(narrow) as queue:
        sweep = site.submit(spec)
        assert sum(site.status(sweep)["counts"].values()) == POINTS
        site.wait(sweep, seconds=1000)
    must_have_ended_well(site, sweep, range(POINTS), steps=1)
    assert {len(records.load(site.store, run).attempts) for run in site.plan(sweep).runs} == {1}
    assert queue.most <= SUBMITTED
    assert 1 < queue.largest <= ARRAY  # indices 0 to ARRAY - 1
    assert site.json("submit", str(spec), "--on", "cluster")["sent"] == []
