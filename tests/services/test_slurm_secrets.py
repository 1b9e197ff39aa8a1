"""What opens the store is told to nobody: credentials of a bucket lie in one file that only its owner can read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from tests.clusters import Cluster, wait_until
from tests.object_stores import ObjectStore, moto, new_bucket
from tests.trials import Site, processes, reading

pytestmark = [pytest.mark.services, pytest.mark.slow]

FRAGMENT = "of+the=tests"  # of the secret: as JSON, in a URL or in a shell's quotes the whole may look different
SPEC = """
name: quiet
image: {base: debian:bookworm, python: "3.11"}
run: env; cat /proc/*/cmdline | tr '\\0' ' '; sleep {pause}
params: {pause: 15}
sweep: {grid: {pause: [15, 16]}}
resources: {cpus: 1, memory: 256M, time: 5m}
"""


@pytest.fixture
def bucket(cluster: Cluster, tmp_path: Path) -> Iterator[ObjectStore]:
    with moto(tmp_path, cluster.host_address) as server:
        yield new_bucket(server)


def test_credentials_are_nowhere_but_in_their_file(
    cluster: Cluster, bucket: ObjectStore, shared_cache: Cache, tmp_path: Path
) -> None:
    cluster.ready()
    assert FRAGMENT in bucket.secret
    home, shared = tmp_path / "home", cluster.shared / f"secrets-{os.getpid()}"
    target = {"shared": str(shared)}
    site = Site(cluster=cluster, home=home, cache=shared_cache.root, place=bucket.url, bucket=bucket, target=target)
    (home / "experiment.yaml").write_text(SPEC)
    drafted = site.call("submit", "experiment.yaml", "--on", "cluster", "--dry-run", "--json")
    sweep = site.submit(home / "experiment.yaml")
    plan = site.plan(sweep)
    wait_until(lambda: site.status(sweep)["counts"].get("running") == 2, 90, "both points run")
    said = [drafted, told_by_slurm(cluster), *arguments()]
    site.wait(sweep)

    at = ("--store", bucket.url)
    said += [told_by_slurm(cluster), site.call("show", plan.runs[0], "--json", *at), site.call("logs", sweep, *at)]
    assert "LAUNCHER_RUN" in said[-1], "the environment of the command was printed"
    assert all(FRAGMENT not in text for text in said)
    holding = [entry.key for entry in site.store.list("") if FRAGMENT.encode() in site.store.get(entry.key)]
    assert not holding, "nothing in the store names what opens it"
    [secret] = [path for path in shared.rglob("*") if path.is_file() and FRAGMENT.encode() in path.read_bytes()]
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600 and stat.S_IMODE(secret.parent.stat().st_mode) == 0o700


def told_by_slurm(cluster: Cluster) -> str:
    """Return all that Slurm tells of jobs, their batch scripts included."""
    jobs = cluster.slurm("squeue", "-h", "-o", "%A").split()
    scripts = [cluster.slurm("scontrol", "write", "batch_script", job, "-", check=False) for job in jobs]
    fields = "jobid,jobname,comment,submitline,workdir,admincomment"
    told = [cluster.slurm("scontrol", "show", "job", "-dd"), cluster.slurm("sacct", "-a", "-P", "-o", fields)]
    return "\n".join([*told, *scripts])


def arguments() -> list[str]:
    """Return what any user sees of every process: the words that it was started with (proc(5), cmdline)."""
    return [reading(f"/proc/{pid}/cmdline").decode(errors="replace") for pid in processes()]
