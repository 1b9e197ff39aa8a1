"""What of NVIDIA's driver a container has to be shown, where no tool of NVIDIA's does it: device files, libraries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.data import data_path
from launcher.errors import ProcessError, TargetError
from launcher.gpu.model import Device
from launcher.process import run
from launcher.target.gpus import LIBRARIES
from launcher.target.model import Mount
from launcher.toml import parse

LINE = re.compile(r"^\t(\S+) \(([^)]*)\) => (\S+)$", re.M)


@dataclass(frozen=True, kw_only=True)
class DriverFiles:
    """`devices` are paths below /dev; `libraries` maps the name that programs ask for to the host's file."""

    devices: tuple[str, ...] = ()
    libraries: tuple[tuple[str, Path], ...] = ()

    @property
    def mounts(self) -> list[Mount]:
        """The libraries as read-only mounts."""
        return [Mount(source=path, target=f"{LIBRARIES}/{name}") for name, path in self.libraries]


def driver_files(gpus: Sequence[Device], root: Path = Path("/"), listing: str | None = None) -> DriverFiles:
    """Find the driver's files of these GPUs. `listing` is what `ldconfig -p` says; None asks it.

    Raises TargetError when a GPU has no device file, or when there is no libcuda.
    """
    names = parse(data_path("images", "nvidia-libraries.toml").read_text(), "nvidia-libraries.toml", TargetError)
    libraries = known(asked() if listing is None else listing, names["libraries"])
    if not any(name.startswith("libcuda.so") for name, _ in libraries):
        raise TargetError(
            "the loader of this machine knows no libcuda.so.1",
            hint="install NVIDIA's driver with its libraries (Debian: libcuda1), then run `ldconfig` as root",
        )
    return DriverFiles(devices=tuple(device_files(gpus, names["devices"], root)), libraries=tuple(libraries))


def device_files(gpus: Sequence[Device], shared: Iterable[str], root: Path) -> list[str]:
    own = [f"/dev/nvidia{gpu.index}" for gpu in gpus]
    if missing := [path for path in own if not (root / path[1:]).exists()]:
        raise TargetError(
            f"this machine has no {', '.join(missing)}",
            hint="`nvidia-smi`, or `nvidia-modprobe` as root, makes the device files",
        )
    also = [f"/dev/{name}" for name in shared if (root / "dev" / name).exists()]
    caps = sorted(str(Path("/dev/nvidia-caps", path.name)) for path in (root / "dev/nvidia-caps").glob("*"))
    return own + also + caps


def asked() -> str:
    try:
        return run(["/sbin/ldconfig", "-p"], timeout_s=20).stdout.decode(errors="replace")
    except ProcessError:
        return ""


def known(listing: str, names: Iterable[str]) -> list[tuple[str, Path]]:
    """Return (name, file) of the libraries wanted that are of this machine's own kind; the first of a name wins."""
    wanted = set(names)
    found: dict[str, Path] = {}
    for name, flags, path in LINE.findall(listing):
        if re.sub(r"\.so(\.[\d.]+)?$", ".so", name) in wanted and ("x86-64" in flags or "AArch64" in flags):
            found.setdefault(name, Path(path))
    return sorted(found.items())
