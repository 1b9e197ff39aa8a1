"""NVIDIA's table of toolkits, drivers and compute capabilities as a value; whoever can read files hands it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.gpu.versions import at_least, fields, is_version, minor_release


@dataclass(frozen=True, kw_only=True)
class Toolkits:
    """`floors` maps a CUDA major version to the lowest driver of minor-version compatibility, `drivers` a toolkit
    such as "12.6.3" to the driver that it came with, `compiles` a compute capability to the first and the last
    CUDA whose compiler knows it (the last may be None: it still does).
    """

    floors: Mapping[str, str] = field(default_factory=dict)
    drivers: Mapping[str, str] = field(default_factory=dict)
    compiles: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Toolkits:
        """Take the table from the values of images/cuda.toml."""
        compiles = {row["capability"]: (row["first"], row.get("last")) for row in raw["compiler"]}
        return cls(
            floors={str(row["major"]): row["driver"] for row in raw["family"]},
            drivers={row["cuda"]: row["driver"] for row in raw["toolkit"]},
            compiles=compiles,
        )

    def floor(self, cuda: str) -> str | None:
        """Return the lowest driver for a CUDA such as "12.6" by minor-version compatibility; None when unknown."""
        return self.floors.get(cuda.split(".")[0])

    def exact(self, cuda: str) -> str | None:
        """Return the first driver that was made for a CUDA X.Y, never below its family's floor; None when unknown.

        The version of PTX goes by X.Y, so that driver is the first whose compiler reads what this toolkit wrote.
        """
        found = [driver for toolkit, driver in self.drivers.items() if minor_release(toolkit) == minor_release(cuda)]
        if not found or "." not in cuda:
            return None
        floor = self.floor(cuda)
        return max([min(found, key=fields), *([floor] if floor else [])], key=fields)

    def newest(self, driver: str) -> str | None:
        """Return the newest CUDA X.Y whose own driver is this one or older; None when the driver is older than all."""
        if not is_version(driver):
            return None
        served = [cuda for cuda, first in self.drivers.items() if at_least(driver, first)]
        return minor_release(max(served, key=fields)) if served else None

    def family(self, driver: str) -> str | None:
        """Return the newest CUDA major version that a driver serves, minor-version compatibility included."""
        served = [major for major, floor in self.floors.items() if at_least(driver, floor)]
        return max(served, key=int) if served else None
