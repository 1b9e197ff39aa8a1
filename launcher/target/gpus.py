"""GPUs of this machine for one run each: free ones are claimed, and a container is told which it has.

A claim is a file lock, `gpus/<uuid>.lock` in the cache, so it ends with the launcher that holds it. The file's text is
the run's id, for the message that another run gets, and the file that its runner holds: a container may outlive the
launcher that started it, and its GPUs are not free then.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from launcher.cache import Cache
from launcher.errors import TargetError
from launcher.gpu.model import Device, Gpu, Node
from launcher.gpu.serves import way
from launcher.gpu.verdict import Wanted, chosen, has_code, plural
from launcher.target.living import is_held

LIBRARIES = "/.singularity.d/libs"
"""Where a container finds the driver's libraries, when nothing puts them into a folder that the loader knows; the
word is Apptainer's, which mounts them there by itself."""
CDI_FOLDERS = ("etc/cdi", "var/run/cdi", "run/cdi")
CDI_KIND = "nvidia.com/gpu"
SHOWING_ALL = ("apptainer",)
"""Runtimes in whose containers the GPUs of others are there too."""


class Claimed:
    """GPUs that one run holds until it lets go or its process ends."""

    def __init__(self, devices: tuple[Device, ...], descriptors: Sequence[int]) -> None:
        self.devices, self.descriptors = devices, list(descriptors)

    def release(self) -> None:
        """Let go. A second time changes nothing."""
        while self.descriptors:
            os.close(self.descriptors.pop())


def claim(
    wanted: Wanted, node: Node, run: str, cache: Cache, gpu: Gpu | None = None, sign: Path | None = None
) -> Claimed:
    """Claim as many free GPUs as are wanted, among those that run the code of the image (`gpu`).

    `sign` is the file that the run's runner will hold.

    Raises TargetError when there are too few, with who holds the others.
    """
    if not wanted.count:
        return Claimed((), ())
    held: list[tuple[Device, int]] = []
    busy: list[str] = []
    with contextlib.ExitStack() as undo:
        for device in fitting(wanted, node, gpu):
            if len(held) == wanted.count:
                break
            descriptor, holder = lock(device, run, cache, sign)
            if descriptor is None:
                busy.append(f"{called(device)} by {holder or 'another run'}")
            else:
                held.append((device, descriptor))
                undo.callback(os.close, descriptor)
        if len(held) < wanted.count:
            raise too_few(wanted, len(held), busy, gpu)
        undo.pop_all()
    return Claimed(tuple(device for device, _ in held), [descriptor for _, descriptor in held])


def fitting(wanted: Wanted, node: Node, gpu: Gpu | None) -> list[Device]:
    """Return the GPUs that a run may get; those that have machine code for all of it come first."""
    if gpu is None:
        return list(chosen(node, wanted))
    may = [device for device in chosen(node, wanted) if has_code(gpu, node, device)]
    return sorted(may, key=lambda device: not is_native(gpu, device))


def is_native(gpu: Gpu, device: Device) -> bool:
    return device.capability is not None and all(way(code, device.capability) == "cubin" for code in gpu.code)


def too_few(wanted: Wanted, free: int, busy: Sequence[str], gpu: Gpu | None) -> TargetError:
    what = plural(wanted.count) + (f" of model {wanted.model}" if wanted.model else "")
    which = " with code in the image" if gpu is not None and gpu.code else ""
    if not busy:
        hint = "`launcher check SPEC` says what this machine tells of its GPUs"
        return TargetError(f"the job wants {what}, and this machine tells of {free or 'none'}{which}", hint=hint)
    there = f"{free} {'is' if free == 1 else 'are'} free on this machine{which}"
    return TargetError(
        f"the job wants {what}, and {there}: held are {', '.join(busy)}",
        hint="wait until a run has ended (`launcher ls`), or ask for less under `resources.gpus`",
    )


