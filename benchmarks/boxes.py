"""What `launcher run --on box` costs until the program's first line, beside what people do without it.

    python -m benchmarks boxes [--delays 0,40] [--rate 100] [--rounds 3] [--json]

Needs root and the Debian packages of the tests (.ci/debian-packages): the box is one of tests/boxes.py, with a Docker
engine of its own behind a line that has a delay (milliseconds, each way) and a rate (megabits a second). Time runs from
the start of a command to when the first line has come back to this machine. The image is built before; cold is a box
that has nothing of ours and to which no connection is open, warm one that had the run before, of which a line of code
has changed since.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.engine import docker_engine  # noqa: E402
from benchmarks.measure import process, tell  # noqa: E402
from tests.box_trials import Renter  # noqa: E402
from tests.boxes import Box, started  # noqa: E402
from tests.registries import docker_registry  # noqa: E402

SPEC = 'name: first-line\nimage: {base: debian:bookworm, python: "3.11"}\nrun: python train.py\noutputs: []\n'
SCRIPT = 'print("up", flush=True)\n# line {}\n'
FOLDERS = ("/root/.launcher", "/root/.cache", "/root/launcher")
WAYS = ("launcher run --on", "docker save | ssh docker load", "docker pull from a registry")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A client, a box, an engine of the client's that has the image, and a registry that has it too."""

    renter: Renter
    box: Box
    engine: str
    registry: str
    image: str

    @property
    def project(self) -> Path:
        return self.renter.home / "project"

    def edit(self, number: int) -> None:
        (self.project / "train.py").write_text(SCRIPT.format(number))

    def forget(self) -> None:
        """Take everything of ours from the box, and end all connections to it."""
        for name in self.box.engine.docker("ps", "--all", "--quiet").split():
            self.box.engine.docker("rm", "--force", name)
        self.box.engine.docker("image", "prune", "--all", "--force")
        self.box.exec(["rm", "-rf", *FOLDERS])
        self.box.kill_sessions()

    def launched(self) -> float:
        words = [sys.executable, "-m", "launcher", "run", self.project, "--on", self.box.name]
        return first_line(words, self.renter.env, self.renter.home)

    def loaded(self) -> float:
        save = shlex.join(["docker", "save", self.image])
        return self.shell(f"{save} | {self.ssh('docker', 'load')} >&2 && {self.run_there(self.image)}")

    def pulled(self) -> float:
        reference = f"{self.registry}/{self.image}"
        return self.shell(f"{self.ssh('docker', 'pull', reference)} >&2 && {self.run_there(reference)}")

    def bare(self) -> float:
        """The least that there could be: the image is there, and a container of it is run by ssh."""
        return self.shell(self.run_there(self.image))

    def run_there(self, image: str) -> str:
        return self.ssh("docker", "run", "--rm", image, "python3", "-c", 'print("up")')

    def ssh(self, *words: str) -> str:
        return shlex.join(self.box.ssh(shlex.join(words)))

    def shell(self, line: str) -> float:
        return first_line(["sh", "-c", line], {**os.environ, "DOCKER_HOST": self.engine}, self.renter.home)


def first_line(words: Sequence[str | Path], env: dict[str, str], cwd: Path) -> float:
    """Return the seconds until a command's first line came out of it; it is waited for to its end."""
    began = time.perf_counter()
    child = subprocess.Popen(
        list(map(str, words)),
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout and child.stderr
    line = child.stdout.readline()
    took = time.perf_counter() - began
    _, said = child.communicate(timeout=600)
    if line != b"up\n" or child.returncode:
        raise RuntimeError(f"{words}: {line!r}, code {child.returncode}\n{said.decode(errors='replace')[-3000:]}")
    return took


def measured(bench: Bench, rounds: int) -> dict[str, float]:
    """Time every way, cold and warm; medians of some rounds, cold ones once each."""
    ways: dict[str, Callable[[], float]] = dict(zip(WAYS, (bench.launched, bench.loaded, bench.pulled), strict=True))
    found: dict[str, float] = {}
    for name, way in ways.items():
        bench.forget()
        bench.edit(0)
        found[f"{name}, cold"] = way()
        way()  # the first that finds something there
        found[f"{name}, warm"] = statistics.median(edited(bench, way, number) for number in range(1, rounds + 1))
        tell(f"  {name}: {found[f'{name}, cold']:.1f} s cold, {found[f'{name}, warm']:.1f} s warm")
    bench.loaded()
    found["ssh docker run"] = statistics.median(bench.bare() for _ in range(rounds))
    return found


def edited(bench: Bench, way: Callable[[], float], number: int) -> float:
    bench.edit(number)
    return way()


@contextlib.contextmanager
def desk() -> Iterator[Bench]:
    """Set everything up: the spec is locked, the image built, in the client's engine and in the registry."""
    with started() as boxes, docker_engine() as engine, contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-boxes-")))
        (folder / "registry").mkdir()
        place = stack.enter_context(docker_registry(folder / "registry", address=boxes.site.host_address))
        box = boxes.new()
        box.engine.stop()
        box.engine.start("--insecure-registry", place)
        renter = Renter(home=folder, place=str(folder / "store"), cache=folder / "cache", ssh_config=box.ssh_config)
        renter.add(box)
        (folder / "project").mkdir()
        (folder / "project" / "experiment.yaml").write_text(SPEC)
        image = built(renter, engine)
        pushed(image, place, engine)
        yield Bench(renter=renter, box=box, engine=engine, registry=place, image=image)


def built(renter: Renter, engine: str) -> str:
    """Lock and build, and put the image into the client's engine; return its name there."""
    env = {**renter.env, "DOCKER_HOST": engine}
    process([sys.executable, "-m", "launcher", "build", renter.home / "project", "--docker"], env=env)
    words = ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]
    return subprocess.run(words, env=env, check=True, capture_output=True, text=True).stdout.split()[0]


def pushed(image: str, registry: str, engine: str) -> None:
    """Put the image into the registry, by skopeo: the client's engine would want that registry to have certificates."""
    source = ["skopeo", "copy", "-q", "--src-daemon-host", engine, "--dest-tls-verify=false"]
    process([*source, f"docker-daemon:{image}", f"docker://{registry}/{image}"])


def told(found: dict[str, dict[str, float]]) -> None:
    print(f"\nSeconds to the first line of the program\n{'':44}" + "".join(f"{name:>16}" for name in found))
    for what in next(iter(found.values())):
        print(f"{what:44}" + "".join(f"{times[what]:15.1f}s" for times in found.values()))
    sys.stdout.flush()


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="boxes")
    parser.add_argument("--delays", default="0,40")
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(words)
    found = {}
    with desk() as bench:
        for delay in args.delays.split(","):
            tell(f"boxes: {delay} ms, {args.rate:g} Mbit/s")
            bench.box.line(delay_ms=float(delay), rate_mbit=args.rate)
            found[f"{delay} ms"] = measured(bench, args.rounds)
    print(json.dumps(found, indent=2)) if args.json else told(found)


if __name__ == "__main__":
    main()
