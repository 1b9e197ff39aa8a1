"""The image's topmost layer: the files from which Apptainer and enroot learn what Docker reads in the image's config.

Apptainer sources `/.singularity.d/env/*.sh` and executes `/.singularity.d/runscript`; enroot and pyxis read
`/etc/environment` and `/etc/fstab` and execute `/etc/rc`. With them in the image, a SIF and a squashfs are exactly the
image's tree, and no tool has to write anything into it. Empty folders and files show where runtimes mount something,
since a root that is read-only can't be given them later.

Sources: Apptainer's internal/pkg/util/fs/files/action_script.sh (1.4), enroot's doc/image-format.md, src/common.sh
and bin/common.h (3.4 and 4.0).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from launcher.digest import sha256_bytes
from launcher.image.keys import key_of
from launcher.image.layers import RUNTIME, LayerPlan, with_parents
from launcher.image.oci import NOTHING, Settings, settings
from launcher.image.tar import layer_chunks
from launcher.image.tree import Bytes, Entry
from launcher.lock.model import Lock

if TYPE_CHECKING:
    from launcher.image.base.tree import BaseTree

FOLDERS: Mapping[str, int] = {
    **dict.fromkeys(("dev", "proc", "sys", "run", "workspace", "data", "opt/launcher", "run/launcher"), 0o755),
    "var/cache/launcher/pycache": 0o755,
    "tmp": 0o1777,
    ".singularity.d/actions": 0o755,
    ".singularity.d/libs": 0o755,
}
HOST_FILES = ("etc/hostname", "etc/hosts", "etc/resolv.conf")
"""What engines mount over; Debian images have them by images/debian-rules.toml."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PLAIN = re.compile(r"(?![\"'])(?:(?!\$\{)[^\n])*")
"""Values that a line of enroot's /etc/environment carries as they are: it drops quotes and replaces `${NAME}`."""


def runtime_plan(lock: Lock, tree: BaseTree | None = None, base_env: Mapping[str, str] = NOTHING) -> LayerPlan:
    """Plan the layer for a lock; `tree` is what the layers of its base show, when it has one."""
    entries = runtime_entries(settings(lock, base_env), tree, hosts=tree is not None or not lock.debs)
    entries = with_parents(entries, standing(entries, tree))
    key = key_of("runtime", sha256_bytes(b"".join(layer_chunks(entries))))
    size = sum(entry.content.size for entry in entries if entry.content)
    return LayerPlan(rank=RUNTIME, name="runtime", key=key, size=size, entries=lambda: entries)


def runtime_entries(config: Settings, tree: BaseTree | None, *, hosts: bool) -> list[Entry]:
    """Return the layer's own entries; what the base has already of folders and host files is left as it is."""
    places = [Entry(path, "dir", mode) for path, mode in FOLDERS.items()]
    if hosts:
        places += [Entry(path, "file", 0o644, Bytes(b"")) for path in HOST_FILES]
    missing = [place for place in places if tree is None or tree.find(place.path) is None]
    return [*missing, *apptainer(config), *enroot(config)]


def standing(entries: Iterable[Entry], tree: BaseTree | None) -> dict[str, Entry]:
    """Return the folders above the entries that the base has, with the base's modes."""
    if tree is None:
        return {}
    above = {path[:at] for path in (entry.path for entry in entries) for at in range(len(path)) if path[at] == "/"}
    found = {path: tree.find(path) for path in above}
    return {path: Entry(path, "dir", entry.mode) for path, entry in found.items() if entry and entry.kind == "dir"}


def apptainer(config: Settings) -> list[Entry]:
    """Return what Apptainer reads.

    The environment lies in 90-environment.sh and not in 10-docker2singularity.sh, after which Apptainer adds to PATH.
    Behind 99-base.sh it reads the variables of `--env`; without that file it never would.
    """
    run = f"#!/bin/sh\n{entering(config)}{command(config)}"
    return [
        script(".singularity.d/env/90-environment.sh", "#!/bin/sh\n" + exports(config["Env"])),
        script(".singularity.d/env/99-base.sh", "#!/bin/sh\n"),
        script(".singularity.d/runscript", run),
        script(".singularity.d/startscript", "#!/bin/sh\n"),
        Entry(".singularity.d/labels.json", "file", 0o644, Bytes(b"{}\n")),
        Entry("environment", "symlink", 0o777, target=".singularity.d/env/90-environment.sh"),
        Entry("singularity", "symlink", 0o777, target=".singularity.d/runscript"),
    ]


def enroot(config: Settings) -> list[Entry]:
    """Return what enroot reads: values that a line of /etc/environment can't carry are exported by /etc/rc."""
    plain = [entry for entry in named(config["Env"]) if PLAIN.fullmatch(entry.partition("=")[2])]
    rest = [entry for entry in named(config["Env"]) if entry not in plain]
    run = f"#!/bin/sh\n{exports(rest)}{entering(config)}{command(config)}"
    return [
        text("etc/environment", "".join(f"{entry}\n" for entry in plain)),
        text("etc/fstab", ""),
        script("etc/rc", run),
    ]


def named(env: Iterable[str]) -> list[str]:
    """Return the variables whose names a shell bears."""
    return [entry for entry in env if "=" in entry and NAME.fullmatch(entry.partition("=")[0])]


def exports(env: Iterable[str]) -> str:
    """Return lines of POSIX shell that set variables exactly."""
    pairs = (entry.partition("=") for entry in named(env))
    return "".join(f"export {name}={quoted(value)}\n" for name, _, value in pairs)


def entering(config: Settings) -> str:
    return f"cd {quoted(config['WorkingDir'])} || exit 1\n"


def command(config: Settings) -> str:
    """Do as Docker does where there is no entry point: arguments are the command, the image's own goes without."""
    own = " ".join(quoted(word) for word in config["Cmd"])
    return f'if [ "$#" -gt 0 ]; then\n    exec "$@"\nfi\nexec {own}\n'


def quoted(value: str) -> str:
    """Quote for every shell: nothing is special between single quotes (POSIX.1-2017, 2.2.2).

    A single quote itself is put between double ones: the shell inside Apptainer 1.4 keeps the backslash of `\\'`.
    """
    return "'" + value.replace("'", "'\"'\"'") + "'"


def script(path: str, content: str) -> Entry:
    return Entry(path, "file", 0o755, Bytes(encoded(content)))


def text(path: str, content: str) -> Entry:
    return Entry(path, "file", 0o644, Bytes(encoded(content)))


def encoded(content: str) -> bytes:
    """Return the bytes of a text; those of a foreign base's variables that were no UTF-8 as they were (PEP 383)."""
    return content.encode("utf-8", "surrogateescape")
