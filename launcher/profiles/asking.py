"""The questions that doctor asks a site, as shell scripts: one for the login node, one for a node of each partition.

Each question is bounded and its answer stands between marks, so that whatever a login script prints is passed over.
Every word that comes from outside is quoted; what a person said in `setup` is shell and runs as such.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

from launcher.profiles.model import Partition, Profile

MARK = "@@launcher"
ASK_S = 20  # for a question on the login node; slurmdbd that is down answers late
NODE_ASK_S = 10
NODE_TIME_MIN = 2  # the time limit of a probe
NODE_MEMORY = "200M"
PYTHONS = ("python3.10", "python3.11", "python3.12", "python3.13", "python3.14")
PROGRAMS = ("apptainer", "singularity", "podman", "docker", "enroot")
SCRATCH_NAMES = ("SLURM_TMPDIR", "TMPDIR", "LOCAL_SCRATCH", "JOBSCRATCH")
SCRATCH_PLACES = (
    "/scratch",
    "/localscratch",
    "/local_scratch",
    "/lscratch",
    "/local",
    "/mnt/scratch",
    "/tmp",
    "/var/tmp",
)
SHARED_NAMES = ("SCRATCH", "WORK", "PROJECT", "HOME")
ASSOCIATION = "Account,Partition,QOS,DefaultQOS,MaxSubmit,MaxJobs,MaxWall,MaxTRES"
QOS = "Name,MaxWall,MaxSubmitPU,MaxJobsPU,MaxTRES,MaxTRESPU"
VERSION = "import platform; print(platform.python_version())"
CONNECT = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close(); print('yes')"
FUNCTIONS = f"""\
ask() {{
  name=$1; shift
  printf '\\n{MARK} begin %s\\n' "$name"
  timeout -k 2 "$limit" "$@" </dev/null 2>&1
  printf '\\n{MARK} end %s %s\\n' "$name" $?
}}
place() {{ # folder: type of its file system, KiB and inodes that are free, and whether it can be written
  [ -d "$1" ] || return 0
  type=$(stat -f -c %T "$1" 2>/dev/null)
  free=$(df -Pk "$1" 2>/dev/null | awk 'END {{print $4}}')
  inodes=$(df -Pi "$1" 2>/dev/null | awk 'END {{print $4}}')
  mine=no; part="$1/.launcher-doctor-$$"
  (umask 077; : >"$part") 2>/dev/null && mine=yes; rm -f "$part" 2>/dev/null
  printf '%s\\t%s\\t%s\\t%s\\t%s\\n' "$1" "$type" "$free" "$inodes" "$mine"
}}
programs() {{ for one in "$@"; do
  path=$(command -v "$one") || continue
  printf '%s\\t%s\\t%s\\n' "$one" "$path" "$(timeout 5 "$one" --version 2>/dev/null | head -n 1)"
done; }}
done_with() {{ [ "$(ls "$answers" | grep -c code)" = "$1" ]; }}
tell_setup() {{ printf '\\n{MARK} begin setup\\n%s\\n{MARK} end setup %s\\n' "$1" "$2"; }}
export -f place programs
"""
MODULES = "module -t avail 2>&1 | grep -iE 'apptainer|singularity|python|squash|enroot|podman' | head -50"


def login(profile: Profile, *, modules: bool = False) -> str:
    """Return the script of all questions to the login node. They run side by side: one that hangs holds up none."""
    me = '"$(id -un)"'
    python = shlex.join(words(profile.python))
    asked = {
        "user": "id -un; id -u",
        "clock": "date +%s",
        "config": "scontrol show config",
        "partition": "scontrol -o show partition",
        "node": "scontrol -o show node",
        "assoc": f"sacctmgr -nP show assoc user={me} format={ASSOCIATION}",
        "default": f"sacctmgr -nP show user {me} format=DefaultAccount",
        "qos": f"sacctmgr -nP show qos format={QOS}",
        "sacct": "sacct -nXP -S now-1hour -o JobID",
        "python": f"{python} -c {shlex.quote(VERSION)}",
        "pythons": f"programs {shlex.join(PYTHONS)}",
        "programs": f"programs sbatch srun {shlex.join(PROGRAMS)}",
        "shared": shared(profile),
        "quota": "quota -s -w 2>/dev/null",
    }
    if modules:
        asked["modules"] = (
            "module -t avail 2>&1 | grep -iE 'apptainer|singularity|python|squash|enroot|podman' | head -50"
        )
    return script(profile.setup, asked, ASK_S, beside=True)


def shared(profile: Profile) -> str:
    """Look at the shared folder, which is made when it isn't there; where none is named, at folders that may be it."""
    if profile.shared:
        folder = shlex.quote(profile.shared)
        return f"[ -d {folder} ] || mkdir -p -m 700 {folder}; place {folder}"
    return "; ".join(f'place "${{{name}:-/nowhere}}"' for name in SHARED_NAMES)


