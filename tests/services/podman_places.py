"""Places with a Podman of their own: root's, an ordinary user's, and that of a user without a range of numbers.

Storage, configuration and run folders are temporary. The ordinary user exists only in a mount namespace, where
/etc/passwd and /etc/subuid are other files; the checkout is shown there too, for it may lie in a closed folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from launcher.image.oci import Image
from tests.patience import LONG_S

ROOT = Path(__file__).parents[2]
USER = 4711
ACCOUNTS = {
    "passwd": "root:x:0:0::/root:/bin/sh\ntrainer:x:4711:4711::/nonexistent:/bin/sh\n",
    "group": "root:x:0:\ntrainer:x:4711:\n",
}
RANGE = "trainer:300000:65536\n"
AS_USER = """
for file in passwd group subuid subgid; do mount --bind "$1/etc/$file" "/etc/$file"; done
[ ! -e "$1/fuse" ] || mount --bind "$1/fuse" /dev/fuse
mount --bind "$2" "$1/checkout"
mount --bind "$3" "$1/packages"
shift 3
exec setpriv --reuid=4711 --regid=4711 --clear-groups --inh-caps=-all "$@"
"""
STORAGE = '[storage]\ndriver = "vfs"\ngraphroot = "{0}/storage"\nrunroot = "{0}/state"\n'
# what this machine needs: a root that may not raise limits, cgroups of version 1, where only runc works; and what
# leaves nothing outside of the place
CONTAINERS = """
[containers]
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{0}/tmp"
"""


def lacks() -> str | None:
    """Return what this machine lacks, or None."""
    missing = [name for name in ("podman", "newuidmap", "setpriv", "unshare") if not shutil.which(name)]
    if os.getuid() != 0:
        missing.append("root")
    if not public_python():
        missing.append("a Python that everybody may run")
    return f"needs {', '.join(missing)} (Debian: podman, uidmap)" if missing else None


def public_python() -> str | None:
    """Return a Python that an ordinary user may run, more than once: setpriv(1) still has root's rights at exec."""
    switch = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all"]
    again = (
        "import os, sys; sys.version_info > (3, 10) and os.execv(sys.executable, [sys.executable, '-V']); sys.exit(1)"
    )
    for candidate in (sys.executable, "/usr/bin/python3"):
        test = [*switch, candidate, "-c", again]
        if shutil.which("setpriv") and subprocess.run(test, capture_output=True, cwd="/").returncode == 0:
            return candidate
    return None


class Place:
    """A folder with a Podman and a launcher's cache, for one user."""

    def __init__(self, image: Image, cache: Path, *, rootless: bool, numbers: str = RANGE) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="podman-", dir="/tmp"))  # pytest's own folders are closed to users
        self.image, self.source, self.rootless = image, cache, rootless
        self.folder.chmod(0o755)
        for name in ("etc", "home", "run", "tmp", "code", "store", "in", "checkout", "packages"):
            (self.folder / name).mkdir()
        for name, text in {**ACCOUNTS, "subuid": numbers, "subgid": numbers}.items():
            (self.folder / "etc" / name).write_text(text)
        runtime = '[engine]\nruntime = "runc"\n' if shutil.which("runc") else "[engine]\n"
        (self.folder / "containers.conf").write_text(CONTAINERS.replace("[engine]\n", runtime).format(self.folder))
        (self.folder / "storage.conf").write_text(STORAGE.format(self.folder))
        shutil.copytree(cache, self.folder / "cache")
        if rootless:
            subprocess.run(["chown", "-R", f"{USER}:{USER}", str(self.folder)], check=True)

    def command(self, *words: str) -> list[str]:
        """Return the words of a command as they are for this place's user."""
        if not self.rootless:
            return list(words)
        switch = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", AS_USER, "sh"]
        return [*switch, str(self.folder), str(ROOT), sysconfig.get_path("platlib"), *words]

    def environment(self) -> dict[str, str]:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": f"{self.folder}/home",
            "XDG_RUNTIME_DIR": f"{self.folder}/run",
            "CONTAINERS_CONF": f"{self.folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{self.folder}/storage.conf",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SECRET_OF_THE_HOST": "1",
            "http_proxy": "http://proxy.example.org",
        }
        seen = f"{self.folder}/checkout:{self.folder}/packages" if self.rootless else str(ROOT)
        return {**env, "PYTHONPATH": seen}

    def podman(self, *words: str) -> str:
        command = self.command("podman", *words)
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment(), cwd="/", timeout=LONG_S)
        return done.stdout

    def start(
        self, run: str, *argv: str, runtime: str = "podman", attempt: int = 1, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a launcher that runs a command; its process is the one that is returned."""
        told = self.folder / f"{run}.{attempt}.json"
        told.write_text(json.dumps(self.told(run, argv, runtime, attempt)))
        python = public_python() if self.rootless else sys.executable
        command = self.command(str(python), "-m", "tests.run_driver", str(told))
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, env={**self.environment(), **(env or {})}, cwd="/")

    def told(self, run: str, argv: tuple[str, ...], runtime: str, attempt: int) -> dict[str, object]:
        layers = []
        for layer in self.image.layers:
            layers.append({**asdict(layer), "path": str(self.folder / "cache" / layer.path.relative_to(self.source))})
        places = {"cache": "cache", "code": "code", "store": "store"}
        return {
            **{name: str(self.folder / path) for name, path in places.items()},
            "data": {"in": str(self.folder / "in")},
            "image": self.image.id,
            "config": self.image.config.decode(),
            "layers": layers,
            "run": run,
            "argv": argv,
            "runtime": runtime,
            "attempt": attempt,
        }

    def close(self) -> None:
        """End what Podman leaves running, which is one process that holds a user namespace, and remove all."""
        self.podman("rm", "--all", "--force")
        if self.rootless:
            self.podman("system", "migrate")
        shutil.rmtree(self.folder)
