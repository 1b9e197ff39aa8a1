"""The disk of a box: programs of this machine's /usr, and nothing else of it; homes, settings and /var of its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.box.model import USERS, Parts
from tests.box.processes import call

FOLDERS = ("usr", "home", "root", "tmp", "run", "proc", "sys", "dev", "mnt", "opt", "srv", "media", "boot")
VAR = ("lib/docker", "log", "tmp", "cache", "spool/cron/crontabs", "empty", "mail")
# What this machine's /etc has that a rented box would not, or that is to be made anew.
STRANGE = ("apt", "pip.conf", "uv", "docker", "cron.d", "resolv.conf", "ssh", "containers", "slurm", "munge")
# Programs of this machine that a box doesn't have, unless it says so.
ENGINE = ("docker", "dockerd", "containerd", "runc", "docker-proxy", "docker-init", "ctr")
PODMAN = ("podman", "buildah", "skopeo", "crun", "conmon")
OTHERS = ("sbatch", "srun", "sinfo", "squeue", "scontrol", "ch-run", "umoci", "apptainer", "singularity", "enroot")
SSHD = """Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UseDNS no
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
"""


def make(box: Parts) -> None:
    """Make everything that lies on it before it boots for the first time."""
    for folder in ("run", "log", "secrets"):
        (box.home / folder).mkdir(parents=True)
    box.disk.mkdir()
    if box.disk_mb is not None:
        call("mount", "-t", "tmpfs", "-o", f"size={box.disk_mb}m,mode=755", box.space, str(box.disk))
    for folder in ("upper", "work", "local/bin", "local/sbin", *(f"root/{name}" for name in FOLDERS)):
        (box.disk / folder).mkdir(parents=True)
    system(box.root)
    settings(box)
    people(box)


def system(root: Path) -> None:
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    for name in VAR:
        (root / "var" / name).mkdir(parents=True)
    (root / "var" / "run").symlink_to("/run")
    (root / "root").chmod(0o700)
    (root / "tmp").chmod(0o1777)
    (root / "var" / "tmp").chmod(0o1777)
    shutil.chown(root / "var" / "spool" / "cron" / "crontabs", group="crontab" if has_group("crontab") else 0)
    (root / "var" / "spool" / "cron" / "crontabs").chmod(0o1730)


def has_group(name: str) -> bool:
    return any(line.startswith(f"{name}:") for line in Path("/etc/group").read_text().splitlines())


def settings(box: Parts) -> None:
    """Copy /etc but for what is this machine's own; give it keys and a configuration for sshd."""
    etc = box.root / "etc"
    call("cp", "-a", "/etc", str(etc))
    for name in STRANGE:
        call("rm", "-rf", str(etc / name))
    (etc / "ssh").mkdir()
    (etc / "cron.d").mkdir()
    for name, place in (("host", etc / "ssh" / "ssh_host_ed25519_key"), ("user", box.home / "secrets" / "user")):
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(place))
    write_sshd(box, box.sshd)
    (etc / "hostname").write_text(f"{box.name}\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n{box.address} {box.name}\n{box.site.host_address} client\n")


def write_sshd(box: Parts, lines: tuple[str, ...]) -> None:
    """Write sshd_config(5): the first of two lines for one keyword counts."""
    (box.root / "etc" / "ssh" / "sshd_config").write_text("".join(f"{line}\n" for line in lines) + SSHD)


def hidden(box: Parts) -> list[str]:
    """Return the programs of this machine's /usr that the box must not have, as paths below it."""
    names = [*OTHERS, *(() if box.docker else ENGINE), *(() if box.podman else PODMAN)]
    if box.podman:
        names = [name for name in names if name != "runc"]
    places = [f"{folder}/{name}" for folder in ("bin", "sbin") for name in names]
    return [place for place in places if Path("/usr", place).exists()]


def people(box: Parts) -> None:
    """Make the users, who all let the same key in; the folder of root's programs is the box's own too."""
    etc = box.root / "etc"
    if not has_group("docker"):
        append(etc / "group", "docker:x:2999:\n")
    for user, number in USERS.items():
        append(etc / "passwd", f"{user}:x:{number}:{number}::/home/{user}:/bin/bash\n")
        append(etc / "group", f"{user}:x:{number}:\n")
        append(etc / "shadow", f"{user}:*:19000:0:99999:7:::\n")
        (box.root / "home" / user).mkdir()
        let_in(box, box.root / "home" / user, number)
    let_in(box, box.root / "root", 0)
    groups = (etc / "group").read_text().splitlines()
    joined = [
        f"{line}{'' if line.endswith(':') else ','}dora" if line.startswith("docker:") else line for line in groups
    ]
    (etc / "group").write_text("\n".join([*joined, ""]))


def append(path: Path, text: str) -> None:
    with path.open("a") as out:
        out.write(text)


def let_in(box: Parts, home: Path, number: int) -> None:
    keys = home / ".ssh" / "authorized_keys"
    keys.parent.mkdir(mode=0o700)
    keys.write_text((box.home / "secrets" / "user.pub").read_text())
    for path in (home, keys.parent, keys):
        os.chown(path, number, number)