def words(text: str) -> list[str]:
    return shlex.split(text) or [text]


def script(setup: Sequence[str], asked: Mapping[str, str], limit_s: int, *, beside: bool = False) -> str:
    """Return a script that sets up and asks; with `beside` all at once, each answer kept until it is whole."""
    begin = [f"limit={limit_s}", FUNCTIONS, *set_up(setup)]
    questions = {name: f"ask {name} bash -c {shlex.quote(text)}" for name, text in asked.items()}
    if not beside:
        return "\n".join([*begin, *questions.values()])
    kept = [f'{question} >"$answers/{name}" &' for name, question in questions.items()]
    return "\n".join(
        [*begin, "answers=$(mktemp -d) || exit 1; trap 'rm -rf \"$answers\"' EXIT", *kept, "wait", 'cat "$answers"/*']
    )


def set_up(lines: Iterable[str]) -> list[str]:
    """Return shell that runs a person's lines here and tells of each that failed: a typo ends no script."""
    quoted = (shlex.quote(line) for line in lines)
    return [f"eval {line} </dev/null >/dev/null || tell_setup {line} $?" for line in quoted]


def node(profile: Profile, nonce: str, endpoint: tuple[str, int] | None) -> str:
    """Return the script that runs on a node."""
    python = shlex.join(words(profile.python))
    asked = {
        "host": "uname -n; uname -r; uname -m",
        "clock": "date +%s",
        "python": f"{python} -c {shlex.quote(VERSION)}",
        "pythons": f"programs {shlex.join(PYTHONS)}",
        "programs": f"programs scontrol srun squashfuse squashfuse_ll fusermount3 {shlex.join(PROGRAMS)}",
        "namespaces": "unshare --user --map-root-user true && echo yes",
        "settings": "cd /proc/sys && grep -H . user/max_user_namespaces kernel/unprivileged_userns_clone "
        "kernel/apparmor_restrict_unprivileged_userns",
        "fuse": "[ -r /dev/fuse ] && [ -w /dev/fuse ] && echo yes || ls -l /dev/fuse",
        "scratch": scratch(profile),
    }
    if profile.shared:
        probe = shlex.quote(probe_folder(profile, nonce))
        asked["shared"] = f'cat {probe}/marker && uname -n >{probe}/"node-$SLURM_JOB_ID" && echo written'
    if profile.store and profile.store.startswith(("/", "file://")):
        asked["store"] = f"place {shlex.quote(profile.store.removeprefix('file://'))}"
    if endpoint:
        asked["network"] = f"{python} -c {shlex.quote(CONNECT)} {shlex.quote(endpoint[0])} {endpoint[1]}"
    asked["proxy"] = 'echo "${https_proxy:-${HTTPS_PROXY:-}}"'
    asked |= gpu(python)
    return script(profile.setup, asked, NODE_ASK_S)


def scratch(profile: Profile) -> str:
    places = [shlex.quote(place) for place in (profile.scratch, *SCRATCH_PLACES) if place]
    names = [f'"${{{name}:-/nowhere}}"' for name in SCRATCH_NAMES]
    return f'for one in {" ".join([*names, *places])}; do place "$one"; done'


