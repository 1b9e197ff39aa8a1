"""What can run containers on a box, which of it is taken, and what starts runs again after a reboot. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from launcher.profiles.answers import NO_ANSWER, Answers, tables
from launcher.profiles.box_facts import as_docker
from launcher.profiles.model import Box, Engine

# An engine that is a service starts runs again by itself, so it comes first. Of the others the sandbox needs nothing
# but the kernel; what Podman needs besides its program (ranges of numbers, an OCI runtime) shows only when it starts.
ORDER = ("docker", "sandbox", "apptainer", "podman")
OLDEST_DOCKER = (20, 10)
OLDEST_APPTAINER = {"apptainer": (1, 1), "singularity": (3, 11)}
HOOKS = ("nvidia-container-runtime-hook", "nvidia-container-toolkit")
NAMESPACES = (
    ("user/max_user_namespaces:0", "user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000"),
    (
        "kernel/unprivileged_userns_clone:0",
        "kernel.unprivileged_userns_clone is 0",
        "sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "kernel/apparmor_restrict_unprivileged_userns:1",
        "kernel.apparmor_restrict_unprivileged_userns is 1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


def engines(box: Box, said: Answers) -> tuple[Engine, ...]:
    """Return what can run containers there, or could if something were mended; the best comes first."""
    found = [*docker(box, said), sandbox(box, said), *apptainer(box, said), *podman(said)]
    has_gpus = bool(box.gpus or box.driver)
    return tuple(
        sorted(found, key=lambda one: (not one.usable, has_gpus and one.toolkit is False, ORDER.index(one.name)))
    )


def again(box: Box, said: Answers) -> tuple[Engine, ...]:
    """Return the engines of an earlier look, with what a short one told of the one that runs jobs."""
    asked = {"docker": docker(box, said), "apptainer": apptainer(box, said), "podman": podman(said)}
    fresh = {name: next(iter(found), None) for name, found in asked.items() if name in said}
    kept = [one for one in box.engines if one.name not in fresh]
    return (*(one for one in fresh.values() if one), *kept)


def docker(box: Box, said: Answers) -> Iterator[Engine]:
    """Yield Docker's engine, where there is one or should be."""
    told, there = as_docker(said.get("docker", NO_ANSWER)), programs(said)
    if told.get("version"):
        yield answering(box, told, there)
    elif told.get("error") in ("EACCES", "EPERM"):
        why, hint = without_rights(box, said)
        yield Engine(name="docker", usable=False, why=why, hint=hint)
    elif told.get("others"):
        why = f"Docker's own socket is not there; yours is {told['others']}"
        hint = f'setup = ["export DOCKER_HOST={told["others"]}"] in the target\'s file takes it'
        yield Engine(name="docker", usable=False, why=why, hint=hint, rootless=True)
    elif not told and "dockerd" in there:
        why = "whether Docker's engine answers can't be told: that is asked by Python"
        yield Engine(name="docker", usable=False, why=why, hint="see what is said of Python")
    elif "dockerd" in there or told.get("error", "ENOENT") != "ENOENT":
        why = f"no Docker engine answers at {told.get('place', 'its socket')}: {told.get('says', 'it is not there')}"
        yield Engine(name="docker", usable=False, why=why, hint="start it: sudo systemctl start docker")


def answering(box: Box, told: Mapping[str, Any], there: Collection[str]) -> Engine:
    version = str(told["version"])
    old = digits(version) < OLDEST_DOCKER
    return Engine(
        name="docker",
        version=version,
        usable=not old,
        why=f"Docker {version} is too old: 20.10 is the first that will do" if old else "",
        hint="update it, or take another runtime" if old else "",
        rootless=bool(told.get("rootless")),
        storage=told.get("storage"),
        toolkit=toolkit(told, there) if box.gpus or box.driver else None,
        free_mb=told.get("free_mb"),
    )


def toolkit(told: Mapping[str, Any], there: Collection[str]) -> bool:
    """Tell whether the engine can give GPUs: by CDI, by NVIDIA's runtime, or by the hook that `--gpus` calls."""
    has_cdi = any(str(name).startswith("nvidia.com/gpu") for name in told.get("cdi") or ())
    return has_cdi or "nvidia" in (told.get("runtimes") or ()) or any(hook in there for hook in HOOKS)


