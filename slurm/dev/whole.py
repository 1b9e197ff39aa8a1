"""The site as a whole: from an empty folder to idle nodes, and back to nothing."""

from __future__ import annotations

import os
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import configs
import line
import logins
import machines
import network
import services
from processes import ClusterError, call, end, recorded, start, waited
from settings import Settings


def up(s: Settings) -> None:
    """Start a cluster; what a dead one of the same number left is removed first. Raises ClusterError."""
    down(s.number, Path(s.home))
    folders(s)
    s.save()
    try:
        write_files(s)
        network.up(s)
        connect_laptop(s)
        for machine in s.machines:
            machines.up(s, machine)
        for machine in s.machines:
            machines.wait(s, machine)
        services.up(s)
        services.wait_until_idle(s)
    except BaseException:
        if not os.environ.get("SLURM_DEV_KEEP"):
            down(s.number, Path(s.home))
        raise


def folders(s: Settings) -> None:
    home = Path(s.home)
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    for name in ("etc/host", "log", "run", "machines", "secrets", "munge", "shared"):
        (home / name).mkdir(parents=True, exist_ok=True)
    (home / "secrets").chmod(0o700)
    call("mount", "-t", "tmpfs", "-o", "size=6g,mode=1777", f"shared-{s.number}", str(s.shared))
    (s.shared / "home").mkdir()


def write_files(s: Settings) -> None:
    """Write what the machines read when they boot. Keys are made fresh, and good for nothing else."""
    etc, keys = Path(s.home, "etc"), Path(s.home, "secrets")
    (keys / "munge").write_bytes(secrets.token_bytes(128))
    (keys / "munge").chmod(0o600)
    for name in ("host", "user"):
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(keys / name))
    texts = {
        "slurm.conf": configs.slurm_conf(s),
        "gres.conf": configs.gres_conf(s),
        "cgroup.conf": configs.cgroup_conf(s),
        "hosts": configs.hosts(s),
        "sshd.conf": configs.sshd_conf(s, one_time=False),
        "sshd-otp.conf": configs.sshd_conf(s, one_time=True),
        "delay": "0",
    }
    for name, text in texts.items():
        (etc / name).write_text(text)
    (etc / "slurmdbd.conf").write_text(configs.slurmdbd_conf(s))
    (etc / "slurmdbd.conf").chmod(0o600)
    here = (etc / "slurm.conf").read_text().replace(configs.MUNGE, f"{s.home}/munge/socket")  # but for this, the same
    (etc / "host" / "slurm.conf").write_text(here)
    logins.write(s)


def connect_laptop(s: Settings) -> None:
    args = ["python3", "-B", str(machines.HERE / "line.py"), s.home, s.space("laptop"), s.space("login")]
    start(args, Path(s.home, "run", "line"), Path(s.home, "log", "line"))
    spaces = [s.space(machine) for machine in ("laptop", "login")]

    def made() -> bool:
        return all(services.succeeds("ip", "-n", space, "link", "show", line.DEVICE) for space in spaces)

    if not waited(made, 20):
        raise ClusterError(f"there is no line to the login node: {Path(s.home, 'log', 'line').read_text()}")
    network.link_laptop(s)


def down(number: int, home: Path) -> None:
    """End a cluster: its processes by their recorded ids, then its network, mounts, control groups and folder."""
    found = [path for path in sorted((home / "run").glob("*")) if path.is_file()] if home.is_dir() else []
    living = [pid for path in found if (pid := recorded(path)) is not None]
    if living:
        end_quietly(home, living)
    network.down(number)
    if (home / "shared").is_mount():
        call("umount", "-l", str(home / "shared"))
    machines.remove_groups(number)
    shutil.rmtree(home, ignore_errors=True)


def end_quietly(home: Path, living: list[int]) -> None:
    """Switch every machine off: `unshare --kill-child` takes all that runs there along."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda pid: end([pid], patience_s=0.05), living))


def switch_on(s: Settings, machine: str) -> None:
    """Switch a machine on again, with what it starts at its boot."""
    machines.up(s, machine)
    machines.wait(s, machine)
    services.run(s, machine, "munged")
    if machine.startswith("node"):
        services.node(s, machine)
    elif machine == "login":
        for name in ("sshd", "sshd-otp"):
            services.run(s, machine, name)
