"""The questions that doctor asks a box: one shell script for everything, and a short one for each launch.

It is POSIX sh, goes there by stdin (so that it costs its own bytes and no quoting), asks its questions side by side,
and bounds each. Answers stand between marks, as a site's do (launcher.profiles.asking).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from importlib.resources import files

from launcher.profiles.asking import CONNECT, MARK, PYTHONS, VERSION, set_up, words
from launcher.profiles.model import Profile

ASK_S = 15
OF_DOCKER = ("dockerd", "nvidia-ctk", "nvidia-container-runtime-hook", "nvidia-container-toolkit")
PROGRAMS = (*OF_DOCKER, "podman", "apptainer", "singularity", "unshare", "systemctl", "crontab")
PLACES = (  # where rented boxes have their large disks, besides the home
    *("/workspace", "/data", "/scratch", "/ephemeral", "/mnt", "/mnt/data", "/mnt/local", "/mnt/nvme"),
    *("/mnt/resource", "/opt/dlami/nvme", "/localscratch", "/var/tmp"),
)
BEGIN = f"""\
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"; export PATH
limit={ASK_S}
command -v timeout >/dev/null || timeout() {{ shift 3; "$@"; }}
ask() {{
  printf '\\n{MARK} begin %s\\n' "$1"
  timeout -k 2 "$limit" sh -c "$2" </dev/null 2>&1
  printf '\\n{MARK} end %s %s\\n' "$1" $?
}}
keep() {{ # without any room for a file the questions are asked one after the other
  if [ -n "$answers" ]; then ask "$@" >"$answers/$1" & else ask "$@"; fi
}}
tell_setup() {{ printf '\\n{MARK} begin setup\\n%s\\n{MARK} end setup %s\\n' "$1" "$2"; }}
clock() {{ printf '\\n{MARK} begin %s\\n' "$1"; date +%s.%N; printf '{MARK} end %s 0\\n' "$1"; }}
clock began
"""
END = """\
wait
[ -z "$answers" ] || { cat "$answers"/*; rm -rf "$answers"; }
clock ended
"""
# Memory first: a disk that is full is what shall be told.
ANSWERS = "answers=$(mktemp -d /dev/shm/launcher-XXXXXX 2>/dev/null || mktemp -d 2>/dev/null)"
PLACE = """\
place() { # folder: type, KiB and inodes that are free, written or not, the file system's number, executes or not
  [ -d "$1" ] || return 0
  type=$(stat -f -c %T "$1" 2>/dev/null); number=$(stat -c %d "$1" 2>/dev/null)
  free=$(df -Pk "$1" 2>/dev/null | awk 'END { print $4 }'); inodes=$(df -Pi "$1" 2>/dev/null | awk 'END { print $4 }')
  mine=no; runs=no; part="$1/.launcher-doctor-$$"
  { (umask 077; printf '#!/bin/sh\\nexit 0\\n' >"$part") && [ -s "$part" ] && mine=yes; } 2>/dev/null
  { chmod 700 "$part" && "$part" && runs=yes; } 2>/dev/null; rm -f "$part" 2>/dev/null
  printf '%s\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\n' "$1" "$type" "$free" "$inodes" "$mine" "$number" "$runs"
}
"""
FINDS = """\
for one in "$@"; do path=$(command -v "$one") && printf '%s\\t%s\\n' "$one" "$path"; done; true
"""
LIMITS = """\
nproc; awk '/^MemTotal:/ { print $2 }' /proc/meminfo
cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true
"""
SYSTEM = '[ -r /etc/os-release ] && . /etc/os-release; printf "%s\\n" "$PRETTY_NAME"'
LIBC = "getconf GNU_LIBC_VERSION 2>/dev/null || ldd --version 2>&1 | head -n 1"
PODMAN_FACTS = "{{.Version.Version}} {{.Store.GraphDriverName}} {{.Host.Security.Rootless}}"
PODMAN = f"command -v podman >/dev/null || exit 127; podman info --format {shlex.quote(PODMAN_FACTS)} 2>&1 | tail -n 1"
APPTAINER = """\
for one in apptainer singularity; do
  path=$(command -v "$one") || continue
  "$one" --version | tail -n 1
  path=$(readlink -f "$path"); [ -u "${path%/bin/*}/libexec/$one/bin/starter-suid" ] && echo setuid
  exit 0
done; exit 127
"""
NAMESPACES = "unshare --user --map-root-user true && echo yes"
SETTINGS = (
    "cd /proc/sys && grep -H . user/max_user_namespaces kernel/unprivileged_userns_clone "
    "kernel/apparmor_restrict_unprivileged_userns"
)
ROUTES = """\
awk '$2 == "00000000" { print "default" }' /proc/net/route
awk '$1 == "00000000000000000000000000000000" && $2 == "00" && $10 != "lo" { print "default" }' /proc/net/ipv6_route
printf '%s\\n' "${https_proxy:-$HTTPS_PROXY}"
"""
BOOT = """\
[ -d /run/systemd/system ] && echo systemd
systemctl is-enabled docker.service 2>/dev/null | sed 's/^/docker=/'
[ -e "/var/lib/systemd/linger/$(id -un)" ] && echo linger
for one in /proc/[0-9]*/comm; do read -r name <"$one" && case $name in cron|crond) echo cron; break;; esac; done
true
"""
CARDS = "cat /proc/driver/nvidia/gpus/*/information"
SMI = """\
ask_smi() { nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits 2>/dev/null; }
ask_smi FIELDS || ask_smi WITHOUT
"""


def everything(profile: Profile, endpoint: tuple[str, int] | None = None) -> str:
    """Return the script of all questions. `endpoint` is a host and port that the box should reach."""
    from launcher.gpu.probe import LIBRARY

    nvml = (files("launcher.gpu") / "nvml.py").read_text(encoding="utf-8")
    python = program(profile)
    asked = cheap(profile, endpoint) | {
        "docker": docker(profile),
        "smi": smi(),
        "driver": "head -n 1 /proc/driver/nvidia/version 2>/dev/null",
        "host": "uname -n; uname -r; uname -m",
        "limits": LIMITS,
        "system": SYSTEM,
        "libc": LIBC,
        "pythons": finds(PYTHONS),
        "programs": finds(PROGRAMS),
        "podman": PODMAN,
        "apptainer": APPTAINER,
        "namespaces": NAMESPACES,
        "settings": SETTINGS,
        "routes": ROUTES,
        "boot": BOOT,
        "nvml": f"[ -e /dev/nvidiactl ] && {python} -I -S -B -c {shlex.quote(nvml)} {LIBRARY} 2>/dev/null",
        "cards": CARDS,
    }
    return script(profile.setup, asked)


def some(profile: Profile, endpoint: tuple[str, int] | None = None) -> str:
    """Return the script of what may have changed since doctor looked: user, Python, folder, engine, GPUs, driver."""
    asked = cheap(profile, endpoint) | {"boot": BOOT, "programs": finds((*OF_DOCKER, "crontab"))}
    if profile.runtime == "docker":
        asked["docker"] = docker(profile)
    if profile.runtime == "apptainer":
        asked["apptainer"] = APPTAINER
    if profile.runtime == "podman":
        asked["podman"] = PODMAN
    if profile.box is not None and (profile.box.gpus or profile.box.driver):
        asked |= {"smi": smi(), "driver": "head -n 1 /proc/driver/nvidia/version 2>/dev/null"}
    return script(profile.setup, asked)


def cheap(profile: Profile, endpoint: tuple[str, int] | None) -> dict[str, str]:
    python = program(profile)
    asked = {
        "user": 'id -un; id -u; printf "%s\\n" "$HOME"',
        "groups": 'id -nG; id -nG "$(id -un)"',
        "python": f"{python} -c {shlex.quote(VERSION)}",
        "folder": folder(profile),
    }
    if endpoint:
        asked["network"] = f"{python} -c {shlex.quote(CONNECT)} {shlex.quote(endpoint[0])} {endpoint[1]}"
    return asked


def program(profile: Profile) -> str:
    return shlex.join(words(profile.python))


def folder(profile: Profile) -> str:
    """Look at launcher's folder, which is made when it isn't there; where none is named, at folders for it."""
    if profile.shared:
        named = shlex.quote(profile.shared)
        return f"{PLACE}[ -d {named} ] || mkdir -p -m 700 {named} || exit 1; place {named}"
    return f'{PLACE}for one in "$HOME" {shlex.join(PLACES)} /mnt/*; do place "$one"; done'


def docker(profile: Profile) -> str:
    """Ask the engine by the box's Python: its SDK will go the same way."""
    source = (files("launcher.profiles") / "docker_facts.py").read_text(encoding="utf-8")
    return f"{program(profile)} -I -S -B -c {shlex.quote(source)}"


def smi() -> str:
    from launcher.gpu.probe import FIELDS

    without = ",".join(name for name in FIELDS if name != "compute_cap")
    return SMI.replace("FIELDS", ",".join(FIELDS)).replace("WITHOUT", without)


def finds(names: Iterable[str]) -> str:
    return f"set -- {shlex.join(names)}; {FINDS}"


def script(setup: Iterable[str], asked: Mapping[str, str]) -> str:
    """Return a script that asks all questions at once, each answer kept until it is whole."""
    kept = [f"keep {name} {shlex.quote(text)}" for name, text in asked.items()]
    return "\n".join([BEGIN.rstrip("\n"), *set_up(setup), ANSWERS, *kept, END])
