"""The small real cluster of slurm/dev for the tests: Slurm with three nodes, a login node, and a laptop."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "slurm" / "dev" / "cluster"
NEEDS = ("slurmctld", "slurmd", "munged", "sshd", "ip", "tini")
RUNNING = "SLURM_DEV_NUMBER"  # set it to use a cluster that you have started by hand: the tests leave it running


@dataclass(frozen=True, kw_only=True)
class Login:
    """How to reach the login node from this machine; the laptop has it in its ~/.ssh/config as `login`."""

    address: str
    user: str
    key: Path
    known_hosts: Path
    port: int = 22
    one_time_port: int = 2222  # takes the next one-time password, and nothing else

    def ssh(self, *words: str) -> list[str]:
        options = ["-F", "none", "-i", str(self.key), "-o", f"UserKnownHostsFile={self.known_hosts}"]
        return ["ssh", *options, "-o", "BatchMode=yes", "-p", str(self.port), f"{self.user}@{self.address}", *words]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine of the cluster: a node, the login node, the laptop."""

    cluster: Cluster
    name: str

    def exec(
        self, *args: str, user: str | None = None, env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program there to its end, as root or as a user; with what a fresh login has, and `env`."""
        return self.cluster.call(*self.words(*args, user=user, env=env), check=check)

    def words(self, *args: str, user: str | None = None, env: Mapping[str, str] | None = None) -> list[str]:
        """Return the arguments of the `cluster` program that run something there."""
        more = ["env", *(f"{name}={value}" for name, value in env.items())] if env else []
        return ["exec", *(["--user", user] if user else []), self.name, *more, *args]

    @property
    def pid(self) -> int:
        """The id of its first process, as this machine counts: /proc/PID/root is its file system."""
        return int(self.cluster.call("pid", self.name).stdout)

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self.pid}/root")

    def kill(self) -> None:
        """Switch it off: everything on it ends at once, and nobody is told."""
        self.cluster.call("off", self.name)

    def up(self) -> None:
        self.cluster.call("on", self.name)

    def cut(self) -> None:
        """Pull its cable; what runs there runs on."""
        self.cluster.call("cut", self.name)

    def join(self) -> None:
        self.cluster.call("join", self.name)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A running cluster."""

    number: int

    @property
    def home(self) -> Path:
        return Path(f"/tmp/slurm-dev-{self.number}")

    @property
    def shared(self) -> Path:
        """The folder that this machine, the login node and all nodes see at the same path."""
        return self.home / "shared"

    @property
    def environment(self) -> dict[str, str]:
        """What this machine's own sbatch, squeue ... need: it is a login node too, for root."""
        return {**os.environ, "SLURM_CONF": str(self.home / "etc" / "host" / "slurm.conf")}

    @property
    def nodes(self) -> list[str]:
        told = self.slurm("sinfo", "-h", "-N", "-p", "main", "-o", "%N")
        return told.split()

    @property
    def host_address(self) -> str:
        """The address by which nodes, login node and laptop reach what the tests serve."""
        return f"10.77.{self.number}.1"

    def node(self, k: int) -> Machine:
        return Machine(cluster=self, name=f"node{k}")

    @property
    def laptop(self) -> Machine:
        """A machine with a line to the login node and to what the tests serve; it sees no shared folder."""
        return Machine(cluster=self, name="laptop")

    @property
    def login_node(self) -> Machine:
        return Machine(cluster=self, name="login")

    @property
    def login(self) -> Login:
        key, known = self.home / "secrets" / "user", self.home / "known_hosts"
        return Login(address=f"10.77.{self.number}.3", user="ada", key=key, known_hosts=known)

    @property
    def passwords(self) -> list[str]:
        """The one-time passwords that are left, the next one first."""
        return (self.login_node.root / "etc/one-time/list").read_text().split()

    @property
    def answers(self) -> list[str]:
        """What became of every one-time password that was tried: "accepted ada", "refused ada"."""
        return (self.login_node.root / "var/log/one-time").read_text().splitlines()

    def delay(self, ms: float) -> None:
        """Let each packet between laptop and login node take so long, each way."""
        self.call("delay", str(ms))
        time.sleep(0.2)

    def resize(self, size: int) -> None:
        """Let the shared folder hold so many bytes; what is there stays. 6 GB is where it starts."""
        self.call("resize", str(size))

    def start(self, service: str, machine: str = "head") -> None:
        self.call("start", service, machine)

    def stop(self, service: str, machine: str = "head") -> None:
        self.call("stop", service, machine)

    def kill(self, service: str, machine: str = "head") -> None:
        """End a service by SIGKILL."""
        self.call("kill", service, machine)

    def restart(self, service: str, machine: str = "head") -> None:
        self.call("restart", service, machine)

    def call(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Call slurm/dev/cluster; a failure is told with what it said."""
        return run([str(PROGRAM), "--number", str(self.number), *args], check=check)

    def slurm(self, *args: str, check: bool = True) -> str:
        """Run one of Slurm's commands on this machine, as root, in a folder that nodes have."""
        return run(args, env=self.environment, check=check, cwd=Path("/")).stdout

    def ready(self, seconds: float = 90) -> None:
        """Wait until every node takes jobs again; nodes that Slurm holds back are resumed."""

        def idle() -> bool:
            told = self.slurm("sinfo", "-h", "-N", "-p", "main", "-o", "%N %t", check=False).splitlines()
            for name, state in (line.split() for line in told):
                if state.startswith(("down", "drain")) and not state.endswith("*"):
                    self.slurm("scontrol", "update", f"nodename={name}", "state=resume", check=False)
            return bool(told) and all(line.endswith(("idle", "mix", "alloc")) for line in told)

        wait_until(idle, seconds, "the nodes are ready")


def run(
    args: Sequence[str], *, env: Mapping[str, str] | None = None, check: bool = True, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, cwd=cwd)
    if check:
        assert done.returncode == 0, f"{list(args)}: code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done


def wait_until(condition: Callable[[], object], seconds: float, what: str | Callable[[], str]) -> None:
    """Wait until something is so; `seconds` is what it may take on an idle machine."""
    until = time.monotonic() + seconds * PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds * PATIENCE:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.2)


def missing() -> str | None:
    """Return why no cluster can be started here."""
    if os.getuid() != 0:
        return "a cluster needs root"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    gone = [name for name in NEEDS if not shutil.which(name, path=path)]
    return f"a cluster needs {', '.join(gone)} (see .ci/debian-packages)" if gone else None


@contextlib.contextmanager
def started(*options: str, apptainer: Path | None = None) -> Iterator[Cluster]:
    """Run a cluster until the end of the block, with further options of `slurm/dev/cluster up`."""
    if (why := missing()) is not None:
        pytest.skip(why)
    programs = ["--program", str(apptainer)] if apptainer else []
    told = run([str(PROGRAM), "up", "--owner", str(os.getpid()), "--hide", str(ROOT), *programs, *options]).stdout
    [home] = [line.rpartition("=")[2] for line in told.splitlines() if "SLURM_DEV_HOME" in line]
    cluster = Cluster(number=int(home.rpartition("-")[2]))
    try:
        yield cluster
    finally:
        cluster.call("down")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Give a cluster of three nodes with Apptainer: one of the tests' own, or the one that is named by RUNNING."""
    if number := os.environ.get(RUNNING):
        yield Cluster(number=int(number))
        return
    if (why := missing()) is not None:
        pytest.skip(why)
    apptainer: Any = request.getfixturevalue("apptainer")
    with started(apptainer=apptainer) as one:
        yield one
