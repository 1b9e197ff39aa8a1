"""Make facts of what the probe on a node said. Pure: what was not said stays None."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from launcher.gpu.model import Device, Node
from launcher.gpu.probe import FIELDS, device_of_smi, driver_version, rows_of_smi
from launcher.gpu.verdict import same_model
from launcher.profiles.answers import NO_ANSWER, Answer, Answers, number, tables
from launcher.profiles.gres import gpus
from launcher.profiles.model import Kind, Partition

NETWORKED = (
    "nfs",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "smb",
    "cifs",
    "fuse",
    "wekafs",
    "panfs",
    "orangefs",
    "9p",
    "afs",
)
IN_MEMORY = ("tmpfs", "ramfs")
LEAST_SCRATCH_KIB = 10 << 20  # an image with PyTorch and CUDA takes about as much


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder: the type of its file system, what is free there, and whether this user may write."""

    path: str
    type: str = ""
    free_kib: int | None = None
    inodes: int | None = None
    writable: bool = False

    @property
    def local(self) -> bool:
        """Tell whether it is on the machine's own disk."""
        return not any(name in self.type for name in (*NETWORKED, *IN_MEMORY))

    @property
    def in_memory(self) -> bool:
        return self.type in IN_MEMORY


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one node said. `runtimes` maps a program to its version; `shared` tells what was read and written there,
    None where that failed; `outbound` whether the endpoint answered, None when nobody tried.
    """

    partition: str
    host: str = ""
    kernel: str | None = None
    machine: str | None = None
    clock: int | None = None
    setup: tuple[str, ...] = ()  # lines of it that failed
    python: Answer = NO_ANSWER
    pythons: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    versions: dict[str, str]
    namespaces: Answer = NO_ANSWER
    fuse: bool = False
    scratch: tuple[Place, ...] = ()
    shared: str | None = None
    store: Place | None = None
    outbound: bool | None = None
    proxy: bool = False
    gpu: Node | None = None


def seen(partition: str, said: Answers) -> Seen | None:
    """Return what a node said; None when the probe didn't get to one."""
    host = said.get("host", NO_ANSWER)
    if not host.good or len(host.lines) < 3:
        return None
    programs = tables(said.get("programs", NO_ANSWER))
    shared, store = said.get("shared", NO_ANSWER), places(said.get("store", NO_ANSWER))
    network = said.get("network")
    return Seen(
        partition=partition,
        host=host.lines[0],
        kernel=host.lines[1],
        machine=host.lines[2],
        clock=number(said.get("clock", NO_ANSWER).text),
        setup=tuple(said.get("setup", NO_ANSWER).lines),
        python=said.get("python", NO_ANSWER),
        pythons=tuple(row[0] for row in tables(said.get("pythons", NO_ANSWER)) if len(row) == 3 and row[2]),
        programs=tuple(row[0] for row in programs),
        versions={row[0]: row[2] for row in programs if len(row) == 3},
        namespaces=said.get("namespaces", NO_ANSWER),
        fuse=said.get("fuse", NO_ANSWER).text == "yes",
        scratch=places(said.get("scratch", NO_ANSWER)),
        shared=shared.lines[0] if shared.good and len(shared.lines) == 2 else None,
        store=store[0] if store else None,
        outbound=network.good if network else None,
        proxy=bool(said.get("proxy", NO_ANSWER).text.strip()),
        gpu=gpu(said),
    )


def places(answer: Answer) -> tuple[Place, ...]:
    """Read the lines of `place`; a folder that was named twice counts once."""
    found = {
        row[0]: Place(
            path=row[0], type=row[1], free_kib=number(row[2]), inodes=number(row[3]) or None, writable=row[4] == "yes"
        )
        for row in tables(answer)
        if len(row) == 5
    }
    return tuple(found.values())


def gpu(said: Answers) -> Node | None:
    """Return what the node said of its GPUs: NVML, else nvidia-smi, else the driver's version alone."""
    nvml, smi = said.get("nvml", NO_ANSWER), said.get("smi", NO_ANSWER)
    if nvml.good and (told := as_json(nvml.text)):
        devices = tuple(Device(**device) for device in told["devices"])
        return Node(driver=told["driver"], cuda=told["cuda"], devices=devices, source="nvml")
    if rows := list(rows_of_smi(smi.text, FIELDS)) if smi.good else []:
        driver = rows[0].get("driver_version")
        return Node(driver=driver, devices=tuple(map(device_of_smi, rows)), source="nvidia-smi")
    version = driver_version(said.get("driver", NO_ANSWER).text)
    return Node(driver=version, source="proc") if version else None


def as_json(text: str) -> dict[str, Any] | None:
    try:
        told = json.loads(text)
    except ValueError:
        return None
    return told if isinstance(told, dict) and {"driver", "cuda", "devices"} <= told.keys() else None


def told_of(partition: Partition, node: Seen | None, before: Partition | None) -> Partition:
    """Return a partition with its GPUs as a node of it told; where none did, as one told earlier.

    Where the partition has GPUs of several types, what one node says holds for those of its own type alone.
    """
    earlier = remembered(partition, before)
    if node is None or node.gpu is None or not node.gpu.devices:
        return earlier
    first, driver = node.gpu.devices[0], node.gpu.driver
    memory = first.memory_bytes >> 20 if first.memory_bytes is not None else None
    alike = {one.gres for one in partition.kinds if gpus(one.gres)}
    if len(alike) > 1:
        alike = {gres for gres in alike if any(one.type and same_model(one.type, first.model) for one in gpus(gres))}
    kinds = tuple(
        replace(one, gpu=first.model, driver=driver, capability=first.capability, gpu_memory_mb=memory)
        if one.gres in alike
        else one
        for one in earlier.kinds
    )
    told = {(one.driver, one.capability, one.gpu_memory_mb) for one in kinds if gpus(one.gres)}
    if len(told) > 1:
        return replace(partition, kinds=kinds)
    return replace(partition, kinds=kinds, driver=driver, capability=first.capability, gpu_memory_mb=memory)


def remembered(partition: Partition, before: Partition | None) -> Partition:
    """Keep what an earlier look found out of GPUs that are still of the same type."""
    if before is None:
        return partition
    known = {kind.gres: kind for kind in before.kinds}
    kinds = tuple(with_gpu(kind, known.get(kind.gres)) for kind in partition.kinds)
    return replace(
        partition,
        kinds=kinds,
        driver=before.driver,
        capability=before.capability,
        gpu_memory_mb=before.gpu_memory_mb,
    )


def with_gpu(kind: Kind, before: Kind | None) -> Kind:
    if before is None:
        return kind
    return replace(
        kind, gpu=before.gpu, driver=before.driver, capability=before.capability, gpu_memory_mb=before.gpu_memory_mb
    )