def gpu(python: str) -> dict[str, str]:
    """Ask NVML by the program that `launcher.gpu` has for it, else nvidia-smi, else the driver's file."""
    from importlib.resources import files

    from launcher.gpu.probe import FIELDS, LIBRARY

    nvml = (files("launcher.gpu") / "nvml.py").read_text(encoding="utf-8")
    smi = f"nvidia-smi --query-gpu={','.join(FIELDS)} --format=csv,noheader,nounits"
    return {
        "nvml": f"[ -e /dev/nvidiactl ] && {python} -I -S -B -c {shlex.quote(nvml)} {LIBRARY} 2>/dev/null",
        "smi": f"{smi} 2>/dev/null",
        "driver": "head -n 1 /proc/driver/nvidia/version 2>/dev/null",
    }


def probe_folder(profile: Profile, nonce: str) -> str:
    return f"{profile.shared}/.launcher-doctor-{nonce}"


def probes(
    profile: Profile,
    partitions: Sequence[Partition],
    nonce: str,
    wait_s: int,
    *,
    endpoint: tuple[str, int] | None = None,
    memory: bool = True,
) -> str:
    """Return the script that runs the node's on one node of each partition, waits, and takes back what still waits.

    The jobs are known by their name, which has the nonce: nothing else is ever cancelled. `memory` tells that the
    site counts it: a job that names none would wait for a whole node; other sites refuse one that does.
    """
    name = f"launcher-doctor-{nonce}"
    started = [
        f'{{ {shlex.join(srun(profile, one, name, memory))} bash -c "$payload" </dev/null >"$answers/{at}.out" '
        f'2>"$answers/{at}.err"; echo $? >"$answers/{at}.code"; }} &'
        for at, one in enumerate(partitions)
    ]
    return "\n".join(
        [
            f"limit={ASK_S}",
            FUNCTIONS,
            *set_up(profile.setup),
            f"payload={shlex.quote(node(profile, nonce, endpoint))}",
            "answers=$(mktemp -d) || exit 1",
            *marker(profile, nonce),
            *started,
            f"for ((i = 0; i < {wait_s * 5}; i++)); do done_with {len(partitions)} && break; sleep 0.2; done",
            f"ask queue squeue -h -n {name} -o '%P|%T|%r'",
            f'done_with {len(partitions)} || timeout 20 scancel -n {name} -u "$(id -un)"',
            f"for ((i = 0; i < 50; i++)); do done_with {len(partitions)} && break; sleep 0.2; done",
            *(told(at, one.name) for at, one in enumerate(partitions)),
        ]
    )


def srun(profile: Profile, partition: Partition, name: str, memory: bool) -> list[str]:
    """Return the words that start a probe: small and short, and with one GPU where the partition has some."""
    from launcher.profiles.gres import gpus

    said = {"account": profile.account, "qos": profile.qos, "constraint": profile.constraint, **profile.options}
    words = ["srun", f"--job-name={name}", f"--partition={partition.name}", "--nodes=1", "--ntasks=1", "--chdir=/"]
    words += [f"--time={NODE_TIME_MIN}", *([f"--mem={NODE_MEMORY}"] if memory else [])]
    words += [f"--{key}={value}" if value else f"--{key}" for key, value in said.items() if value is not None]
    if gpus(partition.gres):
        words += [f"--gres={profile.gres}:1"] if profile.gres else ["--gpus-per-node=1"]
    return words


def marker(profile: Profile, nonce: str) -> list[str]:
    """Put a file into the shared folder for the nodes to find; it goes when the script ends."""
    if not profile.shared:
        return ["trap 'rm -rf \"$answers\"' EXIT"]
    probe = shlex.quote(probe_folder(profile, nonce))
    return [
        f'probe={probe}; trap \'rm -rf "$answers" "$probe"\' EXIT',
        f"ask marker bash -c {shlex.quote(f'mkdir -m 700 {probe} && echo {nonce} >{probe}/marker')}",
    ]


def told(at: int, name: str) -> str:
    """Return shell that prints what one probe said: its own answers have names of their own."""
    begin = f"printf '\\n{MARK} partition %s\\n' {shlex.quote(name)}; cat \"$answers/{at}.out\""
    return (
        f"{begin}; printf '\\n{MARK} begin srun\\n'; cat \"$answers/{at}.err\"; "
        f'printf \'\\n{MARK} end srun %s\\n\' "$(cat "$answers/{at}.code" 2>/dev/null || echo 255)"'
    )
