"""Whether a job fits a box, before anything is sent there: a pure comparison with what is known of it.

What is not known refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from launcher.findings import Finding
from launcher.gpu import verdict
from launcher.gpu.model import Device, Gpu, Node
from launcher.gpu.table import Toolkits
from launcher.profiles.fit_nodes import Resources, counted, enough, finding, refused
from launcher.profiles.model import Box, Engine, Profile

if TYPE_CHECKING:
    from launcher.profiles.fit import Asked

NO_TABLE = Toolkits()
LEAST_PYTHON = (3, 10)
LEAST_MB = 1024  # launcher's tools, a run's folder, its logs
SCARCE_MB = 20 << 10
SKEW_S = 5.0  # events would be in the wrong order; at minutes, signatures of clouds fail
ELSEWHERE = "or run it elsewhere"


def compare(
    job: Asked, gpu: Gpu | None, profile: Profile, *, architecture: str | None = None, toolkits: Toolkits = NO_TABLE
) -> list[Finding]:
    """Return everything that can be said of a job and a box."""
    box = profile.box
    if box is None:
        hint = f"`launcher doctor {profile.name}` looks"
        return [finding("box", "unknown", f"nobody has looked at {profile.name} yet", hint)]
    return [
        *nodes(job.resources, profile),
        *python(profile, box),
        *folder(profile, box),
        *engine(profile, box, gpus=bool(job.resources.gpus.count)),
        *platform(architecture, box),
        *machine(job.resources, box),
        *gpus(job.resources, gpu, box, toolkits),
        *clock(box),
    ]


def nodes(asked: Resources, profile: Profile) -> Iterator[Finding]:
    if asked.nodes > 1:
        says = f"{counted(asked.nodes, 'node')} wanted, and {profile.name} is one machine"
        yield refused("nodes", says, "ask for one node under `resources.nodes`, or take a cluster")


def python(profile: Profile, box: Box) -> Iterator[Finding]:
    """Compare the Python that launcher's own part there runs with; images bring their own."""
    digits = [int(part) for part in (box.python or "").split(".")[:2] if part.isdecimal()]
    if tuple(digits) >= LEAST_PYTHON:
        yield finding("python", "ok", f"{profile.python} is Python {box.python}")
        return
    is_old = f"is Python {box.python}, and 3.10 is wanted" if box.python else "is not there, or can't be run"
    others = [name for name in box.pythons if name != profile.python]
    way = f'python = "{others[-1]}" in the target\'s file' if others else "install one (apt-get install python3)"
    yield refused("python", f"{profile.python} on {profile.name} {is_old}", f"{way}; jobs have their image's own")


def folder(profile: Profile, box: Box) -> Iterator[Finding]:
    """Compare the room in launcher's folder, which takes code, inputs, logs and the runs; and the engine's images."""
    says = f"{profile.shared} ({box.place or 'unknown'}): {gib(box.free_mb)} free"
    if box.blocked:
        yield refused("folder", box.blocked, 'name another: folder = "DIR" in the target\'s file')
    elif box.free_mb is not None and box.free_mb < LEAST_MB:
        hint = f"free some, `launcher target clean {profile.name}` helps, or name another by `folder` in the target"
        yield refused("disk", f"{says}, and {gib(LEAST_MB)} at least are wanted", hint)
    elif box.free_mb is not None and box.free_mb < SCARCE_MB:
        yield finding("folder", "warning", says, "an image with PyTorch and CUDA takes about 10 GiB")
    else:
        yield finding("folder", "ok", says)
    images = next((one.free_mb for one in box.engines if one.name == profile.runtime), None)
    if images is not None and images < LEAST_MB:
        hint = f"free some (docker system df), or `launcher target clean {profile.name}`"
        yield refused("disk", f"the engine has {gib(images)} left for images", hint)


def engine(profile: Profile, box: Box, *, gpus: bool) -> Iterator[Finding]:
    """Compare the runtime with what there is; one that can't be used, or gives no GPUs, is refused."""
    own = next((one for one in box.engines if one.name == profile.runtime), None)
    others = [one.name for one in box.engines if one.usable and one.name != profile.runtime]
    other = f'runtime = "{others[0]}" in the target\'s file would do' if others else "no other runtime is usable there"
    if own is None:
        yield refused("runtime", f"there is no {profile.runtime} on {profile.name}", f"install it; {other}")
    elif not own.usable:
        yield refused("runtime", own.why, f"{own.hint}; {other}" if others else own.hint)
    elif gpus and own.toolkit is False:
        hint = (
            "install nvidia-container-toolkit, then sudo nvidia-ctk runtime configure --runtime=docker and restart "
            f"Docker; {other}"
        )
        yield refused("toolkit", "NVIDIA's container toolkit is not set up for Docker: it can give no GPU", hint)
    else:
        yield finding("runtime", "ok", described(own))


def described(one: Engine) -> str:
    """Return an engine's facts in a line."""
    parts = [one.name + (f" {one.version}" if one.version else "")]
    parts += [one.storage] if one.storage else []
    parts += ["rootless"] if one.rootless else []
    parts += ["with NVIDIA's toolkit"] if one.toolkit else ["without NVIDIA's toolkit"] if one.toolkit is False else []
    return ", ".join(parts)


def platform(architecture: str | None, box: Box) -> Iterator[Finding]:
    if architecture and box.architecture:
        says = f"the image is for linux/{architecture}, and the box is linux/{box.architecture}"
        if architecture != box.architecture:
            yield refused("architecture", says, f'platform: "linux/{box.architecture}" under `image:`, {ELSEWHERE}')
        else:
            yield finding("architecture", "ok", f"image and box are linux/{architecture}")


def machine(asked: Resources, box: Box) -> Iterator[Finding]:
    least_mb = None if asked.memory_bytes is None else -(-asked.memory_bytes >> 20)
    for subject, wanted, there, unit in (
        ("cpus", asked.cpus, box.cpus, "CPUs"),
        ("memory", least_mb, box.memory_mb, "MiB"),
    ):
        has = enough(there, wanted)
        says = f"{wanted} {unit} wanted, and the box has {'an unknown number' if there is None else there}"
        if has is False:
            yield refused(subject, says, f"ask for less under `resources.{subject}`, {ELSEWHERE}")
        elif wanted is not None:
            yield finding(subject, "ok" if has else "unknown", says)


def gpus(asked: Resources, gpu: Gpu | None, box: Box, toolkits: Toolkits) -> Iterator[Finding]:
    """Compare number and model of the GPUs, and their driver and code with the image."""
    if asked.gpus.count:
        for one in verdict.findings(gpu, as_node(box), wanted=asked.gpus, toolkits=toolkits):
            hint = one.hint or ("" if one.verdict == "ok" else f"ask for what there is, {ELSEWHERE}")
            yield replace(one, hint=hint or None)


def as_node(box: Box) -> Node:
    """Make of a box what a node says of its GPUs."""
    return Node(driver=box.driver, devices=tuple(Device(**one) for one in box.gpus), source="profile")


def clock(box: Box) -> Iterator[Finding]:
    if box.skew_s is not None and abs(box.skew_s) > SKEW_S:
        says = f"its clock is {abs(box.skew_s):.1f} s {'ahead of' if box.skew_s > 0 else 'behind'} this machine's"
        yield finding("clock", "warning", says, "set it, by chrony or ntpd there: stores refuse what is minutes off")


def gib(mb: int | None) -> str:
    return "an unknown amount" if mb is None else f"{mb / 1024:.1f} GiB"
