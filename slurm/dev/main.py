"""The command line of the small real cluster: `cluster up`, and what can happen to a cluster."""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import machines
import network
import services
import whole as site
from processes import ClusterError, call, identity, living
from settings import Settings, load

PLACE = "/tmp/slurm-dev-{}"  # short: sockets lie below it, and their paths are limited (unix(7))
NUMBERS = range(1, 250)


def home_of(number: int) -> Path:
    return Path(os.environ.get("SLURM_DEV_PLACE", PLACE).format(number))


@contextmanager
def choosing() -> Iterator[None]:
    """Let nobody else choose a number meanwhile."""
    with Path(PLACE.format("lock")).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def is_free(number: int) -> bool:
    """Tell whether a number is not in use: no cluster has it, or one whose owner has died."""
    try:
        owner = load(home_of(number)).owner
    except (OSError, ValueError, TypeError):
        return not home_of(number).exists()
    return owner is not None and living(owner) is None


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="cluster", description=__doc__)
    made.add_argument("--number", type=int, help="which cluster, if there are several (1 to 249)")
    verbs = made.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start one, and print what a shell needs to talk to it")
    up.add_argument("--nodes", type=int, default=3)
    up.add_argument("--cpus", type=int, default=4, help="that each node says it has")
    up.add_argument("--gpus", type=int, default=2, help="fake ones, of every node but the first")
    up.add_argument("--no-accounting", action="store_true", help="no slurmdbd: sacct answers nothing")
    up.add_argument("--no-cgroups", action="store_true", help="as on a machine without cgroup v1")
    up.add_argument("--max-submit", type=int, help="of each user, by an association")
    up.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a line of slurm.conf")
    up.add_argument("--bind", action="append", default=[], metavar="DIR", help="all machines see it")
    up.add_argument("--hide", action="append", default=[], metavar="DIR", help="nodes and login node don't see it")
    up.add_argument("--program", action="append", default=[], metavar="FILE", help="PREFIX/bin/NAME, for all nodes")
    up.add_argument("--owner", type=int, metavar="PID", help="whose cluster it is: when that has died, it may go")
    verbs.add_parser("down", help="end it, and remove everything")
    verbs.add_parser("env", help="print what a shell needs to talk to it")
    for verb, says in {
        "off": "switch a machine off",
        "on": "switch it on again",
        "cut": "pull a machine's cable",
        "join": "plug it in again",
    }.items():
        verbs.add_parser(verb, help=says).add_argument("machine")
    for verb in ("start", "stop", "kill", "restart"):
        one = verbs.add_parser(verb, help=f"{verb} a service: slurmctld, slurmdbd, slurmd ...")
        one.add_argument("service")
        one.add_argument("machine", nargs="?", default="head")
    execute = verbs.add_parser("exec", help="run a command on a machine")
    execute.add_argument("--user")
    execute.add_argument("machine")
    execute.add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("pid", help="print the process id of a machine, as this one counts").add_argument("machine")
    verbs.add_parser("delay", help="between laptop and login node").add_argument("ms", type=float)
    verbs.add_parser("resize", help="the shared folder").add_argument("bytes", type=int)
    return made


def main(given: list[str]) -> int:
    told = parser().parse_args(given)
    try:
        return up(told) if told.verb == "up" else act(told, load(home_of(told.number or the_only())))
    except ClusterError as e:
        sys.stderr.write(f"error: {e}\n")
        return 1


def the_only() -> int:
    if named := os.environ.get("SLURM_DEV_NUMBER"):
        return int(named)
    found = [number for number in NUMBERS if (home_of(number) / "settings.json").exists()]
    if len(found) != 1:
        raise ClusterError(f"there are {len(found)} clusters: name one by --number" if found else "there is no cluster")
    return found[0]


def up(told: argparse.Namespace) -> int:
    if os.getuid() != 0:
        raise ClusterError("namespaces with their own network and devices need root")
    with choosing():
        number = told.number or next(filter(is_free, NUMBERS))
        if not is_free(number):
            raise ClusterError(f"cluster {number} is running: `cluster --number {number} down` ends it")
        settings = settings_of(told, number)
        site.down(number, Path(settings.home))
        Path(settings.home).mkdir()
        settings.save()
    site.up(settings)
    return show(settings)


def settings_of(told: argparse.Namespace, number: int) -> Settings:
    return Settings(
        number=number,
        home=str(home_of(number)),
        nodes=told.nodes,
        cpus=told.cpus,
        gpus=told.gpus,
        accounting=not told.no_accounting,
        cgroups=not told.no_cgroups and machines.can_constrain(),
        max_submit=told.max_submit,
        lines=tuple(told.set),
        binds=tuple(told.bind),
        hides=tuple(told.hide),
        programs=tuple(told.program),
        owner=identity(told.owner) if told.owner else None,
    )


def show(s: Settings) -> int:
    """Print lines for `eval`."""
    values = {"SLURM_CONF": f"{s.home}/etc/host/slurm.conf", "SLURM_DEV_HOME": s.home}
    sys.stdout.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
    return 0


def act(told: argparse.Namespace, s: Settings) -> int:
    match told.verb:
        case "down":
            site.down(s.number, Path(s.home))
        case "env":
            return show(s)
        case "off":
            machines.off(s, told.machine)
        case "on":
            site.switch_on(s, told.machine)
        case "cut" | "join" as verb:
            getattr(network, verb)(s, told.machine)
        case "delay":
            network.delay(s, told.ms)
        case "resize":
            call("mount", "-o", f"remount,size={told.bytes}", str(s.shared))
        case "exec":
            return machines.execute(s, told.machine, told.command, user=told.user)
        case "pid":
            sys.stdout.write(f"{machines.first(s, told.machine) or ''}\n")
        case verb:
            services.act(s, verb, told.machine, told.service)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
