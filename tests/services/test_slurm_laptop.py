"""From a laptop: a sweep over real SSH, with few round trips on a slow line, and one prompt where a site asks."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from launcher.cache import Cache
from tests.clusters import Cluster
from tests.object_stores import ObjectStore, moto, new_bucket
from tests.trials import PROGRAM, Site, must_have_ended_well

pytestmark = [pytest.mark.services, pytest.mark.slow]

MOST_TRIPS = 8
DELAY_MS = 40
# Calls of ssh that go over the line; `ssh -G` reads files, and `-O` asks the process that holds the connection.
COUNTING = """#!/bin/sh
for word do case "$word" in -G|-O) exec {ssh} "$@" ;; esac; done
echo "$$" >>{calls}
exec {ssh} "$@"
"""
CLIENT = """Host login
    HostName {address}
    Port {port}
    User {user}
    {key}
    UserKnownHostsFile {known_hosts}
    StrictHostKeyChecking yes
"""
ASKER = """#!/bin/sh
echo "$1" >>{asked}
cat {password}
"""


@dataclass(kw_only=True)
class Laptop(Site):
    """A person's machine: their files, and a network from which only the login node and the store are seen."""

    ssh: Path
    own: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """What launcher gets: nothing that says where Slurm is, and not the folder of the cluster."""
        mine = {name: value for name, value in super().env.items() if not name.startswith("SLURM")}
        return {**mine, "PATH": f"{self.home}/bin:{mine['PATH']}", "LAUNCHER_SSH_CONFIG": str(self.ssh), **self.own}

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Run launcher within the laptop's network; images are built where there are indexes, as at home."""
        if words[0] == "build":
            return super().start(*words)
        inside = ["nsenter", f"--net=/proc/{self.cluster.laptop.pid}/ns/net", *PROGRAM, *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(inside, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=self.env, cwd=self.home)

    def experiment(self, *args: Any, **more: Any) -> Path:
        spec = super().experiment(*args, **more)
        self.call("build", str(spec))
        return spec

    @property
    def calls(self) -> int:
        """How often something went over the line: each an exec channel of the one connection."""
        file = self.home / "calls"
        return len(file.read_text().split()) if file.exists() else 0


@pytest.fixture(scope="module")
def bucket(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A store that laptop and nodes reach."""
    with moto(tmp_path_factory.mktemp("moto"), cluster.host_address) as server:
        yield new_bucket(server)


@pytest.fixture
def transport(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "ssh"))


@pytest.fixture
def laptop(
    cluster: Cluster, bucket: ObjectStore, shared_cache: Cache, tmp_path: Path, transport: str
) -> Iterator[Laptop]:
    cluster.ready()
    home = tmp_path / "laptop"
    (home / "bin").mkdir(parents=True)
    program(home / "bin" / "ssh", COUNTING.format(ssh="/usr/bin/ssh", calls=home / "calls"))
    runtime = Path(f"/tmp/launcher-laptop-{os.getpid()}")
    runtime.mkdir(mode=0o700, exist_ok=True)
    key = f"IdentityFile {cluster.login.key}"
    made = Laptop(
        cluster=cluster,
        home=home,
        cache=shared_cache.root,
        place=bucket.url,
        bucket=bucket,
        target={
            "host": "login",
            "transport": transport,
            "shared": f"{cluster.shared}/home/{cluster.login.user}/from-laptop-{os.getpid()}",
            "scratch": "/scratch",
        },
        ssh=config(home, cluster, cluster.login.port, key),
        own={"XDG_RUNTIME_DIR": str(runtime)},
    )
    yield made
    for socket in runtime.glob("launcher-ssh/*[0-9a-f]"):
        subprocess.run(["ssh", "-S", str(socket), "-O", "exit", "login"], stderr=subprocess.DEVNULL)
    shutil.rmtree(runtime)
    cluster.delay(0)


def config(home: Path, cluster: Cluster, port: int, key: str) -> Path:
    file = home / "ssh_config"
    login = cluster.login
    address = f"10.78.{cluster.number}.1"  # of the login node, on the line to the laptop
    told = CLIENT.format(address=address, port=port, user=login.user, key=key, known_hosts=login.known_hosts)
    file.write_text(told)
    return file


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_two_hundred_points_over_a_slow_line(laptop: Laptop, cluster: Cluster) -> None:
    """Few round trips, whatever the number of points; again nothing but a look; and all of them are cancelled."""
    cluster.delay(DELAY_MS)
    spec = laptop.experiment("wide", range(200), steps=1, pause=0, sweep="\n  pack: 4")
    sweep = laptop.submit(spec)
    trips = [laptop.calls]
    again = laptop.json("submit", str(spec), "--on", "cluster")
    assert (again["sweep"], again["submitted"]) == (sweep, 0)
    trips.append(laptop.calls - sum(trips))
    assert len(laptop.status(sweep)["points"]) == 200
    trips.append(laptop.calls - sum(trips))
    laptop.call("cancel", sweep, "--store", laptop.place)
    trips.append(laptop.calls - sum(trips))
    print("round trips of submit, the same again, status, cancel:", trips)
    assert max(trips) <= MOST_TRIPS, trips
    laptop.wait(sweep, codes=(0, 1))


@pytest.mark.parametrize("transport", ["ssh", "fabric"], indirect=True)
def test_a_sweep_from_afar_ends_as_one_from_nearby(laptop: Laptop, cluster: Cluster, transport: str) -> None:
    cluster.delay(DELAY_MS)
    starts = range(6) if transport == "ssh" else range(6, 12)  # points that are done are not run again
    sweep = laptop.submit(laptop.experiment(f"afar-{transport}", starts, steps=3, pause=0.1))
    laptop.wait(sweep)
    assert laptop.status(sweep)["counts"] == {"succeeded": 6}
    must_have_ended_well(laptop, sweep, starts, steps=3)


def test_a_one_time_password_is_asked_for_once(laptop: Laptop, cluster: Cluster) -> None:
    """Submit, status, wait: one prompt for all of them. The points are no other test's: those may be done by now."""
    laptop.ssh = config(laptop.home, cluster, cluster.login.one_time_port, "PubkeyAuthentication no")
    (laptop.home / "one-time").write_text(cluster.passwords[0] + "\n")
    asked = laptop.home / "asked"
    program(laptop.home / "ask", ASKER.format(asked=asked, password=laptop.home / "one-time"))
    laptop.own |= {"SSH_ASKPASS": str(laptop.home / "ask"), "SSH_ASKPASS_REQUIRE": "force"}
    sweep = laptop.submit(laptop.experiment("password", [1001, 1002], steps=1, pause=0))
    laptop.wait(sweep)
    assert laptop.status(sweep)["counts"] == {"succeeded": 2}
    assert len(asked.read_text().splitlines()) == 1
