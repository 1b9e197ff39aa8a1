"""Doctor on a real cluster: what it finds, and what it says when a piece is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import profiles, remote
from launcher.cli import invoke
from launcher.errors import TargetError
from launcher.profiles import Profile
from launcher.profiles.doctor import Report, examine
from tests.clusters import Cluster, wait_until

pytestmark = pytest.mark.services


@pytest.fixture(autouse=True)
def here(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine as a login node, with a config of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    cluster.ready()
    yield
    assert not list(cluster.shared.rglob(".launcher-doctor-*")), "nothing is left in the shared folder"


@pytest.fixture
def site(cluster: Cluster) -> Profile:
    return Profile(name="lab", shared=str(cluster.shared / "doctor"), partition="main")


def report(profile: Profile, *, wait_s: int = 60, job: bool = True, partitions: tuple[str, ...] = ()) -> Report:
    shell = remote.open(profile)
    try:
        return examine(shell, profile, wait_s=wait_s, job=job, partitions=partitions)
    finally:
        shell.close()


def said(found: Report, verdict: str, subject: str) -> str:
    return " ".join(one.says for one in found.findings if one.verdict == verdict and one.subject == subject)


def refused(found: Report) -> dict[str, str]:
    assert all(one.hint for one in found.findings if one.verdict == "refused"), "what to do?"
    subjects = {one.subject for one in found.findings if one.verdict == "refused"}
    return {subject: said(found, "refused", subject) for subject in subjects}


def test_the_way_of_a_person(
    cluster: Cluster, site: Profile, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`target add` looks at once; `check` and `show` know what was found."""
    words = ["--slurm", "--shared", site.shared, "--partition", "main", "--set", "runtime=apptainer"]
    assert invoke(["target", "add", "lab", *words]) == 0
    assert "runs can go there" in capfd.readouterr().out
    found = profiles.load("lab")
    assert found.slurm and found.seen and found.max_array > 50 and found.accounting
    main = next(one for one in found.partitions if one.name == "main")
    assert main.default and main.nodes == 3 and main.gres == ("gpu:2",) and main.max_time_s == 86400
    assert sorted((kind.count, kind.gres) for kind in main.kinds) == [(1, ()), (2, ("gpu:2",))]
    assert invoke(["doctor", "lab", "--json", "--no-job"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["fits"] and told["profile"]["cluster"] == found.cluster


def test_a_node_is_looked_at(site: Profile) -> None:
    found = report(site, partitions=("main", "gpu"))
    assert refused(found) == {}
    assert "Linux" in said(found, "ok", "probe") and "apptainer" in said(found, "ok", "runtime").lower()
    assert "has the same bytes" in said(found, "ok", "shared")
    assert said(found, "ok", "python").count("is Python 3.") >= 2, "of the login node, and of a node"
    assert "nobody tried" in said(found, "unknown", "network")


def test_a_login_node_over_ssh(cluster: Cluster, site: Profile, tmp_path: Path) -> None:
    """From another machine: two round trips over one connection, as an ordinary user."""
    folder = cluster.shared / "home" / "ada" / "doctor"
    login = cluster.login
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    options = " ".join(login.ssh()[1:-1])
    ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh {options} "$@"\n')
    ssh.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{ssh.parent}:/usr/bin:/bin")
        found = report(replace(site, host=f"{login.user}@{login.address}:{login.port}", shared=str(folder)))
    assert refused(found) == {} and "has the same bytes" in said(found, "ok", "shared")
    assert login.address in said(found, "ok", "slurm")


def test_a_drained_partition_is_told_and_not_probed(cluster: Cluster, site: Profile) -> None:
    cluster.slurm("scontrol", "update", "partitionname=high", "state=drain")
    try:
        found = report(replace(site, partition=None), partitions=("main", "high"))
    finally:
        cluster.slurm("scontrol", "update", "partitionname=high", "state=up")
    assert "`high` takes no jobs now" in said(found, "warning", "partition")
    assert refused(found) == {} and "`high`" in said(found, "unknown", "probe")


def test_a_drained_node_is_told_with_its_reason(cluster: Cluster, site: Profile) -> None:
    cluster.slurm("scontrol", "update", "nodename=node3", "state=drain", "reason=disk is full")
    try:
        found = report(site, job=False)
    finally:
        cluster.slurm("scontrol", "update", "nodename=node3", "state=resume")
    assert "1 node can't take jobs now: node3: IDLE+DRAIN disk is full" in said(found, "warning", "nodes")


def test_a_long_queue_leaves_unknown_what_is_unknown(cluster: Cluster, site: Profile) -> None:
    """All nodes are taken: the probe is cancelled, and nothing of it stays in the queue."""
    words = ["sbatch", "--parsable", "-p", "main", "-N", "3", "--exclusive", "-t", "5", "-o", "/dev/null", "--chdir=/"]
    job = cluster.slurm(*words, "--wrap", "sleep 300").strip()
    try:
        wait_until(lambda: cluster.slurm("squeue", "-h", "-j", job, "-o", "%T").strip() == "RUNNING", 60, "it runs")
        found = report(site, wait_s=3)
    finally:
        cluster.slurm("scancel", job)
    assert refused(found) == {} and "`main`: the probe didn't end in time (pending" in said(found, "unknown", "probe")
    queued = cluster.slurm("squeue", "-h", "-t", "pending,running", "-o", "%j")
    assert "launcher-doctor" not in queued


def test_slurmdbd_down(cluster: Cluster, site: Profile) -> None:
    cluster.stop("slurmdbd")
    try:
        found = report(site, job=False)
    finally:
        cluster.start("slurmdbd")
        wait_until(
            lambda: cluster.slurm("sacctmgr", "-n", "show", "cluster", check=False).strip(), 60, "slurmdbd is up"
        )
    assert refused(found) == {} and "sacct doesn't answer" in said(found, "warning", "accounting")
    assert not found.profile.accounting


def test_slurmctld_down_changes_nothing_that_was_known(cluster: Cluster, site: Profile) -> None:
    profiles.save("lab", f'[target]\nshared = "{site.shared}"\n')
    profiles.save_found(report(site, job=False).profile)
    before = profiles.load("lab")
    cluster.stop("slurmctld")
    try:
        with pytest.raises(TargetError, match="Slurm doesn't answer"):
            report(site)
    finally:
        cluster.start("slurmctld")
        cluster.ready()
    assert profiles.load("lab") == before


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"partition": "mian", "setup": ("module load x",), "python": "python2.7", "shared": "/proc/launcher"},
            {
                "partition": "there is no partition `mian`",
                "setup": "module load x",
                "python": "python2.7 can't be run",
                "shared": "the shared folder isn't there",
            },
        ),
        ({"shared": "", "scratch": "/nowhere"}, {"shared": "no shared folder", "scratch": "/nowhere isn't there"}),
        ({"options": {"moon": "full"}}, {"probe": "unrecognized option"}),
        ({"constraint": "h100"}, {"probe": "Invalid feature"}),
    ],
)
def test_what_is_wrong_is_said(site: Profile, wrong: dict[str, object], says: dict[str, str]) -> None:
    found = refused(report(replace(site, **wrong)))  # type: ignore[arg-type]
    assert found.keys() == says.keys()
    assert all(part in found[subject] for subject, part in says.items()), found


def test_a_folder_that_nodes_do_not_see(site: Profile, tmp_path: Path) -> None:
    found = report(replace(site, shared=str(tmp_path / "mine")))
    assert "isn't what the login node sees there" in refused(found)["shared"]
