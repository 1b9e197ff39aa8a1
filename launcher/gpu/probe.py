"""Asks a node for its GPUs: NVML, else nvidia-smi, else the driver's files in /proc. Nothing is raised, ever.

Where there is no driver it costs less than a millisecond. A driver that hangs is given up after a while, and what it
did not say stays unknown: it must never hold up a run, nor be taken for a node without GPUs.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

from launcher.gpu import SIGNS, has_driver
from launcher.gpu.model import Device, Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TIMEOUT_S = 30.0  # without persistence mode, each GPU is woken up for the question, which takes a second or two
PATIENCE_S = 1.0  # for a killed child: one that hangs in the kernel can't even die
LIBRARY = "libnvidia-ml.so.1"
# Where the library is when the loader doesn't know it: distributions, Apptainer's --nv, GKE, WSL, NixOS, a Jetson.
FOLDERS = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    ".singularity.d/libs",
    "usr/local/nvidia/lib64",
    "usr/lib/wsl/lib",
    "run/opengl-driver/lib",
    "usr/lib/aarch64-linux-gnu/nvidia",
)
PROGRAMS = ("usr/bin/nvidia-smi", "usr/local/nvidia/bin/nvidia-smi", "usr/lib/wsl/lib/nvidia-smi")
FIELDS = ("index", "uuid", "name", "memory.total", "compute_cap", "driver_version")  # compute_cap: from driver 510 on


class Hangs(Exception):  # noqa: N818 - reads as what it says of a driver
    """A question to the driver was not answered in time."""


def probe(root: str | os.PathLike[str] = "/", *, folders: Sequence[str] = (), timeout_s: float = TIMEOUT_S) -> Node:
    """Return what the node says of its driver and GPUs. `source` None means that nothing answered; a /proc without
    a driver's files is the answer that there are none.

    `root` is where /proc, /dev and the driver's libraries are looked for; `folders` are more places for libraries, as
    in LD_LIBRARY_PATH; `timeout_s` (seconds) bounds each question.
    """
    base = os.fspath(root)
    if not has_driver(base):
        return Node(source="proc" if os.path.isdir(os.path.join(base, "proc")) else None)
    version = driver_version(text(os.path.join(base, SIGNS[0])))
    try:
        found = by_nvml(base, folders, timeout_s) or by_smi(base, timeout_s)
    except Hangs:
        return Node(driver=version)
    except Exception:  # whatever odd things a driver or a broken image says: unknown, and no trouble
        found = None
    with contextlib.suppress(Exception):
        return found or by_proc(base, version)
    return Node(driver=version)


def visible(node: Node, value: str | None) -> Node:
    """Return the node with the GPUs that CUDA would show under this CUDA_VISIBLE_DEVICES; None shows all.

    Places from 0 on, or beginnings of UUIDs, separated by commas; what comes behind one that there is not is hidden
    (CUDA C++ Programming Guide, "CUDA Environment Variables"). Where UUIDs are asked and the driver told none, or of
    slices (MIG) and only NVML knows them, nothing can be told.
    """
    if value is None:
        return node
    chosen: list[Device] = []
    for word in (part.strip() for part in value.split(",")):
        fitting = [device for place, device in enumerate(node.devices) if is_called(device, place, word)]
        if not fitting and may_be_there(node, word):
            return Node(driver=node.driver, cuda=node.cuda)
        if not fitting:
            break
        chosen += fitting[:1]
    return Node(driver=node.driver, cuda=node.cuda, devices=tuple(chosen), source=node.source)


def is_called(device: Device, place: int, word: str) -> bool:
    return str(place) == word or (len(word) > len("GPU-") and (device.uuid or "").startswith(word))


def may_be_there(node: Node, word: str) -> bool:
    """Tell whether a UUID may mean a GPU that did not tell its own."""
    nameless = any(device.uuid is None for device in node.devices)
    return (word.startswith("GPU-") and nameless) or (word.startswith("MIG-") and node.source != "nvml")


def by_nvml(root: str, folders: Sequence[str], timeout_s: float) -> Node | None:
    """Ask NVML, in a process of its own. Raises Hangs."""
    libraries = [LIBRARY] if root == "/" else []
    places = [*folders, *(os.path.join(root, folder) for folder in FOLDERS)]
    libraries += [path for path in (os.path.join(folder, LIBRARY) for folder in places) if os.path.exists(path)]
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nvml.py")
    if not sys.executable or not libraries:
        return None
    said = answer([sys.executable, "-I", "-S", "-B", program, *libraries], timeout_s)
    if not said:
        return None
    told = json.loads(said)
    devices = tuple(Device(**device) for device in told["devices"])
    return Node(driver=told["driver"], cuda=told["cuda"], devices=devices, source="nvml")


def by_smi(root: str, timeout_s: float) -> Node | None:
    """Ask nvidia-smi; old ones don't know capabilities. Raises Hangs."""
    programs = [path for path in (os.path.join(root, name) for name in PROGRAMS) if os.access(path, os.X_OK)]
    if root == "/" and not programs:
        programs = ["nvidia-smi"]
    for program in programs[:1]:
        for fields in (FIELDS, tuple(name for name in FIELDS if name != "compute_cap")):
            words = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
            rows = list(rows_of_smi(answer(words, timeout_s), fields))
            if rows:
                driver = rows[0].get("driver_version")
                return Node(driver=driver, devices=tuple(map(device_of_smi, rows)), source="nvidia-smi")
    return None


