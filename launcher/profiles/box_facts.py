"""Make a box of what its shell answered. Pure: what was not said stays None, or as an earlier look found it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from launcher.gpu.model import Device, Node
from launcher.gpu.probe import FIELDS, device_of_smi, driver_version, rows_of_smi
from launcher.profiles.answers import NO_ANSWER, Answer, Answers, number, tables
from launcher.profiles.cluster import ARCHITECTURES
from launcher.profiles.model import Box, Profile
from launcher.profiles.node_facts import IN_MEMORY, NETWORKED, as_json

HUGE_MB = 1 << 40  # a cgroup without a limit says a number beyond all memory
ENOUGH_KIB = 50 << 20  # a home with so much room is launcher's place, whatever else there is
SMI_FIELDS = (FIELDS, tuple(name for name in FIELDS if name != "compute_cap"))


def box(said: Answers, before: Box | None) -> Box:
    """Return the box; what was not asked, or not answered, is as it was before."""
    known = before or Box()
    user, host = said.get("user", NO_ANSWER).lines, said.get("host", NO_ANSWER).lines
    if len(user) >= 3:
        known = replace(known, user=user[0], uid=number(user[1]) or 0, home=user[2])
    if len(host) >= 3:
        known = replace(known, node=host[0], kernel=host[1], architecture=ARCHITECTURES.get(host[2], host[2]))
    return gpus(machine(python(known, said), said), said)


def python(known: Box, said: Answers) -> Box:
    answer = said.get("python")
    if answer is not None:
        version = answer.lines[-1].strip() if answer.good and answer.lines else None
        known = replace(known, python=version)
    if (others := said.get("pythons")) is not None:
        known = replace(known, pythons=tuple(row[0] for row in tables(others) if len(row) == 2))
    return known


def machine(known: Box, said: Answers) -> Box:
    """Read the system's name, and CPUs and memory as a container around the box may limit them."""
    if (system := said.get("system", NO_ANSWER)).good:
        known = replace(known, system=system.text.strip() or None)
    if (libc := said.get("libc", NO_ANSWER)).good:
        known = replace(known, libc=libc.text.strip() or None)
    numbers = [number(line) for line in said.get("limits", NO_ANSWER).lines]
    if len(numbers) >= 2 and numbers[1]:
        memory = [numbers[1] >> 10, *(one >> 20 for one in numbers[2:] if one and one >> 20 < HUGE_MB)]
        known = replace(known, cpus=numbers[0], memory_mb=min(memory))
    return known


def gpus(known: Box, said: Answers) -> Box:
    """Read the GPUs; where nobody answered that could tell all of them, what is known of them stays."""
    if "smi" not in said and "nvml" not in said:
        return known
    node = node_of(said)
    if node.driver is None and not node.devices:
        return replace(known, gpus=(), driver=None)
    if not node.devices and "cards" not in said:
        return replace(known, driver=node.driver)
    devices = tuple({key: value for key, value in asdict(one).items() if value is not None} for one in node.devices)
    return replace(known, gpus=tuple(with_more(one, known.gpus) for one in devices), driver=node.driver)


