"""Folders, links and small files that maintainer scripts make, and the places where targets mount something."""

from __future__ import annotations

import re

from launcher.image.debian.facts import acts
from launcher.image.debian.system import System

PYTHON = re.compile(r"python3\.\d+-minimal")


def skeleton(system: System) -> None:
    """Make what images/debian.toml lists, unless something is there already."""
    for act in acts("folder", system):
        for path in act["paths"]:
            system.folder(path, act.get("mode", 0o755))
    for act in acts("link", system):
        for path, target in act["links"].items():
            if not system.exists(path):
                system.link(path, target)
    copies(system)
    texts(system)


def copies(system: System) -> None:
    for act in acts("copy", system):
        for name, path in act["files"].items():
            data = system.read(f"{act['from']}/{name}")
            if data is not None and not system.exists(path):
                system.write(path, data)


def texts(system: System) -> None:
    for act in acts("empty", system):
        for path in act["paths"]:
            if not system.exists(path):
                system.write(path, b"", act.get("mode", 0o644))
    for act in acts("text", system):
        if not system.exists(act["path"]):
            system.write(act["path"], act["text"])


def python_folders(system: System) -> None:
    """Make the folder for locally installed modules, which Debian's Python looks into (python3.X-minimal.postinst)."""
    for name in system.packages:
        if PYTHON.fullmatch(name):
            version = name.removesuffix("-minimal")
            system.folder(f"/usr/local/lib/{version}/dist-packages")


def shells(system: System) -> None:
    """Write /etc/shells from what packages list, each shell also at its real place (update-shells(8))."""
    template = system.text("/usr/share/debianutils/shells")
    if template is None:
        return
    listed = [template] + [system.text(e.path) or "" for e in system.below("/usr/share/debianutils/shells.d")]
    packaged = [line.split("#")[0] for text in listed for line in text.splitlines() if line.split("#")[0]]
    every = [place for shell in packaged for place in (shell, "/" + system.place(shell))]
    comments = [line for line in template.splitlines() if not line.split("#")[0]]
    own = [line for line in template.splitlines() if line.split("#")[0]]
    rest = [shell for shell in dict.fromkeys(every) if shell not in own]
    system.write("/etc/shells", "\n".join([*comments, *own, *rest]) + "\n")
    system.write("/var/lib/shells.state", "".join(f"{shell}\n" for shell in dict.fromkeys(every)))
