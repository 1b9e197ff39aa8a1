"""Folders, links and small files that maintainer scripts make, and the places where targets mount something."""

from __future__ import annotations

import re

from launcher.image.debian.facts import acts
from launcher.image.debian.shell import calls
from launcher.image.debian.system import System

PYTHON = re.compile(r"python3\.\d+-minimal")


def skeleton(system: System) -> None:
    """Make what images/debian-rules.toml lists, unless something is there already."""
    for act in acts("folder", system):
        for path in act["paths"]:
            system.folder(path, act.get("mode", 0o755))
    for act in acts("link", system):
        for path, target in act["links"].items():
            dangling = target.startswith("/") and system.real(target) not in system.entries
            if not dangling and (not system.exists(path) or is_empty_folder(system, path)):
                system.link(path, target)
    copies(system)
    texts(system)


def is_empty_folder(system: System, path: str) -> bool:
    """Tell whether a link may take a folder's place, as base-files does with /var/run."""
    place = system.place(path)
    return system.entries[place].kind == "dir" and not any(p.startswith(place + "/") for p in system.entries)


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


def more_shells(system: System) -> None:
    """Add the shells of added packages to a base image's list."""
    added = (entry for entry in system.below("/usr/share/debianutils/shells.d") if system.is_added(entry.path))
    listed = [line.split("#")[0] for entry in added for line in (system.text(entry.path) or "").splitlines()]
    packaged = [place for shell in listed if shell for place in (shell, "/" + system.place(shell))]
    scripts = (package.script("postinst") for _, package in sorted(system.packages.items()))
    called = [words[0] for script in scripts for words in calls(script, "add-shell") if words]
    for path, wanted in (("/etc/shells", packaged + called), ("/var/lib/shells.state", packaged)):
        text = system.kept_text(path)
        new = [shell for shell in dict.fromkeys(wanted) if shell not in text.split("\n")]
        if new:
            system.rewrite(path, text + "".join(f"{shell}\n" for shell in new))


def shells(system: System) -> None:
    """Write /etc/shells from what packages list, each shell also at its real place (update-shells(8))."""
    template = system.text("/usr/share/debianutils/shells")
    if system.base is not None and system.exists("/etc/shells"):
        more_shells(system)
        return
    if template is None:
        return
    scripts = (package.script("postinst") for _, package in sorted(system.packages.items()))
    added = [words[0] for script in scripts for words in calls(script, "add-shell") if words]
    listed = [template] + [system.text(e.path) or "" for e in system.below("/usr/share/debianutils/shells.d")]
    packaged = [line.split("#")[0] for text in listed for line in text.splitlines() if line.split("#")[0]]
    real = ["/" + system.place(shell) for shell in packaged]
    comments = [line for line in template.splitlines() if not line.split("#")[0]]
    system.write("/etc/shells", "".join(f"{line}\n" for line in [*comments, *dict.fromkeys(packaged + real + added)]))
    pairs = [place for pair in zip(packaged, real, strict=True) for place in pair]
    system.write("/var/lib/shells.state", "".join(f"{shell}\n" for shell in dict.fromkeys(pairs)))
