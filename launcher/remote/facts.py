"""What a login node tells of itself: a program that is sent there and run by whatever `python3` is.

It reads {"shared": folder, "wanted": [paths below it]} on stdin and answers with one JSON object. Written for Python
3.6, so that one that is too old can say so: no import of ours, no newer syntax.
"""

# ruff: noqa: PTH110, PTH111, PTH112, PTH118, PTH120, PTH208
# pathlib would do, and takes longer to import than all of this takes

import getpass
import json
import os
import platform
import shutil
import sys


def main():  # type: () -> None
    """Answer one question."""
    asked = json.load(sys.stdin)
    sys.stdout.write(json.dumps(facts(asked["shared"], asked["wanted"])))


def facts(shared, wanted):  # type: (str, list[str]) -> dict[str, object]
    """Return what is known of this machine, and which of `wanted` are below `shared`."""
    shared = os.path.expanduser(shared)
    return {
        "python": list(sys.version_info[:3]),
        "executable": base_executable(),
        "implementation": platform.python_implementation(),
        "machine": platform.machine(),
        "system": platform.system(),
        "libc": list(libc()),
        "node": platform.node(),
        "user": user(),
        "uid": os.getuid(),
        "shared": shared,
        "writable": writable(shared),
        "free_bytes": free_bytes(shared),
        "parts": parts(shared),
        "there": [path for path in wanted if os.path.exists(os.path.join(shared, path))] + tools(shared),
    }


def tools(shared):  # type: (str) -> list[str]
    """Return what is below `tools`: which of them would do is decided by who asked."""
    try:
        return ["tools/" + name for name in os.listdir(os.path.join(shared, "tools"))]
    except OSError:
        return []


def parts(shared):  # type: (str) -> dict[str, int]
    """Return what has come of files whose sending was cut: name and bytes of each."""
    folder = os.path.join(shared, "tmp")
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".part")]
        return {name: os.lstat(os.path.join(folder, name)).st_size for name in names}
    except OSError:
        return {}


def base_executable():  # type: () -> str
    """Return the interpreter itself, also where `python3` is one of a virtual environment."""
    own = os.path.realpath(sys.executable) if sys.executable else ""
    return str(getattr(sys, "_base_executable", "") or own)


def libc():  # type: () -> tuple[str, str]
    try:
        name, _, version = str(os.confstr("CS_GNU_LIBC_VERSION")).partition(" ")
        return (name, version)
    except (AttributeError, OSError, ValueError):
        return ("", "")


def user():  # type: () -> str
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


def nearest(folder):  # type: (str) -> str
    """Return the folder, or the first one above it that is there."""
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return folder


def writable(folder):  # type: (str) -> bool
    return os.access(nearest(folder), os.W_OK | os.X_OK)


def free_bytes(folder):  # type: (str) -> object
    try:
        return shutil.disk_usage(nearest(folder)).free
    except OSError:
        return None


if __name__ == "__main__":
    main()