def lock(device: Device, run: str, cache: Cache, sign: Path | None = None) -> tuple[int | None, str]:
    """Return a descriptor that holds the GPU, or None and the run that holds it: by its launcher, or its runner."""
    path = cache.root / "gpus" / f"{name_of(device)}.lock"
    path.parent.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder, _ = told(descriptor)
        os.close(descriptor)
        return None, holder
    holder, held = told(descriptor)
    if holder != run and held and is_held(Path(held)):
        os.close(descriptor)
        return None, holder
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, os.fsencode(f"{run}\n{sign or ''}"), 0)
    return descriptor, run


def told(descriptor: int) -> tuple[str, str]:
    """Return the run that last held a GPU, and the file that its runner holds as long as it lives."""
    holder, _, sign = os.fsdecode(os.pread(descriptor, 5000, 0)).partition("\n")
    return holder, sign


def name_of(device: Device) -> str:
    """Return what NVIDIA's tools know a GPU by: its UUID, or its number where none is known."""
    return device.uuid or str(device.index)


def called(device: Device) -> str:
    return f"GPU {device.index}" + (f" ({device.model})" if device.model else "")


def environment(devices: Sequence[Device], env: Mapping[str, str], runtime: str = "") -> dict[str, str]:
    """Return the variables by which a container of a runtime knows its GPUs; `env` is what the image has.

    UUIDs mean the same GPUs wherever they are said, whether or not the others can be seen too. Without GPUs
    NVIDIA's runtimes are told to show none (`void`), for an image with CUDA asks for all.
    """
    if not devices:
        return {"NVIDIA_VISIBLE_DEVICES": "void"} if "NVIDIA_VISIBLE_DEVICES" in env else {}
    names = ",".join(map(name_of, devices))
    own = env.get("LD_LIBRARY_PATH")
    return {
        "NVIDIA_VISIBLE_DEVICES": names,
        "NVIDIA_DRIVER_CAPABILITIES": env.get("NVIDIA_DRIVER_CAPABILITIES", "compute,utility"),
        **cuda_names(devices, runtime),
        "LD_LIBRARY_PATH": f"{own}:{LIBRARIES}" if own else LIBRARIES,
    }


def cuda_names(devices: Sequence[Device], runtime: str) -> dict[str, str]:
    """Return what CUDA is told: UUIDs, or places in what it sees where one has none.

    Where the others are hidden, that are the places from 0 on. Where they aren't, it counts as the driver does, but
    only in the order of the bus (CUDA C++ Programming Guide, "CUDA Environment Variables").
    """
    if all(device.uuid for device in devices):
        return {"CUDA_VISIBLE_DEVICES": ",".join(map(name_of, devices))}
    places = [device.index for device in devices] if runtime in SHOWING_ALL else range(len(devices))
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, places)), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def cdi_names(devices: Sequence[Device], known: Iterable[str]) -> list[str] | None:
    """Return the CDI names of GPUs among those that are `known`, such as "nvidia.com/gpu=0", or None.

    A specification of `nvidia-ctk cdi generate` names GPUs by number, by UUID or by both
    (NVIDIA Container Toolkit, "Support for Container Device Interface").
    """
    there = set(known)
    found = []
    for device in devices:
        names = [f"{CDI_KIND}={name}" for name in (device.uuid, str(device.index)) if name]
        found += [name for name in names if name in there][:1]
    return found if len(found) == len(devices) and found else None


def cdi_known(devices: Sequence[Device], root: Path = Path("/")) -> Iterator[str]:
    """Yield which CDI names of GPUs this machine's specifications have, as far as a search of their text tells."""
    import re

    for folder in CDI_FOLDERS:
        for path in sorted((root / folder).glob("*.[jy]*")):
            with contextlib.suppress(OSError):
                text = path.read_text(errors="replace")
                if CDI_KIND in text:
                    names = {name for device in devices for name in (device.uuid, str(device.index)) if name}
                    quoted = {
                        name for name in names if re.search(rf"name\"?:\s*\"?{re.escape(name)}\"?\s*,?$", text, re.M)
                    }
                    yield from (f"{CDI_KIND}={name}" for name in quoted)
