"""Ways into the login node: by key, and by a list of one-time passwords; and what the laptop's owner has of them."""

from __future__ import annotations

import os
import random
from pathlib import Path

from settings import Settings

PASSWORDS = 50

CHECK = """#!/bin/sh
# PAM asks: is it the next password of the list? Each is good once; every answer is written down.
read -r given
next=$(head -n 1 /etc/one-time/list)
[ -n "$given" ] && [ "$given" = "$next" ] || { echo "refused $PAM_USER" >>/var/log/one-time; exit 1; }
sed -i 1d /etc/one-time/list
echo "accepted $PAM_USER" >>/var/log/one-time
"""
PAM = """auth required pam_exec.so expose_authtok quiet /etc/one-time/check
auth required pam_permit.so
account required pam_permit.so
session required pam_permit.so
"""
LOGIN = """#!/bin/sh
# What the login node does besides when it boots.
set -eu
mkdir -m 755 "$1/etc/one-time"
install -m 600 {secrets}/passwords "$1/etc/one-time/list"
install -m 755 {secrets}/check "$1/etc/one-time/check"
install -m 644 {secrets}/pam "$1/etc/pam.d/sshd"
: >"$1/var/log/one-time"
"""
LAPTOP = """#!/bin/sh
# What the laptop does besides when it boots: its people can log in to the cluster.
set -eu
for home in root {homes}; do
    mkdir -p -m 755 "$1/$home"
    rm -rf "$1/$home/.ssh"
    mkdir -m 700 "$1/$home/.ssh"
    install -m 600 {secrets}/user "$1/$home/.ssh/id_ed25519"
    install -m 600 {secrets}/ssh_config "$1/$home/.ssh/config"
    install -m 600 {secrets}/../known_hosts "$1/$home/.ssh/known_hosts"
done
{owners}
"""


def write(s: Settings) -> None:
    """Write keys for the users, passwords, and what login node and laptop do at their boot."""
    secrets = Path(s.home, "secrets")
    keys = (secrets / "user.pub").read_text()
    for user in s.users:
        make_home(s, user, keys)
    host = (secrets / "host.pub").read_text()
    names = [s.address("login"), s.link_address("login"), "login", *map(s.address, s.node_names), *s.node_names]
    both = [*names, *(f"[{name}]:2222" for name in names)]
    (Path(s.home) / "known_hosts").write_text("".join(f"{name} {host}" for name in both))
    texts = {"passwords": passwords(), "check": CHECK, "pam": PAM, "ssh_config": ssh_config(s)}
    for name, text in texts.items():
        (secrets / name).write_text(text)
    boot_script(s, "login", LOGIN)
    boot_script(s, "laptop", LAPTOP)


def make_home(s: Settings, user: str, keys: str) -> None:
    name, _, number = user.partition(":")
    ssh = s.shared / "home" / name / ".ssh"
    ssh.mkdir(parents=True, mode=0o700)
    (ssh / "authorized_keys").write_text(keys)
    for path in (ssh.parent, ssh, ssh / "authorized_keys"):
        os.chown(path, int(number), int(number))


def passwords() -> str:
    draw = random.SystemRandom()
    return "".join(f"{draw.randrange(10**6):06d}\n" for _ in range(PASSWORDS))


def ssh_config(s: Settings) -> str:
    """Return ssh_config(5) of the laptop: `login` wants a key, `login-otp` a one-time password."""
    user = s.users[0].partition(":")[0]
    same = f"  HostName {s.link_address('login')}\n  User {user}\n"
    return f"Host login\n{same}Host login-otp\n{same}  Port 2222\n  PubkeyAuthentication no\n"


def boot_script(s: Settings, machine: str, text: str) -> None:
    split = [user.partition(":") for user in s.users]
    homes = " ".join(f"home/{name}" for name, _, _ in split)
    owners = "\n".join(f'chown -R {number}:{number} "$1/home/{name}"' for name, _, number in split)
    path = Path(s.home) / "etc" / f"{machine}.sh"
    path.write_text(text.format(secrets=f"{s.home}/secrets", homes=homes, owners=owners))
    path.chmod(0o755)
