"""What a person may say of a target: every key of `[target]` and `[partition.NAME]`, and what its value has to be.

A cluster (kind "slurm") and a box that is reached by SSH (kind "ssh") have keys of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

RUNTIMES = ("apptainer", "podman", "docker", "sandbox")
ABSENT = {
    "enroot": "launcher doesn't start containers by enroot yet: apptainer, podman or sandbox run on the same node",
    "pyxis": "launcher doesn't start containers by pyxis yet: apptainer, podman or sandbox run on the same node",
    "singularity": 'write "apptainer": SingularityCE is taken where there is no apptainer',
}
WORD = re.compile(r"[A-Za-z0-9_.@%+:][A-Za-z0-9_.@%+:,-]*")
OPTION = re.compile(r"[a-z][a-z0-9-]*")
# options of sbatch that have a key of their own, or that launcher decides itself
TAKEN = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "constraint": "constraint",
    **dict.fromkeys(("nodes", "ntasks", "ntasks-per-node", "cpus-per-task", "mem", "time"), "`resources:` of the spec"),
    **dict.fromkeys(("gpus", "gpus-per-node", "gres"), "`resources.gpus` of the spec, and `gres`"),
    **dict.fromkeys(("array", "job-name", "output", "error", "input", "open-mode", "comment", "chdir", "export")),
    **dict.fromkeys(("requeue", "no-requeue", "dependency", "hold", "wrap", "parsable", "wait", "test-only")),
    "signal": "warn_s",
}

Complaint = tuple[str, str]  # what is wrong, and what to do
Check = Callable[[object], "Complaint | None"]


class Key(NamedTuple):
    """A key: its check, and how a word of the command line becomes its value."""

    check: Check
    kind: type = str


def text(value: object) -> Complaint | None:
    if not isinstance(value, str):
        return "is no text", "put it in quotes"
    if not value or not value.isprintable():
        return f"{value!r} is empty, or has characters that can't be printed", "write a word, or leave the key out"
    return None


def word(value: object) -> Complaint | None:
    """Check a name that Slurm is told: several may stand with commas between them."""
    if complaint := text(value):
        return complaint
    if not WORD.fullmatch(str(value)):
        return f"{value!r} is no name", "names have letters, digits and _ . - only"
    return None


def constraint(value: object) -> Complaint | None:
    return text(value) or (("begins with a dash", "write features, such as a100&ib") if str(value)[0] == "-" else None)


def host(value: object) -> Complaint | None:
    if complaint := text(value):
        return complaint
    if str(value).startswith("-") or re.search(r"\s|/", str(value)):
        return f"{value!r} is no host", "write what you tell ssh: login.example.org, or ada@login.example.org:2222"
    return None


def folder(value: object) -> Complaint | None:
    if complaint := text(value):
        return complaint
    if not str(value).startswith("/") or ".." in str(value).split("/"):
        return f"{value!r} is no absolute path", "write the path that login node and nodes have for it, from / on"
    return None


def store(value: object) -> Complaint | None:
    if complaint := text(value):
        return complaint
    if not re.match(r"/|(s3|gs|az|file)://", str(value)):
        return f"{value!r} is no store", "write s3://BUCKET, gs://BUCKET, az://CONTAINER, or an absolute folder"
    return None


def seconds(value: object) -> Complaint | None:
    return whole(value) or (("is no time above zero", "write seconds, such as 3600") if value == 0 else None)


def whole(value: object) -> Complaint | None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return f"{value!r} is no whole number", "write digits, without quotes"
    return None


def array(value: object) -> Complaint | None:
    return whole(value) or (("lets no array in", "MaxArraySize is 2 at least") if value in (0, 1) else None)


def flag(value: object) -> Complaint | None:
    return None if isinstance(value, bool) else ("is neither true nor false", "write true, without quotes")


def lines(value: object) -> Complaint | None:
    if not isinstance(value, (list, tuple)) or not all(isinstance(line, str) for line in value):
        return "is no list of lines", 'write setup = ["module load apptainer"]'
    return None


def options(value: object) -> Complaint | None:
    if not isinstance(value, dict):
        return "is no table", 'write [target.options] and below it such lines as exclude = "node7"'
    for name, said in value.items():
        if not OPTION.fullmatch(name):
            return f"{name!r} is no option of sbatch", "write its long name without dashes, such as mail-type"
        if name in TAKEN:
            place = TAKEN[name]
            return f"`{name}` is decided elsewhere", f"say it as {place}" if place else "launcher needs it for itself"
        if not isinstance(said, str) or "\n" in said or "\0" in said:
            return f"the value of `{name}` is no line of text", 'put it in quotes; "" for an option without a value'
    return None


def one_of(*choices: str, absent: dict[str, str] | None = None) -> Check:
    def check(value: object) -> Complaint | None:
        if value in choices:
            return None
        hint = (absent or {}).get(str(value)) or f"write {' or '.join(choices)}"
        return f"{value!r} is not known", hint

    return check


def gres(value: object) -> Complaint | None:
    return None if value == "" else word(value)


def version(value: object) -> Complaint | None:
    if not isinstance(value, str) or not re.fullmatch(r"\d+(\.\d+)*[a-z]?", value):
        return f"{value!r} is no version", 'write such as "550.54.15", in quotes'
    return None


def box_folder(value: object) -> Complaint | None:
    """Check a folder on a box, which may have a newline in its name. Its user's home can't be written as ~: nobody
    there would read it so."""
    if complaint := text(value.replace("\n", "") if isinstance(value, str) else value):
        return complaint
    if not str(value).startswith("/") or ".." in str(value).split("/"):
        return f"{value!r} is no absolute path", "write it from / on; without the key it is below the home there"
    return None


def notices(value: object) -> Complaint | None:
    """Check what tells that a box is about to be taken away: a cloud by its name, an absolute path, an http URL."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        return "is no list of words", 'write notice = ["aws"]'
    for one in value:
        if one not in CLOUDS and not re.match(r"/|https?://", one):
            return f"{one!r} tells no notice", f"write {', '.join(CLOUDS)}, the absolute path of a file, or a URL"
    return None


