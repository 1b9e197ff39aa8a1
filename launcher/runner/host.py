"""Facts about the machine, as seen from where the command runs. What can't be known is called "unknown"."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
TIMEOUT_S = 10.0  # for the driver: the end of a short run waits for these facts
NO_LIMIT_BYTES = 1 << 60  # cgroup v1 says "no limit" by a huge number


def facts() -> dict[str, Any]:
    """Collect what a record says about the host. May take a second where there is a GPU."""
    name = os.uname()
    return {
        "kernel": f"{name.sysname} {name.release}",
        "architecture": name.machine,
        "cpu": cpu_model(text("/proc/cpuinfo")),
        "cpus": os.cpu_count() or "unknown",
        "cpus_allowed": len(os.sched_getaffinity(0)),
        "memory_bytes": total_memory(text("/proc/meminfo")),
        "memory_limit_bytes": memory_limit(),
        **gpu_facts(),
    }


def text(path: str) -> str:
    try:
        with open(path, errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def cpu_model(cpuinfo: str) -> str:
    """Return the first processor's name; on ARM, where the kernel gives none, its implementer and part."""
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())}
    if name := found.get("model name"):
        return name
    codes = [found[key] for key in ("CPU implementer", "CPU part") if key in found]
    return " ".join(codes) or "unknown"


def total_memory(meminfo: str) -> int | str:
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return "unknown"


def memory_limit() -> int | str:
    """Return the control group's limit in bytes, "none" or "unknown"."""
    for path in CGROUP_LIMITS:
        said = text(path).strip()
        if said.isdigit() and int(said) < NO_LIMIT_BYTES:
            return int(said)
        if said:
            return "none"
    return "unknown"


def gpu_facts() -> dict[str, Any]:
    """Return driver, its CUDA and the GPUs, as the probe finds them; nothing is loaded where there is no driver."""
    from launcher.gpu import has_driver

    if not has_driver():
        return {"driver": "none", "gpus": "none"}
    from launcher.gpu.probe import probe

    node = probe(timeout_s=TIMEOUT_S)
    gpus = [{name: value for name, value in vars(device).items() if value is not None} for device in node.devices]
    nothing = "none visible" if node.source else "unknown"
    return {"driver": node.driver or "unknown", "cuda": node.cuda or "unknown", "gpus": gpus or nothing}
