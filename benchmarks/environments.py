"""Environments: `launcher build`, cold and warm, against `docker build` with pip and with uv, and mmdebstrap.

Everything is on disk before the clock starts: ours has the artifacts in its cache, Docker has the base image and
the same wheels in its build context. The base image of the rivals is ours, loaded beforehand.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Row, Took, median, process, tell
from launcher.digest import sha256_file

LAUNCHER = [sys.executable, "-m", "launcher", "-q"]
PIP = """FROM {base}
COPY wheels /wheels
RUN python3 -m venv /opt/rival && /opt/rival/bin/pip install -q --no-index --find-links /wheels --no-cache-dir {names}
"""
UV = """FROM {base}
COPY wheels /wheels
COPY uv /usr/local/bin/uv
RUN uv venv -q /opt/rival
RUN uv pip install -q -p /opt/rival/bin/python --no-index --find-links /wheels --no-cache {names}
"""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What is built: a name and the requirements in it."""

    name: str
    pip: tuple[str, ...]

    def spec(self) -> str:
        return (
            f"name: {self.name}\nimage:\n  base: debian:bookworm\n  python: '3.11'\n  apt: {list(BASE_APT)}\n"
            f"  pip: {list(self.pip)}\nrun: python hello.py\n"
        )


BASE_APT = ("python3-venv", "python3-pip")  # what the rivals install with; the base is the same on both sides
SMALL = Environment(name="small", pip=("numpy", "pyyaml", "requests"))
TORCH = Environment(name="torch", pip=("torch==2.13.0", "numpy"))
BASE = Environment(name="base", pip=())


class Bench:
    """A folder with one cache, one Docker engine and the specs that are timed."""

    def __init__(self, folder: Path, docker: str) -> None:
        self.folder, self.cache, self.project = folder, folder / "cache", folder / "project"
        self.project.mkdir()
        self.env = {"LAUNCHER_CACHE": str(self.cache), "LAUNCHER_STORE": str(folder / "store")}
        self.docker = {"DOCKER_HOST": docker, "DOCKER_BUILDKIT": "0"}

    def launcher(self, *args: str | Path) -> Took:
        return process([*LAUNCHER, *args], env={**self.env, **self.docker}, cwd=self.project)

    def spec(self, environment: Environment) -> Path:
        """Write and lock a spec; what it needs is in the cache afterwards."""
        path = self.project / f"{environment.name}.yaml"
        path.write_text(environment.spec())
        (self.project / "hello.py").write_text("print('hello', flush=True)\n")
        self.launcher("lock", path)
        return path

    def forget(self) -> None:
        """Take the cache back to artifacts alone."""
        for folder in self.cache.iterdir():
            if folder.name not in ("artifacts", "notes"):
                shutil.rmtree(folder, ignore_errors=True)
        for notes in (self.cache / "notes").iterdir():
            if notes.name != "fingerprints":
                shutil.rmtree(notes)

    def wheels(self, lock: Path) -> list[Path]:
        """Return a lock's wheels as files under their own names, in the rivals' build context."""
        from launcher.cache import Cache
        from launcher.lock import load

        context = self.folder / "context"
        shutil.rmtree(context, ignore_errors=True)
        (context / "wheels").mkdir(parents=True)
        shutil.copy(uv(), context / "uv")
        found = []
        for wheel in load(lock).wheels:
            source = Cache(self.cache).path("artifacts", wheel.sha256)
            found.append(Path(shutil.copy(source, context / "wheels" / wheel.filename)))
        return found

    def docker_build(self, dockerfile: str, base: str, names: str, *, cached: bool = False) -> Took:
        context = self.folder / "context"
        (context / "Dockerfile").write_text(dockerfile.format(base=base, names=names))
        args = ["docker", "build", "-q", "--network", "none", "-t", "rival:1", *([] if cached else ["--no-cache"]), "."]
        return process(args, env=self.docker, cwd=context)


def uv() -> str:
    from uv import find_uv_bin

    return str(find_uv_bin())


def names(environment: Environment) -> str:
    return " ".join(environment.pip)


