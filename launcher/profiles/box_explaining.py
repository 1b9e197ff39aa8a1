"""Say in plain words what was found of a box, what is missing, and what to do. Pure: a comparison of values."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.findings import Finding
from launcher.gpu.verdict import inventory
from launcher.profiles import box_fit
from launcher.profiles.answers import Answers
from launcher.profiles.box_fit import as_node, described
from launcher.profiles.fit_nodes import counted, finding, refused
from launcher.profiles.model import Box, Profile

BOOTS = {
    "docker": "after a reboot or a crash the Docker engine starts unfinished runs again",
    "systemd": "after a reboot your systemd starts unfinished runs again",
    "cron": "after a reboot cron starts unfinished runs again",
}


def findings(profile: Profile, said: Answers, where: str) -> Iterator[Finding]:
    """Yield what is to be said, in the order of the report."""
    box = profile.box
    assert box is not None
    yield finding("box", "ok", machine(box, where))
    if failed := said.get("setup"):
        says = f"lines of `setup` fail there: {'; '.join(failed.lines)}"
        yield refused("setup", says, "mend them in the target's file")
    yield from box_fit.python(profile, box)
    yield from box_fit.folder(profile, box)
    yield from box_fit.engine(profile, box, gpus=bool(box.gpus))
    yield from others(profile, box)
    yield from gpus(box)
    yield from network(profile, box)
    yield from box_fit.clock(box)
    yield reboot(box)


def machine(box: Box, where: str) -> str:
    parts = [box.system or "an unknown system", f"linux/{box.architecture or '?'}", f"kernel {box.kernel or '?'}"]
    parts += [counted(box.cpus, "CPU")] if box.cpus else []
    parts += [f"{box.memory_mb} MiB"] if box.memory_mb else []
    return f"{', '.join(parts)}; {box.user}@{where}"


def others(profile: Profile, box: Box) -> Iterator[Finding]:
    """Tell of the runtimes that jobs don't get: those that would do, and why the others wouldn't."""
    there = [one for one in box.engines if one.name != profile.runtime]
    if good := [one for one in there if one.usable]:
        yield finding("runtime", "ok", f"there is also {'; '.join(described(one) for one in good)}")
    for one in there:
        if not one.usable:
            way = f" ({one.hint})" if one.hint else ""
            yield finding("runtime", "ok", f"{one.name} is not taken: {one.why}{way}")


def gpus(box: Box) -> Iterator[Finding]:
    if box.gpus or box.driver:
        memory = sorted({int(one["memory_bytes"]) >> 20 for one in box.gpus if one.get("memory_bytes")})
        room = f", {' or '.join(map(str, memory))} MiB each" if memory else ""
        says = f"{inventory(as_node(box).devices)}{room}, driver {box.driver or 'unknown'}"
        hint = None if box.gpus else "nvidia-smi there tells more: the driver is loaded, and shows no GPU"
        yield finding("gpus", "ok" if box.gpus else "warning", says, hint)
    else:
        yield finding("gpus", "ok", "none, and no driver of NVIDIA's")


def network(profile: Profile, box: Box) -> Iterator[Finding]:
    """Say how images get there, and who writes to the store."""
    if box.forwarding is False and profile.runtime in ("docker", "podman"):
        hint = "AllowTcpForwarding yes in its sshd_config; without it images go as files, and take room twice"
        yield finding("tunnel", "warning", "its sshd forbids that a port leads back here", hint)
    if profile.outbound is False:
        says = "it doesn't reach the store"
        if profile.ship == "direct":
            yield refused("network", says, 'ship = "relay" in the target\'s file: through this connection')
        else:
            yield finding("network", "ok", f"{says}: what runs write comes through this connection")
    elif profile.outbound:
        yield finding("network", "ok", "it reaches the store")


def reboot(box: Box) -> Finding:
    if box.boot:
        return finding("reboot", "ok", BOOTS[box.boot])
    says = "after a reboot unfinished runs go on when launcher next reaches the box"
    return finding("reboot", "ok", f"{says}; `sudo loginctl enable-linger {box.user}` or cron there would do it sooner")