def without_rights(box: Box, said: Answers) -> tuple[str, str]:
    """Say what a user lacks that may not ask the engine, and what to do."""
    why = f"the user {box.user} may not use the Docker engine there"
    if joined_since(said):
        why += ": added to the group docker after this connection was opened"
        return why, "`launcher doctor` looks over a new connection"
    hint = f"add yourself to group docker (sudo usermod -aG docker {box.user}), log in as root"
    return why, f'{hint}, or take another runtime: runtime = "apptainer" or "sandbox" in the target\'s file'


def joined_since(said: Answers) -> bool:
    """Tell whether the user is in the group docker now, and was not when the connection was opened."""
    groups = [line.split() for line in said.get("groups", NO_ANSWER).lines]
    return len(groups) == 2 and "docker" in groups[1] and "docker" not in groups[0]


def sandbox(box: Box, said: Answers) -> Engine:
    """Return launcher's own: user namespaces. Root needs none of the settings but the first."""
    asked, settings = said.get("namespaces", NO_ANSWER), said.get("settings", NO_ANSWER).text
    version = f"on Linux {box.kernel}" if box.kernel else None
    if asked.good and asked.text.strip() == "yes":
        return Engine(name="sandbox", version=version)
    for sign, why, remedy in NAMESPACES:
        if sign in settings.split():
            return Engine(
                name="sandbox", usable=False, why=f"user namespaces are off: {why}", hint=f"as root: {remedy}"
            )
    if asked.code == 127 or "not found" in asked.text:
        return Engine(name="sandbox", version=version)  # nobody could tell, and most kernels let it
    hint = "a container without user namespaces? take a box of its own, or one with Docker"
    return Engine(name="sandbox", usable=False, why=f"user namespaces are refused: {asked.reason}", hint=hint)


def apptainer(box: Box, said: Answers) -> Iterator[Engine]:
    answer = said.get("apptainer", NO_ANSWER)
    if not answer.good or not answer.lines:
        return
    told, is_setuid = answer.lines[0].strip(), answer.lines[-1] == "setuid"
    version = found[0] if (found := re.search(r"\d+(\.\d+)+\S*", told)) else ""
    sister = "singularity" in told.lower()
    if digits(version) < OLDEST_APPTAINER["singularity" if sister else "apptainer"]:
        why = f"{told} is too old"
        yield Engine(name="apptainer", version=version, usable=False, why=why, hint="install Apptainer 1.1 or newer")
    elif box.uid != 0 and not is_setuid and not sandbox(box, said).usable:
        refused = sandbox(box, said)
        yield Engine(name="apptainer", version=version, usable=False, why=refused.why, hint=refused.hint)
    else:
        yield Engine(name="apptainer", version=version)


def podman(said: Answers) -> Iterator[Engine]:
    answer = said.get("podman", NO_ANSWER)
    parts = answer.text.split()
    if answer.good and len(parts) == 3:
        yield Engine(name="podman", version=parts[0], storage=parts[1], rootless=parts[2] == "true")
    elif answer.code != 127:
        hint = "`podman info` there tells more; or take another runtime"
        yield Engine(name="podman", usable=False, why=f"Podman fails: {answer.reason}", hint=hint)


def boot(runtime: str, found: tuple[Engine, ...], box: Box, said: Answers) -> str | None:
    """Return what starts runs again after a reboot: the engine, a user's services, cron; None: the next contact."""
    lines = {line.strip() for line in said.get("boot", NO_ANSWER).lines}
    engine = next((one for one in found if one.name == runtime), None)
    if engine and engine.name == "docker" and engine.usable and not engine.rootless and "docker=disabled" not in lines:
        return "docker"
    if {"systemd", "linger"} <= lines:
        return "systemd"
    return "cron" if "cron" in lines and "crontab" in programs(said) else None


def programs(said: Answers) -> set[str]:
    return {row[0] for row in tables(said.get("programs", NO_ANSWER)) if len(row) == 2}


def digits(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
