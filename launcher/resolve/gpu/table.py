"""The last resort: a dated table of what frameworks were compiled for, where their artifacts can't be read."""

from __future__ import annotations

from launcher.data import data_path
from launcher.errors import LauncherError
from launcher.gpu.model import Code
from launcher.lock.model import Wheel
from launcher.toml import parse


def tabled(wheel: Wheel, cuda: str) -> Code:
    """Return what the table says of a wheel that was built with a CUDA X.Y; without targets when it says nothing."""
    from packaging.specifiers import SpecifierSet

    path = data_path("images", "gpu-code.toml")
    told = parse(path.read_text(encoding="utf-8"), path.name, LauncherError)
    for row in told["wheel"]:
        fits = SpecifierSet(row["versions"]).contains(wheel.version, prereleases=True)
        if (row["name"], row["cuda"]) == (wheel.name, cuda) and fits:
            return code(wheel, tuple(row["cubins"]), tuple(row.get("ptx", ())))
    return code(wheel, (), ())


def code(wheel: Wheel, cubins: tuple[str, ...], ptx: tuple[str, ...]) -> Code:
    return Code(name=wheel.name, version=wheel.version, cubins=cubins, ptx=ptx, source="table")
