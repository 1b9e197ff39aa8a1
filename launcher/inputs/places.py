"""Where an input comes from: a place on this machine that is used as it is, or a source that it is fetched from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher.cache import Cache
from launcher.errors import SpecError
from launcher.inputs import dvc, local
from launcher.inputs.dvc_config import places
from launcher.inputs.items import Item
from launcher.inputs.objects import Objects
from launcher.inputs.source import Source
from launcher.inputs.web import Web
from launcher.progress import SILENT, Progress
from launcher.spec.model import DataSpec

DVC = ".dvc"


@dataclass(frozen=True, kw_only=True)
class Here:
    """A file or folder of this machine. `pinned` is what a `.dvc` file says of it."""

    data: str
    path: Path
    pinned: dvc.Pin | None = None

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def kind(self) -> str:
        return "tree" if self.path.is_dir() else "file"

    def items(self, cache: Cache, progress: Progress = SILENT) -> list[Item]:
        """Return its files with their digests. Raises SpecError; IntegrityError when DVC's pin says other bytes."""
        if self.pinned:
            return dvc.read_beside(self.pinned, self.data, cache, progress)
        return local.read(self.path, self.data, cache, progress)


def place_of(data: DataSpec) -> Here | Source:
    """Return where an input comes from; nothing is read yet, but a `.dvc` file. Raises SpecError, StoreError."""
    if data.url is not None:
        if data.url.startswith(("http://", "https://")):
            return Web(data.name, data.url)
        return Objects(data.name, data.url)
    if data.path is None:
        raise SpecError(f"data `{data.name}` has neither a path nor a URL")
    if data.path.suffix != DVC or not data.path.is_file():
        return Here(data=data.name, path=data.path)
    pin = dvc.read(data.path)
    if pin.path.exists():
        return Here(data=data.name, path=pin.path, pinned=pin)
    return dvc.Dvc(data.name, pin, places(data.path))