CLOUDS = ("aws", "gcp", "azure")
TARGET: dict[str, Key] = {
    "kind": Key(one_of("slurm", "ssh")),
    "host": Key(host),
    "transport": Key(one_of("ssh", "fabric")),
    "shared": Key(folder),
    "scratch": Key(folder),
    "runtime": Key(one_of(*RUNTIMES, absent=ABSENT)),
    "python": Key(text),
    "setup": Key(lines, list),
    "store": Key(store),
    "partition": Key(word),
    "account": Key(word),
    "qos": Key(word),
    "constraint": Key(constraint),
    "options": Key(options, dict),
    "time_s": Key(seconds, int),
    "warn_s": Key(seconds, int),
    "gres": Key(gres),
    "max_array": Key(array, int),
    "max_submit": Key(seconds, int),
    "requeue": Key(flag, bool),
    "accounting": Key(flag, bool),
    "outbound": Key(flag, bool),
}
PARTITION: dict[str, Key] = {
    "nodes": Key(whole, int),
    "cpus": Key(whole, int),
    "memory_mb": Key(whole, int),
    "max_time_s": Key(seconds, int),
    "default_time_s": Key(seconds, int),
    "max_nodes": Key(whole, int),
    "driver": Key(version),
    "capability": Key(version),
    "gpu_memory_mb": Key(whole, int),
}
BOX: dict[str, Key] = {
    "kind": TARGET["kind"],
    "host": Key(host),
    "transport": TARGET["transport"],
    "folder": Key(box_folder),
    "runtime": TARGET["runtime"],
    "python": TARGET["python"],
    "setup": TARGET["setup"],
    "store": Key(store),
    "ship": Key(one_of("auto", "direct", "relay")),
    "credentials": Key(one_of("memory", "disk")),
    "notice": Key(notices, list),
    "outbound": Key(flag, bool),
}
KINDS: dict[str, dict[str, Key]] = {"slurm": TARGET, "ssh": BOX}
FIELDS = {"folder": "shared"}  # what a profile calls it, where that differs
CALLED = {"slurm": "a Slurm cluster", "ssh": "a box"}


def of_kind(target: Mapping[str, object]) -> dict[str, Key]:
    """Return the keys of a target of this kind; those of a cluster where it says none, or one that is not known."""
    return KINDS.get(str(target.get("kind", "slurm")), TARGET)


def elsewhere(key: str, known: Mapping[str, Key]) -> Complaint | None:
    """Tell of a key that targets of another kind have."""
    for kind, keys in KINDS.items():
        if keys is not known and key in keys:
            others = [name for name in known if name != "kind"]
            own = next(name for name, mine in KINDS.items() if mine is known)
            return f"is for {CALLED[kind]}, and this is {CALLED[own]}", f"leave it out; known are {', '.join(others)}"
    return None
