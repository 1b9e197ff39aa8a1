"""The last resort: a dated table of what frameworks were compiled for, where their artifacts can't be read."""

from __future__ import annotations

from launcher.data import data_path
from launcher.errors import LauncherError
from launcher.gpu.model import Code
from launcher.toml import parse


def tabled(name: str, version: str, cuda: str) -> Code:
    """Return what the table says of a wheel that was built with a CUDA X.Y; without targets when it says nothing."""
    from packaging.specifiers import SpecifierSet

    path = data_path("images", "gpu-code.toml")
    told = parse(path.read_text(encoding="utf-8"), path.name, LauncherError)
    for row in told["wheel"]:
        fits = SpecifierSet(row["versions"]).contains(version, prereleases=True)
        if (row["name"], row["cuda"]) == (name, cuda) and fits:
            cubins, ptx = tuple(row["cubins"]), tuple(row.get("ptx", ()))
            return Code(name=name, version=version, cubins=cubins, ptx=ptx, source="table")
    return Code(name=name, version=version, source="table")
