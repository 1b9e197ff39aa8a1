"""The image's Python as packaging rules see it: markers and wheel tags, never those of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.errors import ResolveError

if TYPE_CHECKING:
    from packaging.markers import Environment
    from packaging.tags import Tag

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # Debian's word -> the kernel's
LEGACY = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}  # PEP 600
OLDEST = {"x86_64": 5, "aarch64": 17}  # glibc 2.x of the first manylinux for the machine
UV_LEVELS = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)  # glibc 2.x that uv 0.9 and later know


@dataclass(frozen=True, kw_only=True)
class Platform:
    """A CPython on Linux: `python` like (3, 11, 2), `glibc` like (2, 36), `machine` like "x86_64"."""

    python: tuple[int, ...]
    glibc: tuple[int, int]
    machine: str

    @property
    def python_version(self) -> str:
        return ".".join(map(str, self.python))

    @property
    def uv_name(self) -> str:
        """Return uv's name for the newest manylinux level that this libc bears."""
        level = max(known for known in UV_LEVELS if known <= max(self.glibc[1], UV_LEVELS[0]))
        return f"{self.machine}-manylinux_2_{level}"

    def environment(self) -> Environment:
        """Return the values of environment markers (dependency specifiers, "Environment markers")."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.python_version,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.python_version,
            "python_version": ".".join(map(str, self.python[:2])),
            "sys_platform": "linux",
        }

    def tags(self) -> list[Tag]:
        """Return the tags of wheels that run there, the best first."""
        from packaging.tags import compatible_tags, cpython_tags

        interpreter = "cp{}{}".format(*self.python[:2])
        platforms = [*self.manylinux(), f"linux_{self.machine}"]
        specific = cpython_tags(self.python[:2], abis=[interpreter], platforms=platforms)
        return [*specific, *compatible_tags(self.python[:2], interpreter, platforms)]

    def manylinux(self) -> Iterator[str]:
        """Yield platform tags from the newest level down, each followed by its older name (PEP 600)."""
        for minor in range(self.glibc[1], OLDEST[self.machine] - 1, -1):
            yield f"manylinux_2_{minor}_{self.machine}"
            if older := LEGACY.get((2, minor)):
                yield f"{older}_{self.machine}"


def platform(python: str, libc: str, architecture: str) -> Platform:
    """Make a platform of a lock's words, such as "3.11.2", "glibc 2.36" and "amd64".

    Raises ResolveError when no wheels are made for it.
    """
    family, _, version = libc.partition(" ")
    if family != "glibc" or not version.startswith("2."):
        raise ResolveError(f"wheels can't be chosen for libc `{libc}`: only glibc 2.x is known")
    if architecture not in MACHINES:
        known = ", ".join(MACHINES)
        raise ResolveError(f"wheels can't be chosen for architecture `{architecture}`: known are {known}")
    return Platform(python=numbers(python), glibc=(2, int(version.split(".")[1])), machine=MACHINES[architecture])


def numbers(version: str) -> tuple[int, ...]:
    """Return the release numbers of a Python version such as 3.11.2 or 3.14.0rc2."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version).release
    except InvalidVersion as e:
        raise ResolveError(f"`{version}` is not a version of Python") from e
