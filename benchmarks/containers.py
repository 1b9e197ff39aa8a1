"""What the start of a container costs: `true` in an image that is there already, in each runtime.

Ours are the runtimes below `launcher run`, without the runner and in one process; the rival is `docker run`. Apptainer
is also called by itself: on our SIF as it is, on compressed ones, and on a folder.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.environments import BASE, Bench
from benchmarks.measure import Row, Took, median, process, table, tell
from launcher.cache import Cache
from launcher.errors import LauncherError
from launcher.image import Image, build
from launcher.image.sif import sif, write_output
from launcher.lock import load
from launcher.progress import SILENT
from launcher.target.model import Container, Runtime
from launcher.target.runtimes import RUNTIMES
from launcher.target.sandbox.runtime import Sandbox

TIMES = 9
BARE = ("--silent", "exec", "--containall", "--no-home")


def starts(bench: Bench) -> None:
    """Print the table."""
    tell("containers: locking")
    if not (bench.project / "base.lock").exists():
        bench.spec(BASE)
    bench.launcher("build", "--docker", bench.project / "base.lock")
    cache = Cache(bench.cache)
    image = build(load(bench.project / "base.lock"), cache)
    os.environ.update(bench.docker)
    add_apptainer()
    rival = median(lambda: process(["docker", "run", "--rm", "--network", "host", image.tag, "true"]), TIMES)
    rows = [
        Row(what=what, ours=median(run, TIMES), rival="docker run", theirs=rival)
        for what, run in (*runtimes(image, cache), *files(image, cache, bench.folder))
    ]
    table("Start of a container (`true`)", rows)


def add_apptainer() -> None:
    """Take the Apptainer of the tests where this machine has none."""
    if not shutil.which("apptainer"):
        from tests.services.apptainer_install import installed

        kept = os.environ.get("LAUNCHER_TEST_CACHE") or ".cache/tests"
        os.environ["PATH"] = f"{installed(Cache(Path(kept).absolute())).parent}:{os.environ['PATH']}"


def runtimes(image: Image, cache: Cache) -> Iterator[tuple[str, Callable[[], Took]]]:
    for name, make in RUNTIMES.items():
        runtime = make(cache)
        try:
            reason = runtime.refusal()
            if reason is None:
                started(runtime, image)
        except LauncherError as e:
            reason = str(e).splitlines()[0]
        if reason:
            tell(f"{name}: left out: {reason}")
        else:
            yield f"runtime {name}", lambda runtime=runtime: started(runtime, image)  # type: ignore[misc]


def started(runtime: Runtime, image: Image) -> Took:
    container = Container(
        run=f"bench-{time.monotonic_ns()}",
        image=image,
        argv=("true",),
        env={"PATH": "/usr/bin:/bin"},
        mounts=(),
        user=os.getuid(),
        group=os.getgid(),
        cwd="/",
    )
    began = time.perf_counter()
    ending = runtime.start(container).wait()
    assert ending.code == 0, ending
    return Took(wall_s=time.perf_counter() - began, peak_mb=0)


def files(image: Image, cache: Cache, folder: Path) -> Iterator[tuple[str, Callable[[], Took]]]:
    """Yield Apptainer by itself on each form of the image."""
    places = {"SIF": sif(image, cache), "folder": Sandbox(cache).merged(image)}
    for compression in ("gzip", "zstd"):
        places[f"SIF, {compression}"] = folder / f"{compression}.sif"
        write_output(image, "sif", folder / f"{compression}.sif", cache, SILENT, compression)
    for name, place in places.items():
        privileges = ["--no-privs"] if os.getuid() == 0 else []
        words = ["apptainer", *BARE, *privileges, place, "true"]
        yield f"apptainer exec, {name}", lambda words=words: process(words)  # type: ignore[misc]
