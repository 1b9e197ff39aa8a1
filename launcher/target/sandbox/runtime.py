"""Outside half of the sandbox: makes the trees ready, starts the inside half, and tells how it ended."""

from __future__ import annotations

import errno
import marshal
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from launcher.cache import Cache
from launcher.errors import TargetError
from launcher.image import Image
from launcher.process import start
from launcher.target import trees
from launcher.target.model import Container, Ending
from launcher.target.sandbox import merged, plan, refusal

UNPACKED_AT_ONCE = 4
PACKAGES = Path(__file__).parents[3]
BOOT = """import sys
sys.path.append(sys.argv[1])
from launcher.target.sandbox.enter import main
main(int(sys.argv[2]), int(sys.argv[3]))"""
NO_OVERLAY = {errno.EPERM, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP, errno.EACCES}


class Sandbox:
    """A Runtime that needs nothing but a kernel with user namespaces (Linux 4.18; overlays from 5.11 on)."""

    name = "sandbox"

    def __init__(self, cache: Cache, *, overlay: bool = True) -> None:
        self.cache = cache
        self.overlay = overlay

    def refusal(self) -> str | None:
        """Return why the kernel forbids user namespaces, as far as its settings tell."""
        return refusal.setting()

    def start(self, container: Container) -> SandboxProcess:
        """Start the command. Raises TargetError when the kernel refuses a step, with the setting that does it."""
        lower = [*self.unpacked(container.image), str(skeleton(self.cache))]
        if self.overlay:
            try:
                return self.enter(container, lower)
            except OverlayRefused:
                self.overlay = False
        return self.enter(container, [str(merged.tree(self.cache, lower))])

    def merged(self, image: Image) -> Path:
        """Return one folder that shows the image, for runtimes that run folders."""
        return merged.tree(self.cache, [*self.unpacked(image), str(skeleton(self.cache))])

    def unpacked(self, image: Image) -> list[str]:
        """Return the folders of the layers, the topmost first. Several at once: making files is the kernel's work."""
        with ThreadPoolExecutor(UNPACKED_AT_ONCE) as pool:
            found = pool.map(lambda layer: str(trees.tree(self.cache, layer.diff_id, layer.path)), image.layers)
            return list(found)[::-1]

    def enter(self, container: Container, lower: list[str]) -> SandboxProcess:
        stage = self.cache.root / "stage"
        stage.mkdir(exist_ok=True)
        process = SandboxProcess(described(container, lower, stage))
        process.await_start()
        return process


class OverlayRefused(TargetError):  # noqa: N818 - caught a few lines above
    """This kernel or file system has no overlays for user namespaces; one merged tree does as well."""


class SandboxProcess:
    """A running sandbox. It dies with the thread that made it."""

    def __init__(self, described: dict[str, Any]) -> None:
        self.stage = described["stage"]
        plan_out, plan_in = os.pipe()
        self.report, report_in = os.pipe()
        words = [sys.executable, "-I", "-S", "-c", BOOT, str(PACKAGES), str(plan_out), str(report_in)]
        try:
            self.popen = start(words, env={}, pass_fds=(plan_out, report_in))
        finally:
            os.close(plan_out)
            os.close(report_in)
        with open(plan_in, "wb") as stream:
            marshal.dump(described, stream)
        self.lines = open(self.report, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115 - closed by wait

    def await_start(self) -> None:
        """Wait until the command runs. Raises TargetError when a step was refused."""
        word, _, rest = self.lines.readline().rstrip("\n").partition(" ")
        if word == "started":
            return
        self.lines.close()
        code = self.popen.wait()
        if word != "refused":
            raise TargetError(f"the sandbox died while it was being made (code {code})", hint="try again")
        step, number, what = [*rest.split(" ", 2), "", ""][:3]
        if step == "root" and int(number or 0) in NO_OVERLAY:
            raise OverlayRefused(f"no overlay: {what}")
        raise refusal.explain(step, int(number or 0), what.replace(f"{self.stage}/root", "", 1))

    def signal(self, number: int) -> None:
        """Pass a signal on to the command. SIGKILL ends everything in the sandbox."""
        self.popen.send_signal(number)

    def wait(self) -> Ending:
        """Wait for the end."""
        line = self.lines.readline()
        code = self.popen.wait()
        self.lines.close()
        if line.startswith("ended "):
            value = os.waitstatus_to_exitcode(int(line.split()[1]))
            return Ending(code=value) if value >= 0 else Ending(signal=-value)
        return Ending(signal=-code if code < 0 else None, lost="the sandbox was killed from outside")


def described(container: Container, lower: list[str], stage: Path) -> dict[str, Any]:
    """Return the plan for the inside half, in values that marshal knows."""
    return {
        "parent": os.getpid(),
        "uid": container.user,
        "gid": container.group,
        "stage": str(stage),
        "lower": lower,
        "actions": plan.actions(container),
        "argv": list(container.argv),
        "env": dict(container.env),
        "cwd": container.cwd,
        "umask": 0o022,
        "network": container.network,
    }


def skeleton(cache: Cache) -> Path:
    """Return a tree with every mount point, which lies under the image's own layers."""
    top = cache.root / "skeleton"
    for name in plan.SKELETON_FOLDERS:
        (top / name).mkdir(parents=True, exist_ok=True)
    for name in plan.SKELETON_FILES:
        (top / name).touch()
    return top
