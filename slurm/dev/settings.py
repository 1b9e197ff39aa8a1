"""What a cluster is made of, and where its parts lie: written once when it starts, read by every later command."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One cluster. Clusters of different numbers run beside each other: addresses and names are made of it."""

    number: int
    home: str
    nodes: int = 3
    cpus: int = 4
    memory_mb: int = 4000
    gpus: int = 2  # of every node but the first, which has none
    users: tuple[str, ...] = ("ada:2001",)
    accounting: bool = True
    cgroups: bool = True
    max_submit: int | None = None  # of each user (an association's MaxSubmitJobs)
    lines: tuple[str, ...] = ()  # further lines of slurm.conf; KEY=VALUE replaces one that is there
    binds: tuple[str, ...] = ()  # folders that all machines of the site see at the same path
    hides: tuple[str, ...] = ()  # folders of this machine that they must not see
    programs: tuple[str, ...] = ()  # PREFIX/bin/NAME: nodes and the login node have it in /usr/local/bin
    owner: str | None = None  # "pid start": of the process whose cluster this is; None: a person's

    @property
    def shared(self) -> Path:
        return Path(self.home, "shared")

    @property
    def node_names(self) -> list[str]:
        return [f"node{k}" for k in range(1, self.nodes + 1)]

    @property
    def machines(self) -> list[str]:
        return ["head", *self.node_names, "login", "laptop"]

    @property
    def host_address(self) -> str:
        """Return the address by which every machine, the laptop included, reaches the one all this runs on."""
        return self.address("host")

    def address(self, machine: str) -> str:
        last = {"host": 1, "head": 2, "login": 3, "laptop": 4}.get(machine) or 10 + int(machine.removeprefix("node"))
        return f"10.77.{self.number}.{last}"

    def link_address(self, machine: str) -> str:
        """Return the address on the line between the laptop and the login node."""
        return f"10.78.{self.number}.{ {'login': 1, 'laptop': 2}[machine] }"

    def space(self, machine: str) -> str:
        """Return the name of a machine's network namespace; `switch` has one too."""
        return f"sd{self.number}-{machine}"

    def save(self) -> None:
        Path(self.home, "settings.json").write_text(json.dumps(asdict(self), indent=1))


def load(home: Path) -> Settings:
    told = json.loads((home / "settings.json").read_bytes())
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in told.items()}
    return Settings(**values)
