"""What a push moves after a small change: `launcher build --push` against `docker build` and `docker push`.

The registry is a real one on loopback behind a proxy that counts bytes. The rival's Dockerfile is a careful one: the
environment is installed in a first stage and copied as one layer, the code is a layer above it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import Bench, Environment, names
from benchmarks.measure import Took, process, tell
from tests.registries import Proxy, docker_registry, proxy

BEFORE = Environment(name="before", pip=("numpy", "pyyaml==6.0.1", "requests"))
AFTER = Environment(name="after", pip=("numpy", "pyyaml==6.0.2", "requests"))
RIVAL = """FROM {{base}} AS build
COPY wheels /wheels
COPY uv /usr/local/bin/uv
RUN uv venv -q /opt/rival
RUN uv pip install -q -p /opt/rival/bin/python --no-index --find-links /wheels --no-cache {{names}}
FROM {{base}}
COPY --from=build /opt/rival /opt/rival
COPY code-{code} /workspace
"""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One push: bytes that went up to the registry, and wall seconds of building and pushing."""

    sent: int
    wall_s: float


class Pushes:
    """Both sides, before one registry."""

    def __init__(self, bench: Bench, way: Proxy, base: str) -> None:
        self.bench, self.way, self.base = bench, way, base

    def counted(self, work: Callable[[], float]) -> Moved:
        before = self.way.up
        wall_s = work()
        return Moved(sent=self.way.up - before, wall_s=wall_s)

    def ours(self, environment: Environment) -> Moved:
        lock = self.bench.project / f"{environment.name}.lock"
        ref = f"{self.way.host}/ours/x:1"
        return self.counted(lambda: self.bench.launcher("build", lock, "--push", ref).wall_s)

    def theirs(self, environment: Environment, code: str) -> Moved:
        bench, ref = self.bench, f"{self.way.host}/theirs/x:1"
        bench.wheels(bench.project / f"{environment.name}.lock")
        folder = bench.folder / "context" / f"code-{code}"
        folder.mkdir()
        (folder / "train.py").write_text(f"print({code!r})\n")

        def work() -> float:
            built = bench.docker_build(RIVAL.format(code=code), self.base, names(environment), cached=True)
            tagged = process(["docker", "tag", "rival:1", ref], env=bench.docker)
            return built.wall_s + tagged.wall_s + self.docker_push(ref).wall_s

        return self.counted(work)

    def docker_push(self, ref: str) -> Took:
        return process(["docker", "push", "-q", ref], env=self.bench.docker)


def pushes(bench: Bench, base: str) -> None:
    """Print what the first push, a change of code and one of a small wheel move, on both sides."""
    tell("push: locking")
    for environment in (BEFORE, AFTER):
        bench.spec(environment)
    with (
        tempfile.TemporaryDirectory(prefix="launcher-registry-") as folder,
        docker_registry(Path(folder)) as host,
        proxy(host) as way,
    ):
        sides = Pushes(bench, way, base)
        tell("push: pushing")
        rows = [("first push", sides.ours(BEFORE), sides.theirs(BEFORE, "a"))]
        rows += [("one line of code", sides.ours(BEFORE), sides.theirs(BEFORE, "b"))]
        rows += [("one small wheel", sides.ours(AFTER), sides.theirs(AFTER, "b"))]
    print(f"\nPush to a registry, building included\n{'':24}{'ours':>22}{'docker build + push':>26}{'bytes':>9}")
    for what, ours, theirs in rows:
        ratio = f"{theirs.sent / ours.sent:8.1f}x" if ours.sent else ""
        print(f"{what:24}{amount(ours):>22}{amount(theirs):>26}{ratio}")


def amount(moved: Moved) -> str:
    return f"{moved.sent / 1e6:.3f} MB, {moved.wall_s:.2f} s"
