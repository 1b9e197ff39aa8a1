"""The root that a sandbox's command gets: the image mounted, everything else mounted into it, the host left behind."""

# ruff: noqa: PTH102, PTH103, PTH110, PTH112, PTH120, PTH211
# pathlib costs more than everything that is done here
from __future__ import annotations

import os

from launcher.target.sandbox import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Refused(Exception):  # noqa: N818 - the word of the report
    """A step that the kernel refused."""


class step:  # noqa: N801 - reads as a statement
    """Names what is being done; an OSError within becomes a refusal `STEP ERRNO WHAT`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise Refused(f"{self.name} {error.errno} {error.filename or ''}") from error


def build_root(plan: dict[str, Any]) -> None:
    """Mount everything, then leave the host's files behind."""
    os.umask(0)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    stage = plan["stage"]
    with step("stage"):
        kernel.mount("tmpfs", stage, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755,size=1m")
        os.mkdir(f"{stage}/root")
    with step("root"):
        mount_root(stage, plan["lower"])
    for action, *words in plan["actions"]:
        with step(action):
            ACTIONS[action](f"{stage}/root", *words)
    with step("pivot"):
        kernel.pivot_root(f"{stage}/root")


def mount_root(stage: str, lower: list[str]) -> None:
    """Mount the image: an overlay of its trees, the topmost first, or the one tree that they were merged into.

    The trees are named through short links, since all options of a mount must fit into one page.
    """
    if len(lower) == 1:
        return kernel.bind(lower[0], f"{stage}/root", writable=False)
    for number, folder in enumerate(lower):
        os.symlink(folder, f"{stage}/{number}")
    os.chdir(stage)
    names = ":".join(str(number) for number in range(len(lower)))
    flags = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    return kernel.mount("overlay", "root", "overlay", flags, f"lowerdir={names},userxattr")


def place(root: str, target: str) -> str:
    """Return where `target` lies below the new root; a symbolic link on the way would lead out of it."""
    path = root + target
    if os.path.realpath(path) != os.path.realpath(root) + target:
        raise Refused(f"link 40 {target}")
    return path


def bind(root: str, source: str, target: str, writable: bool) -> None:
    kernel.bind(source, place(root, target), writable=writable)


def bind_if_there(root: str, source: str, target: str, writable: bool) -> None:
    if os.path.exists(source) and os.path.lexists(root + target):
        bind(root, source, target, writable)


def freeze_if_there(root: str, target: str) -> None:
    if os.path.exists(root + target):
        kernel.bind(root + target, place(root, target), writable=False)


def hide_if_there(root: str, target: str) -> None:
    if os.path.isdir(root + target):
        flags = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
        kernel.mount("tmpfs", place(root, target), "tmpfs", flags, "mode=0555,size=4k")


def mount(root: str, kind: str, target: str, flags: int, options: str) -> None:
    kernel.mount(kind, place(root, target), kind, flags, options)


def seal(root: str, target: str) -> None:
    kernel.remount_read_only(root + target)


def folder(root: str, target: str) -> None:
    os.makedirs(root + target, 0o755, exist_ok=True)


def file(root: str, target: str) -> None:
    folder(root, os.path.dirname(target))
    os.close(os.open(root + target, os.O_CREAT | os.O_WRONLY, 0o644))


def link(root: str, text: str, target: str) -> None:
    os.symlink(text, root + target)


ACTIONS: dict[str, Callable[..., None]] = {
    "bind": bind,
    "bind-if-there": bind_if_there,
    "freeze-if-there": freeze_if_there,
    "hide-if-there": hide_if_there,
    "mount": mount,
    "seal": seal,
    "folder": folder,
    "file": file,
    "link": link,
}
