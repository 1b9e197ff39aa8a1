"""The daemons: how each is started on its machine, and how one knows that it serves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import machines
from configs import DATABASE_PORT, MUNGE
from processes import ClusterError, call, child, end, recorded, start, waited
from settings import Settings

PATIENCE_S = 90
DATABASE = "/var/lib/slurm-database"

COMMANDS: Mapping[str, str] = {
    "munged": f"munged --foreground --socket={MUNGE} --key-file=/run/munge.key --pid-file=/run/munged.pid"
    " --log-file=/run/munged.log --seed-file=/run/munged.seed --num-threads=4",
    "mariadbd": f"mariadbd --no-defaults --user=mysql --datadir={DATABASE} --socket={DATABASE}/socket"
    f" --bind-address=127.0.0.1 --port={DATABASE_PORT} --skip-name-resolve --skip-log-bin --performance-schema=OFF"
    " --innodb-log-file-size=4M --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0"
    " --innodb-lock-wait-timeout=900",
    "slurmdbd": "slurmdbd -D",
    "slurmctld": "slurmctld -D",
    "slurmd": "slurmd -D -N {machine}",
    "sshd": "/usr/sbin/sshd -D -e -f /etc/slurm/sshd.conf",
    "sshd-otp": "/usr/sbin/sshd -D -e -f /etc/slurm/sshd-otp.conf",
}


def record(s: Settings, machine: str, service: str) -> Path:
    return Path(s.home, "run", f"{machine}.{service}")


def run(s: Settings, machine: str, service: str) -> None:
    """Start a service on a machine, unless it runs."""
    if recorded(record(s, machine, service)) is None:
        clean = ["env", "-i", *(f"{k}={v}" for k, v in machines.environment(s, machine, None).items())]
        args = machines.inside(s, machine) + clean + COMMANDS[service].format(machine=machine).split()
        start(args, record(s, machine, service), Path(s.home, "log", f"{machine}.{service}"))


def pid(s: Settings, machine: str, service: str) -> int | None:
    """Return the process id of a service, as this machine counts; None when it doesn't run."""
    entered = recorded(record(s, machine, service))
    return child(entered) if entered else None


def stop(s: Settings, machine: str, service: str, *, kill: bool = False) -> None:
    if found := pid(s, machine, service):
        end([found], number=signal.SIGKILL if kill else signal.SIGTERM, patience_s=20)


def up(s: Settings) -> None:
    """Start everything, in the order in which one needs the other; nodes register when the controller is there."""
    run_munge_here(s)
    for machine in s.machines:
        if machine != "laptop":
            run(s, machine, "munged")
    for name in ("sshd", "sshd-otp"):
        run(s, "login", name)
    for name in s.node_names:
        node(s, name)
    if s.accounting:
        database(s)
    controller(s)


def run_munge_here(s: Settings) -> None:
    """Let this machine be a login node as well."""
    place = Path(s.home, "munge")
    args = ["munged", "--foreground", f"--socket={place}/socket", f"--key-file={s.home}/secrets/munge"]
    args += [f"--{name}-file={place}/{name}" for name in ("pid", "log", "seed")]
    start([*args, "--num-threads=4"], Path(s.home, "run", "host.munged"), Path(s.home, "log", "host.munged"))


def node(s: Settings, name: str) -> None:
    wait_for(s, name, lambda: machines.exists(s, name, MUNGE), "munged")
    run(s, name, "sshd")
    run(s, name, "slurmd")


def database(s: Settings) -> None:
    install = f"mariadb-install-db --no-defaults --user=mysql --datadir={DATABASE} --skip-test-db"
    install += " --auth-root-authentication-method=normal --innodb-log-file-size=4M"
    call(*machines.inside(s, "head"), *install.split())
    run(s, "head", "mariadbd")
    client = [*machines.inside(s, "head"), "mariadb", "--no-defaults", "-S", f"{DATABASE}/socket", "-u", "root"]
    wait_for(s, "head", lambda: succeeds(*client, "-e", "select 1"), "mariadbd")
    grants = "create database slurm_acct; create user slurm@'127.0.0.1' identified by 'slurm';"
    call(*client, "-e", f"{grants} grant all on slurm_acct.* to slurm@'127.0.0.1'")
    run(s, "head", "slurmdbd")
    wait_for(s, "head", lambda: succeeds(*machines.inside(s, "head"), "sacctmgr", "-n", "show", "cluster"), "slurmdbd")
    associations(s)


def associations(s: Settings) -> None:
    """Make the cluster known, and each user with it; with `max_submit` they may have so many tasks in the queue."""
    account = [*machines.inside(s, "head"), "sacctmgr", "-i", "-Q"]
    call(*account, "add", "cluster", f"dev{s.number}", check=False)
    call(*account, "add", "account", "lab", "Description=lab", "Organization=lab")
    limit = [f"MaxSubmitJobs={s.max_submit}"] if s.max_submit else []
    for user in [one.partition(":")[0] for one in s.users]:
        call(*account, "add", "user", user, "Account=lab", *limit)
    if limit:
        call(*account, "add", "user", "root", "Account=lab", *limit, check=False)
        call(*account, "modify", "user", "root", "set", *limit, check=False)


def controller(s: Settings) -> None:
    run(s, "head", "slurmctld")
    wait_for(s, "head", lambda: succeeds("scontrol", "ping", env=environment(s)), "slurmctld")


def wait_until_idle(s: Settings) -> None:
    """Wait until every node has registered. Raises ClusterError."""

    def idle() -> bool:
        told = call("sinfo", "-h", "-N", "-p", "main", "-o", "%N %t", check=False, env=environment(s))
        return sum(line.endswith(" idle") for line in told.splitlines()) == s.nodes

    wait_for(s, "head", idle, "slurmctld")


def environment(s: Settings) -> dict[str, str]:
    """Return the environment in which this machine's own Slurm commands talk to the cluster."""
    return {**os.environ, "SLURM_CONF": f"{s.home}/etc/host/slurm.conf"}


def succeeds(*args: str, env: Mapping[str, str] | None = None) -> bool:
    try:
        call("timeout", "5", *args, env=env)
    except ClusterError:
        return False
    return True


def wait_for(s: Settings, machine: str, condition: Callable[[], bool], service: str) -> None:
    """Wait until a service does what is asked. Raises ClusterError when it has ended, or is too slow."""

    def ended() -> bool:
        return recorded(record(s, machine, service)) is None

    if not waited(lambda: ended() or condition(), PATIENCE_S, every_s=0.05) or ended():
        log = Path(s.home, "log", f"{machine}.{service}")
        raise ClusterError(f"{service} on {machine} does not serve: {log.read_text(errors='replace')[-2500:]}")


def act(s: Settings, verb: str, machine: str, service: str) -> None:
    """Do what a verb of the command line says: start, stop, kill or restart a service."""
    if service not in COMMANDS:
        raise ClusterError(f"there is no service {service}: {', '.join(COMMANDS)}")
    if verb != "start":
        stop(s, machine, service, kill=verb == "kill")
    if verb in ("start", "restart"):
        run(s, machine, service)
