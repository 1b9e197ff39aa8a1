"""The small real cluster itself: what the other tests take for granted of it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters import PROGRAM, Cluster, missing, run, wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow]

RACE = "hostname >>{out}; sleep 20"


@pytest.fixture
def folder(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    made = cluster.shared / f"trial-{tmp_path.name}"
    made.mkdir(mode=0o777)
    made.chmod(0o777)
    yield made
    cluster.slurm("scancel", "-u", "root", "--wait-all-children", check=False)


def batch(cluster: Cluster, folder: Path, script: str, *options: str) -> list[str]:
    """Run a batch script to its end, as root from this machine; return the lines that it printed."""
    out = folder / "out"
    cluster.slurm("sbatch", "--wait", "-o", str(out), *options, "--wrap", script)
    return out.read_text().splitlines()


def test_a_node_has_its_own_name_and_files(cluster: Cluster, folder: Path) -> None:
    lines = batch(cluster, folder, "hostname; touch /tmp/mine /usr/mine && ls /tmp; id -un", "-w", "node2")
    assert lines[0] == "node2"
    assert lines[-1] == "root"
    assert "mine" in lines[1:-1]
    assert not Path("/usr/mine").exists()
    assert cluster.node(1).exec("test", "-e", "/usr/mine", check=False).returncode == 1


def test_an_ordinary_user_logs_in_and_submits(cluster: Cluster) -> None:
    script = 'cd; sbatch --wait -o out --wrap "id -un; hostname; pwd" >/dev/null; cat out; sbatch --version'
    done = run(cluster.login.ssh(script))
    assert done.stdout.splitlines()[:1] == ["ada"]
    assert done.stdout.splitlines()[2] == f"{cluster.shared}/home/ada"


def test_nodes_do_not_see_this_checkout(cluster: Cluster) -> None:
    root = str(Path(__file__).parents[2])
    for machine in (cluster.node(3), cluster.login_node):
        assert machine.exec("ls", "-A", root, check=False).stdout == ""  # below its own /tmp it isn't there at all


def test_a_job_can_open_its_own_gpus_only(cluster: Cluster, folder: Path) -> None:
    script = "hostname; for i in 0 1; do (exec 3</dev/nvidia$i) 2>/dev/null && echo $i; done; true"
    node, *opened = batch(cluster, folder, script, "--gres=gpu:1")
    assert node in ("node2", "node3")
    assert len(opened) == 1


def test_a_job_whose_node_loses_its_power_runs_elsewhere(cluster: Cluster, folder: Path) -> None:
    out = folder / "nodes"
    told = cluster.slurm("sbatch", "--parsable", "--requeue", "-o", "/dev/null", "--wrap", RACE.format(out=out))
    wait_until(lambda: out.exists() and out.read_text(), 30, "the job runs")
    first = out.read_text().strip()
    machine = cluster.node(int(first.removeprefix("node")))
    machine.kill()
    try:
        wait_until(lambda: len(out.read_text().split()) == 2, 90, "it runs again")
        assert out.read_text().split()[1] != first
    finally:
        cluster.slurm("scancel", told.strip())
        machine.up()
        cluster.ready()


def test_a_one_time_password_is_good_once(cluster: Cluster) -> None:
    password = cluster.passwords[0]
    asked = cluster.laptop.root / "root/asked"
    ask = cluster.laptop.root / "root/ask"
    ask.write_text(f"#!/bin/sh\necho asked >>/root/asked\necho {password}\n")
    ask.chmod(0o755)
    env = {"SSH_ASKPASS": "/root/ask", "SSH_ASKPASS_REQUIRE": "force"}
    words = ["ssh", "-o", "NumberOfPasswordPrompts=1", "login-otp", "hostname"]
    assert cluster.laptop.exec(*words, env=env).stdout == "login\n"
    assert cluster.laptop.exec(*words, env=env, check=False).returncode == 255
    assert asked.read_text().split() == ["asked", "asked"]
    assert cluster.answers[-2:] == ["accepted ada", "refused ada"]
    assert password not in cluster.passwords


def test_the_laptop_is_far_away(cluster: Cluster) -> None:
    assert not (cluster.laptop.root / str(cluster.shared)[1:]).exists()
    master = ["-o", "ControlMaster=auto", "-o", "ControlPath=/root/master", "-o", "ControlPersist=20"]
    try:
        took = {}
        for ms in (0.0, 500.0):
            cluster.delay(ms)
            cluster.laptop.exec("ssh", *master, "login", "true")
            took[ms] = min(timed(cluster, *master) for _ in range(3))
        assert took[0.0] < 2.0 <= took[500.0]  # a new session in an open connection takes two round trips at least
    finally:
        cluster.delay(0)
        cluster.laptop.exec("ssh", *master, "-O", "exit", "login", check=False)


def timed(cluster: Cluster, *options: str) -> float:
    began = time.monotonic()
    cluster.laptop.exec("ssh", *options, "login", "true")
    return time.monotonic() - began


def test_what_a_dead_owner_left_is_removed() -> None:
    if (why := missing()) is not None:
        pytest.skip(why)
    owner = subprocess.Popen(["sleep", "600"])
    words = [str(PROGRAM), "up", "--nodes", "1", "--no-accounting", "--owner"]
    told = run([*words, str(owner.pid)]).stdout
    number = told.split("slurm-dev-")[1].split("/")[0]
    inside = Cluster(number=int(number)).node(1).pid
    since = started_at(inside)
    owner.kill()
    owner.wait()
    again = [words[0], "--number", number, *words[1:], str(os.getpid())]
    try:
        run(again)
        assert gone_soon(inside, since), "its machines live on"
        assert Cluster(number=int(number)).slurm("sinfo", "-h", "-p", "main", "-o", "%t").split() == ["idle"]
    finally:
        run([str(PROGRAM), "--number", number, "down"])
    assert not Path(f"/tmp/slurm-dev-{number}").exists()
    assert f"sd{number}-" not in run(["ip", "netns", "list"]).stdout


def started_at(pid: int) -> str:
    """Return when a living process was started: its number alone may be another's by now (proc(5), /proc/PID/stat)."""
    stat = Path(f"/proc/{pid}/stat")
    fields = stat.read_text().rpartition(")")[2].split() if stat.exists() else ["Z"]
    return "" if fields[0] == "Z" else fields[19]


def gone_soon(pid: int, since: str) -> bool:
    """Tell whether a process is gone, or another one has its number: one that was killed may take a moment."""
    for _ in range(100):
        if started_at(pid) != since:
            return True
        time.sleep(0.1)
    return False
