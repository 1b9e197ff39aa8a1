"""What a box is made of, and where its parts lie on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PLACE = "/tmp/box-dev-{}"  # short: sockets lie below it, and their paths are limited (unix(7))
USERS = {"ada": 2001, "dora": 2002}  # dora may use the engine, ada may not


@dataclass(frozen=True, kw_only=True)
class Site:
    """Boxes on one switch. Sites of different numbers run beside each other: addresses and names are made of it."""

    number: int

    @property
    def home(self) -> Path:
        return Path(PLACE.format(self.number))

    @property
    def host_address(self) -> str:
        """The address by which boxes reach the machine that all this runs on: the client."""
        return f"10.79.{self.number}.1"

    @property
    def switch(self) -> str:
        """Name of the switch's network namespace."""
        return f"bx{self.number}-switch"

    @property
    def host_end(self) -> str:
        """Name of this machine's own interface."""
        return f"bx{self.number}-host"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One box: number `k` of its site, and what it has."""

    site: Site
    k: int
    name: str
    docker: bool = True
    podman: bool = False
    cron: bool = False
    disk_mb: int | None = None  # None: as much as there is on this machine
    program: Path | None = None  # PREFIX/bin/NAME, such as Apptainer's: the box has it in /usr/local/bin
    sshd: tuple[str, ...] = ()  # further lines of sshd_config(5)

    @property
    def home(self) -> Path:
        return self.site.home / str(self.k)

    @property
    def disk(self) -> Path:
        """Everything that was ever written to the box's disk lies below, /tmp and /run included; but for /dev/shm."""
        return self.home / "disk"

    @property
    def root(self) -> Path:
        return self.disk / "root"

    @property
    def address(self) -> str:
        return f"10.79.{self.site.number}.{10 + self.k}"

    @property
    def space(self) -> str:
        """Name of its network namespace, which outlives a reboot."""
        return f"bx{self.site.number}-{self.k}"

    @property
    def line(self) -> str:
        """Name of this machine's end of the line that has a delay."""
        return f"bx{self.site.number}-{self.k}-line"

    @property
    def group(self) -> str:
        """Its control group, below each controller."""
        return f"bx{self.site.number}/{self.k}"

    def record(self, what: str) -> Path:
        return self.home / "run" / what

    def log(self, what: str) -> Path:
        return self.home / "log" / what