def builds(bench: Bench, environment: Environment, base: str, goals: Mapping[str, float]) -> list[Row]:
    """Time one environment, cold and warm, against both rivals. Both sides have the Debian base already."""
    tell(f"{environment.name}: locking")
    spec = bench.spec(environment)
    lock = spec.with_suffix(".lock")
    bench.wheels(lock)
    tell(f"{environment.name}: building")
    whole = median(lambda: bench.launcher("build", lock), 2, bench.forget)
    cold = median(lambda: bench.launcher("build", lock), 2, lambda: forget_wheels(bench))
    warm = median(lambda: bench.launcher("build", lock), 5)
    with_pip = bench.docker_build(PIP, base, names(environment))
    cached_pip = median(lambda: bench.docker_build(PIP, base, names(environment), cached=True), 3)
    with_uv = bench.docker_build(UV, base, names(environment))
    cold_name = f"{environment.name}, cold"
    return [
        Row(what=cold_name, ours=cold, rival="docker + pip", theirs=with_pip, goal=goals.get("pip")),
        Row(what=cold_name, ours=cold, rival="docker + uv", theirs=with_uv, goal=goals.get("uv")),
        Row(what=f"{cold_name}, Debian base too", ours=whole, rival="docker + uv", theirs=with_uv),
        Row(what=f"{environment.name}, warm", ours=warm, rival="docker, cached", theirs=cached_pip),
    ]


def forget_wheels(bench: Bench) -> None:
    """Leave only the base in the cache, built and unpacked, as the rivals have their base image."""
    bench.forget()
    bench.launcher("run", "--runtime", "sandbox", bench.project / "base.yaml")


def first_line(bench: Bench, environment: Environment, base: str) -> Row:
    """From nothing assembled to the program's first line: a sandbox against docker build with uv and docker run."""
    spec = bench.project / f"{environment.name}.yaml"
    ours = median(lambda: bench.launcher("run", "--runtime", "sandbox", spec), 2, lambda: forget_wheels(bench))
    built = bench.docker_build(UV, base, names(environment))
    run = ["docker", "run", "--rm", "--network", "none", "rival:1", "/opt/rival/bin/python", "-c", "print('hello')"]
    ran = process(run, env=bench.docker)
    theirs = Took(wall_s=built.wall_s + ran.wall_s, peak_mb=0)
    what = f"{environment.name}: launcher run, cold sandbox"
    return Row(what=what, ours=ours, rival="docker build + run", theirs=theirs, goal=3)


def debian_base(bench: Bench) -> Row:
    """The base with python3, cold, against mmdebstrap from the same .debs in a local repository."""
    lock = bench.project / "base.lock"
    ours = median(lambda: bench.launcher("build", lock), 3, bench.forget)
    source = f"deb [trusted=yes] copy:{repository(bench, lock)} bookworm main"
    args = ["mmdebstrap", "--variant=essential", "--include=python3,ca-certificates", "bookworm"]
    theirs = process([*args, str(bench.folder / "rival.tar"), source], env={"SOURCE_DATE_EPOCH": "1700000000"})
    (bench.folder / "rival.tar").unlink()
    return Row(what="debian:bookworm with python3, cold", ours=ours, rival="mmdebstrap", theirs=theirs, goal=4)


def repository(bench: Bench, lock: Path) -> Path:
    """Make a local mirror of a lock's packages, as apt wants it (wiki.debian.org/DebianRepository/Format)."""
    from launcher.cache import Cache
    from launcher.lock import load

    root = bench.folder / "repository"
    index = root / "dists/bookworm/main/binary-amd64/Packages"
    index.parent.mkdir(parents=True)
    (root / "pool").mkdir()
    for deb in load(lock).debs:
        shutil.copy(Cache(bench.cache).path("artifacts", deb.sha256), root / "pool" / deb.filename.replace("%3a", ":"))
    scan = ["dpkg-scanpackages", "-m", "pool"]
    index.write_bytes(subprocess.run(scan, cwd=root, check=True, capture_output=True).stdout)
    sha256, size = sha256_file(index)
    release = "Origin: Debian\nSuite: bookworm\nCodename: bookworm\nArchitectures: amd64\nComponents: main\n"
    release += f"SHA256:\n {sha256} {size} main/binary-amd64/Packages\n"
    (root / "dists/bookworm/Release").write_text(release)
    return root