def rows_of_smi(said: str, fields: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield what is known of each GPU; `[N/A]` and the like are left out."""
    for line in said.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) == len(fields) and values[0].isdigit():
            yield {name: value for name, value in zip(fields, values) if value and value[0] != "["}  # noqa: B905


def device_of_smi(row: Mapping[str, str]) -> Device:
    memory = row.get("memory.total", "")
    return Device(
        index=int(row["index"]),
        uuid=row.get("uuid"),
        model=row.get("name"),
        capability=row.get("compute_cap"),
        memory_bytes=int(memory) << 20 if memory.isdigit() else None,
    )


def by_proc(root: str, version: str | None) -> Node:
    """Read the driver's own files: GPUs whose device node is here, without their capability and memory.

    The names in `information` are those that the NVIDIA driver's README gives, "The /proc Interface".
    """
    folder = os.path.join(root, "proc/driver/nvidia/gpus")
    devices = []
    for number, name in enumerate(sorted(os.listdir(folder)) if os.path.isdir(folder) else []):
        lines = [line.partition(":") for line in text(os.path.join(folder, name, "information")).splitlines()]
        said = {key.strip(): value.strip() for key, _, value in lines}
        index = int(said.get("Device Minor", number))
        if os.path.lexists(os.path.join(root, f"dev/nvidia{index}")):
            uuid = said.get("GPU UUID", "?")
            devices.append(Device(index=index, uuid=None if "?" in uuid else uuid, model=said.get("Model") or None))
    devices.sort(key=lambda device: device.index)
    return Node(driver=version, devices=tuple(devices), source="proc" if version else None)


def driver_version(said: str) -> str | None:
    """Read the kernel module's version: the first dotted number in /proc/driver/nvidia/version."""
    for word in said.partition("\n")[0].split():
        if word[0].isdigit() and "." in word:
            return word
    return None


def answer(words: Sequence[str], timeout_s: float) -> str:
    """Return what a program printed: nothing where there is none or it failed. Raises Hangs."""
    import subprocess

    null = subprocess.DEVNULL
    try:
        process = subprocess.Popen(words, stdin=null, stdout=subprocess.PIPE, stderr=null, cwd="/")
    except OSError:
        return ""
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as e:
        abandon(process)
        raise Hangs from e
    return said.decode(errors="replace") if process.returncode == 0 else ""


def abandon(process: subprocess.Popen[bytes]) -> None:
    """Kill a child, and leave it where it is when it doesn't die: waiting for it would hang as it does."""
    import subprocess

    process.kill()
    if process.stdout is not None:
        process.stdout.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)


def text(path: str) -> str:
    try:
        with open(path, errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


if TYPE_CHECKING:
    import subprocess
