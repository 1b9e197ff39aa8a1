"""Facts about the machine, as seen from where the command runs. What can't be known is called "unknown"."""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
NO_LIMIT_BYTES = 1 << 60  # cgroup v1 says "no limit" by a huge number
QUERY = ("index", "name", "uuid", "memory.total", "driver_version")


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
    """Return driver version and GPUs: from nvidia-smi where it answers, else from the driver's files in /proc."""
    version = driver_version(text("/proc/driver/nvidia/version"))
    if version is None:
        return {"driver": "none", "gpus": "none"}
    listed = gpus_by_smi() or gpus_by_proc()
    if listed and any(os.path.exists(f"/dev/nvidia{n}") for n in range(64)):
        return {"driver": version, "gpus": listed}
    return {"driver": version, "gpus": "none visible"}


def driver_version(said: str) -> str | None:
    """Read the kernel module's version: a dotted number in its first line."""
    for word in said.partition("\n")[0].split():
        if word[0].isdigit() and "." in word:
            return word
    return None


def gpus_by_smi() -> list[dict[str, Any]]:
    import subprocess

    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, timeout=10, stdin=subprocess.DEVNULL, cwd="/")
        return parse_smi(done.stdout.decode(errors="replace"))
    return []


def parse_smi(said: str) -> list[dict[str, Any]]:
    found = []
    for line in said.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) == len(QUERY) and values[3].isdigit():
            found.append({"model": values[1], "uuid": values[2], "memory_bytes": int(values[3]) << 20})
    return found


def gpus_by_proc() -> list[dict[str, Any]]:
    root = "/proc/driver/nvidia/gpus"
    found = []
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(root)):
            lines = [line.partition(":") for line in text(f"{root}/{name}/information").splitlines()]
            said = {key.strip(): value.strip() for key, _, value in lines}
            found.append({"model": said.get("Model", "unknown"), "uuid": said.get("GPU UUID", "unknown")})
    return found
