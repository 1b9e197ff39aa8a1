"""Why the kernel refused a sandbox: from the step, the error number and the settings of this machine to words."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from launcher.errors import TargetError
from launcher.target.model import Unusable

OTHERS = "or run with --runtime docker or --runtime podman"
SETTINGS = (
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "this machine allows no user namespaces (user.max_user_namespaces is 0)",
        "as root: sysctl -w user.max_user_namespaces=15000",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "this machine keeps user namespaces for root (kernel.unprivileged_userns_clone is 0)",
        "as root: sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor restricts user namespaces here (kernel.apparmor_restrict_unprivileged_userns is 1)",
        "as root: give this Python a profile with `userns,`, or "
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)
STEPS = {
    "namespaces": "the kernel refused new namespaces",
    "stage": "the kernel refused a mount inside a user namespace",
    "mount": "the kernel refused a mount",
    "bind": "a folder could not be mounted",
    "bind-if-there": "a file could not be mounted",
    "root": "the image could not be mounted",
    "pivot": "the new root could not be entered",
    "link": "the image has a symbolic link where something has to be mounted",
    "cwd": "the working directory could not be entered",
    "execve": "the program could not be started",
}


def setting(root: Path = Path("/")) -> str | None:
    """Return the setting that forbids user namespaces to this user, if one says so."""
    found = blame(root)
    return found[0] if found else None


def blame(root: Path = Path("/")) -> tuple[str, str] | None:
    """Return (what is set, what to do) of the first setting that forbids it. Root is bound by the first only."""
    for path, bad, message, remedy in SETTINGS:
        if "unprivileged" in path and os.geteuid() == 0:
            continue
        try:
            value = (root / path.lstrip("/")).read_text().strip()
        except OSError:
            continue
        if value == bad:
            return message, remedy
    return None


def explain(step: str, number: int, what: str, root: Path = Path("/")) -> TargetError:
    """Turn a refused step into an error that says which setting did it and what else can be done."""
    reason = os.strerror(number) if number else "no reason given"
    message = f"{STEPS.get(step, f'the sandbox could not be made ({step})')}: {what + ': ' if what else ''}{reason}"
    if step in ("namespaces", "stage") or (step == "mount" and number in (errno.EPERM, errno.EACCES)):
        found = blame(root)
        if found:
            return Unusable(f"no sandbox: {found[0]}", hint=f"{found[1]}; {OTHERS}")
        return Unusable(
            f"no sandbox: {message}",
            hint=f"a container or a security module around this process forbids it: run outside of it, {OTHERS}",
        )
    return TargetError(message)