def with_more(told: dict[str, Any], known: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add what an earlier look knew of the same GPU: nvidia-smi tells less than NVML, and old ones no capability."""
    same = [one for one in known if told.get("uuid") and one.get("uuid") == told["uuid"]]
    return {**(same[0] if same else {}), **told}


def node_of(said: Answers) -> Node:
    """Ask of all answers the best: NVML's, nvidia-smi's, the driver's own files."""
    nvml, smi = said.get("nvml", NO_ANSWER), said.get("smi", NO_ANSWER)
    if nvml.good and (told := as_json(nvml.text)):
        return Node(driver=told["driver"], devices=tuple(Device(**one) for one in told["devices"]), source="nvml")
    version = driver_version(said.get("driver", NO_ANSWER).text)
    for fields in SMI_FIELDS:
        if smi.good and (rows := list(rows_of_smi(smi.text, fields))):
            driver = rows[0].get("driver_version") or version
            return Node(driver=driver, devices=tuple(map(device_of_smi, rows)), source="nvidia-smi")
    cards = said.get("cards", NO_ANSWER)
    return Node(driver=version, devices=tuple(of_proc(cards)) if cards.good and version else (), source="proc")


def of_proc(cards: Answer) -> Iterable[Device]:
    """Read the driver's `information` files, one after the other ("The /proc Interface" of its README)."""
    told: list[dict[str, str]] = []
    for name, _, value in (line.partition(":") for line in cards.lines):
        if name.strip() == "Model":
            told.append({})
        if told:
            told[-1][name.strip()] = value.strip()
    for place, one in enumerate(told):
        uuid, minor = one.get("GPU UUID", "?"), number(one.get("Device Minor"))
        yield Device(
            index=place if minor is None else minor, uuid=None if "?" in uuid else uuid, model=one["Model"] or None
        )


def folder(profile: Profile, known: Box, said: Answers) -> tuple[str, Box]:
    """Return launcher's folder on the box, chosen where none is named, and the box with what is known of it."""
    answer = said.get("folder", NO_ANSWER)
    rows = [row for row in tables(answer) if len(row) == 7]
    if not profile.shared:
        rows = [best] if (best := chosen(rows, known.home)) else rows[:1]
        place = below(rows[0][0], known) if rows else f"{known.home}/.launcher"
    else:
        place = profile.shared
    if not rows:
        return place, replace(known, free_mb=None, place=None, blocked=answer.reason.removeprefix("mkdir: "))
    path, kind, free, _, mine, _, runs = rows[0]
    kib = number(free)
    blocked = "" if mine == "yes" else f"{path} can't be written" + (", and it is full" if kib == 0 else "")
    if mine == "yes" and runs == "no":
        blocked = f"programs in {path} can't be run: it is mounted with noexec"
    return place, replace(known, free_mb=None if kib is None else kib >> 10, place=kind or None, blocked=blocked)


def chosen(rows: list[list[str]], home: str) -> list[str] | None:
    """Choose where launcher's folder shall lie: below the home, unless another disk of the box has far more room.

    A home that is part of a container's own file system goes with the container, so another disk counts more then.
    """
    usable = [row for row in rows if row[4] == "yes" == row[6] and not elsewhere(row[1])]
    own = next((row for row in usable if row[0] == home), None)
    if own is None:
        return max(usable, key=room, default=None)
    if room(own) >= ENOUGH_KIB and own[1] != "overlayfs":
        return own
    least = room(own) if own[1] == "overlayfs" else 2 * room(own)
    others = [row for row in usable if row[5] != own[5] and row[1] != "overlayfs" and room(row) > least]
    return max(others, key=room, default=own)


def elsewhere(kind: str) -> bool:
    """Tell whether a file system is in memory, or over a network: locks and renames may not hold there."""
    return kind in IN_MEMORY or any(name in kind for name in NETWORKED)


def room(row: list[str]) -> int:
    return number(row[2]) or 0


def below(path: str, known: Box) -> str:
    """Return launcher's folder there. Below a folder that others share it has the user's name."""
    own = path == known.home or known.uid == 0 or not known.user
    return f"{path.rstrip('/')}/.launcher" + ("" if own else "-" + re.sub(r"[^\w.@-]", "_", known.user))


def skew_s(said: Answers, began: float, ended: float) -> float | None:
    """Return how far the box's clock is ahead of ours, in seconds; 0 where it is within what can be told.

    `began` and `ended` are our own time before the script was sent and after it had answered. Half of what the way
    there and back took is what can't be told.
    """
    try:
        first, last = (float(said[name].text.removesuffix(".%N")) for name in ("began", "ended"))
    except (KeyError, ValueError):
        return None
    found = ((first - began) + (last - ended)) / 2
    exact = said["began"].text.partition(".")[2].isdecimal()  # not every `date` tells more than seconds
    unsure = max(0.0, (ended - began) - (last - first)) / 2 + (0.0 if exact else 1.0)
    return round(found, 3) if abs(found) > unsure + 0.05 else 0.0


def as_docker(answer: Answer) -> dict[str, Any]:
    """Read what the program `docker_facts` said; nothing where it could not be run."""
    try:
        told = json.loads(answer.lines[-1]) if answer.good and answer.lines else None
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
