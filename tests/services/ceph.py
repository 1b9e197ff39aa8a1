"""A real object store: Ceph's radosgw 20 of Debian sid, in one squashfs that Apptainer runs as it is.

Its image is made once from the mirror that this machine is configured for (about 3 minutes, 240 MB) and kept beside
what else the tests fetch. It starts in 3 to 6 s. What it keeps lies in memory.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from tests.object_stores import ObjectStore
from tests.patience import LONG_S
from tests.registries import free_port

SUITE = "sid"
PACKAGES = "ceph-mon,ceph-osd,radosgw,ceph-common,procps,python3-minimal"
SCRIPT = Path(__file__).with_name("ceph-run.sh")
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
TOOLS = ("mmdebstrap", "mksquashfs")


def image(cache: Cache) -> Path:
    """Return the squashfs, made at the first call."""
    place = cache.root / "ceph" / f"{SUITE}.sqfs"
    if not place.exists():
        if os.getuid() != 0 or not all(map(shutil.which, TOOLS)):
            pytest.skip(f"making Ceph's image needs root, {' and '.join(TOOLS)}")
        place.parent.mkdir(parents=True, exist_ok=True)
        with cache.scratch() as scratch:
            pack(unpacked(scratch / "root.tar"), scratch / "root.sqfs").rename(place)
    return place


def unpacked(tar: Path) -> Path:
    """Let mmdebstrap make the tree. sid's Release file may be older than it says it is good for."""
    from launcher.indexes.apt import apt_config, mirrors

    [mirror, *_] = [one for one in mirrors(apt_config(), SUITE, "amd64") if not one.security]
    args = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "--components=main"]
    args += [f'--aptopt=Acquire::{check} "false"' for check in ("Check-Valid-Until", "Check-Date")]
    args += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    args += ['--customize-hook=mkdir "$1/ceph"; rm -f "$1"/etc/nvme/host*', SUITE, str(tar), mirror.root]
    subprocess.run(args, check=True, capture_output=True)
    return tar


def pack(tar: Path, to: Path) -> Path:
    args = ["mksquashfs", "-", str(to), "-tar", "-comp", "zstd", "-Xcompression-level", "1", "-no-progress", "-quiet"]
    with tar.open("rb") as stream:
        subprocess.run([*args, "-root-mode", "0755"], stdin=stream, check=True, capture_output=True)
    tar.unlink()
    return to


@contextlib.contextmanager
def radosgw(folder: Path, cache: Cache, apptainer: Path) -> Iterator[ObjectStore]:
    """Run Ceph until the end of the block; the bucket is yet to be made."""
    if platform.machine() != "x86_64":
        pytest.skip("Ceph's image is made for x86-64 here")
    squashfs, home = image(cache), folder / "ceph"
    home.mkdir()
    port, monitor = free_port(), free_port()
    store = ObjectStore(endpoint=f"http://127.0.0.1:{port}", bucket="")
    args = [str(apptainer), "--silent", "exec", *(["--no-privs"] if os.getuid() == 0 else []), "--containall"]
    args += ["--no-home", "--pwd", "/", "--bind", f"{home}:/ceph", "--bind", f"{SCRIPT}:/run.sh:ro", str(squashfs)]
    args += ["bash", "/run.sh", str(port), str(monitor), store.key, store.secret]
    with (folder / "ceph.log").open("wb") as log:
        server = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until_ready(home / "ready", server, folder / "ceph.log")
        yield store
    finally:
        server.terminate()  # everything inside ends with it: it has process ids of its own
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()
        server.wait(10)


def wait_until_ready(ready: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + LONG_S
    while not ready.exists():
        if time.monotonic() > until or server.poll() is not None:
            server.kill()
            pytest.fail("Ceph did not start:\n" + log.read_text(errors="replace")[-3000:])
        time.sleep(0.05)


@pytest.fixture(scope="session")
def ceph_server(
    tmp_path_factory: pytest.TempPathFactory, shared_cache: Cache, request: pytest.FixtureRequest
) -> Iterator[ObjectStore]:
    """Start Ceph; `bucket` is empty."""
    if not os.environ.get("LAUNCHER_HEAVY"):
        pytest.skip("Ceph is heavy: set LAUNCHER_HEAVY=1")
    apptainer = request.getfixturevalue("apptainer")
    with radosgw(tmp_path_factory.mktemp("ceph"), shared_cache, apptainer) as server:
        yield server
