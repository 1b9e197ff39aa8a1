"""dpkg's own database, so that `dpkg -l`, `dpkg -L`, apt in a derived image and scanners see what is installed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping

from launcher.image.deb import Package
from launcher.image.debian.diversions import diversions_of
from launcher.image.debian.installed import stanzas, status_text
from launcher.image.debian.system import System

ROOT = "/var/lib/dpkg"
FIELDS = (
    "Package", "Essential", "Protected", "Status", "Priority", "Section", "Installed-Size", "Origin", "Maintainer",
    "Bugs", "Architecture", "Multi-Arch", "Source", "Version", "Replaces", "Provides", "Depends", "Pre-Depends",
    "Recommends", "Suggests", "Breaks", "Conflicts", "Enhances", "Conffiles", "Description",
)  # fmt: skip
"""The order in which dpkg writes fields (dpkg lib/dpkg/parse.c); others follow as the package has them."""
TRIGGER = re.compile(r"/[^\0]*|[A-Za-z0-9][A-Za-z0-9+._-]*")
REMAINS = re.compile(r"\APackage: (\S+)\nStatus: \S+ \S+ (?:config-files|not-installed)$", re.MULTILINE)
EXECUTABLE = ("preinst", "postinst", "prerm", "postrm", "config")


def dpkg_database(system: System) -> None:
    """Write the status of every package, its list of files and the other files of its control archive."""
    for package in system.packages.values():
        stem = f"{ROOT}/info/{info_name(package)}"
        system.write(f"{stem}.list", file_list(package), owner=package.name)
        for name, data in ((name, data) for name, data in package.control.items() if "/" not in name):
            system.write(f"{stem}.{name}", data, 0o755 if name in EXECUTABLE else 0o644, owner=package.name)
    status = [stanza(system, system.packages[name]) for name in sorted(system.packages)]
    system.rewrite(f"{ROOT}/status", base_status(system) + "".join(f"{text}\n" for text in status))
    for path, text in ((f"{ROOT}/info/format", "1\n"), (f"{ROOT}/arch", f"{system.architecture}\n")):
        if system.base is None or not (system.exists(path) or text == "all\n"):
            system.write(path, text)
    system.rewrite(f"{ROOT}/diversions", system.kept_text(f"{ROOT}/diversions") + diversions(system))
    triggers(system)


def base_status(system: System) -> str:
    """Return a base image's stanzas, without the remains of removed packages that are back."""
    text = status_text(system.base) if system.base else ""
    found = stanzas(text)
    stay = [one for one in found if not (remains := REMAINS.search(one)) or remains[1] not in system.packages]
    return text.rstrip("\n") + "\n\n" if found and stay == found else "".join(f"{one}\n\n" for one in stay)


def info_name(package: Package) -> str:
    """Packages that may be installed for several architectures carry theirs in the name (dpkg's info format 1)."""
    same = package.fields.get("Multi-Arch") == "same"
    return f"{package.name}:{package.deb.architecture}" if same else package.name


def file_list(package: Package) -> str:
    return "/.\n" + "".join(f"/{member.path}\n" for member in package.members)


def stanza(system: System, package: Package) -> str:
    """Write one paragraph of the status file."""
    fields = {**package.fields, "Status": "install ok installed"}
    if conffiles := conffile_lines(system, package):
        fields["Conffiles"] = "".join(f"\n {line}" for line in conffiles)
    order = [name for name in FIELDS if name in fields]
    rest = [name for name in fields if name not in FIELDS]
    return "".join(field_text(name, fields) for name in [*order, *rest])


def field_text(name: str, fields: Mapping[str, str]) -> str:
    value = fields[name]
    return f"{name}:{value}\n" if value.startswith("\n") else f"{name}: {value}\n"


def conffile_lines(system: System, package: Package) -> list[str]:
    """Return path and md5 of each configuration file, by which dpkg notices later edits."""
    names = package.control.get("conffiles", b"").decode("utf-8", "replace").split("\n")
    lines = []
    for name in names:
        path = name.removeprefix("remove-on-upgrade").strip()
        if path != name.strip():
            lines.append(f"{path} newconffile remove-on-upgrade")  # deb-conffiles(5): to go with the next upgrade
        elif path.startswith("/") and (data := shipped(system, package, path)) is not None:
            lines.append(f"{path} {md5(data)}")
    return lines


def shipped(system: System, package: Package, path: str) -> bytes | None:
    """Return a configuration file as the package has it: a base image may keep its own."""
    if system.base is None or system.is_added(path):
        return system.read(path)
    member = next((m for m in package.members if f"/{m.path}" == path and m.content), None)
    return b"".join(member.content.chunks()) if member and member.content else None


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def diversions(system: System) -> str:
    """Write three lines for each diversion: from, to, by."""
    found = diversions_of([system.packages[name] for name in sorted(system.packages)])
    return "".join(f"/{diversion.path}\n/{diversion.to}\n{diversion.by}\n" for diversion in found)


def triggers(system: System) -> None:
    """Write who is interested in what (deb-triggers(5)), so that dpkg in a derived image wakes them."""
    files: list[str] = []
    named: dict[str, list[str]] = {}
    for name in sorted(system.packages):
        for trigger, who in interests(system.packages[name]):
            if trigger.startswith("/"):
                files.append(f"{trigger} {who}")
            else:
                named.setdefault(trigger, []).append(who)
    if not system.exists(f"{ROOT}/triggers/Unincorp"):
        system.write(f"{ROOT}/triggers/Unincorp", "")
    for trigger, added in {"File": files, **named}.items():
        path = f"{ROOT}/triggers/{trigger}"
        system.rewrite(path, system.kept_text(path) + "".join(f"{line}\n" for line in added))


def interests(package: Package) -> Iterator[tuple[str, str]]:
    """Yield each trigger that the package waits for, and how dpkg notes the package."""
    for line in package.control.get("triggers", b"").decode("utf-8", "replace").splitlines():
        words = line.split("#")[0].split()
        if len(words) == 2 and words[0].startswith("interest") and TRIGGER.fullmatch(words[1]):
            yield words[1], info_name(package) + ("/noawait" if words[0] == "interest-noawait" else "")
