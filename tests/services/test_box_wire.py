"""What travels to a box that has been there before, counted on the box's own interface: what changed, and little more.

Counted are all bytes that the box receives and sends while `launcher run --on box --detach` works, headers and
acknowledgements included. What the run makes comes over when somebody attaches, and is told beside it.
"""

from __future__ import annotations

import os
import random
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.image import build
from launcher.image.oci import Image, Layer
from launcher.lock import load
from launcher.progress import SilentTask
from launcher.remote.sending import chunks_of, compressor, content
from tests.box_trials import Renter
from tests.boxes import Box, Boxes
from tests.index_server import Index, serve

pytestmark = [pytest.mark.services, pytest.mark.slow]
KIB = 1 << 10
FREE = 64 * KIB  # what a launch may cost beyond what changed
WHEEL_BYTES = 100 * KIB
SPEC = """
name: wire
image: {{base: debian:bookworm, python: "3.11", pip: [steady, changing=={version}]}}
run: python train.py
outputs: []
"""
SCRIPT = "import changing, steady\nprint('trained', flush=True)\n"
Figures = Callable[[str, object], None]


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    """An index with two small wheels; each version of the one that changes is made of other bytes."""
    with serve() as one:
        one.add("steady", content=noise(1))
        for version in (1, 2):
            one.add("changing", f"{version}.0", content=noise(10 + version))
        yield one


def noise(seed: int) -> str:
    return random.Random(seed).randbytes(WHEEL_BYTES // 2).hex()


@dataclass(kw_only=True)
class Desk(Renter):
    """A renter whose packages come from the index of the tests."""

    index: str
    version: str = "1.0"

    @property
    def surroundings(self) -> Mapping[str, str]:
        quiet = {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
        return {**super().surroundings, **quiet, "PIP_INDEX_URL": self.index}

    @property
    def spec(self) -> Path:
        return self.home / "project" / "experiment.yaml"

    def write(self, script: str = SCRIPT) -> None:
        self.spec.parent.mkdir(exist_ok=True)
        self.spec.write_text(SPEC.format(version=self.version))
        (self.spec.parent / "train.py").write_text(script)
        library = self.spec.parent / "library"
        library.mkdir(exist_ok=True)
        for number in range(200):
            (library / f"part_{number:03d}.py").write_text(f"NOISE = {noise(100 + number)[: 5000 + 97 * number]!r}\n")

    @property
    def image(self) -> Image:
        return build(load(self.spec.with_name("experiment.lock")), Cache(self.cache))


@pytest.fixture(scope="module")
def box(boxes: Boxes) -> Box:
    return boxes.new()


@pytest.fixture(scope="module")
def desk(box: Box, index: Index, shared_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Somebody who has launched once."""
    home = tmp_path_factory.mktemp("wire")
    where = {"place": str(home / "store"), "cache": shared_cache.root, "ssh_config": box.ssh_config}
    one = Desk(home=home, index=index.url, **where)  # type: ignore[arg-type]
    one.add(box)
    one.write()
    one.end(one.detached(box, one.spec))
    return one


def counted(box: Box, work: Callable[[], object]) -> int:
    """Return how many bytes the box received and sent meanwhile."""
    before = sum(box.bytes())
    work()
    return sum(box.bytes()) - before


def launched(desk: Desk, box: Box) -> tuple[int, int]:
    """Launch; return the bytes of that, and those of following the run to its end afterwards."""
    launch = counted(box, lambda: desk.detached(box, desk.spec))
    return launch, counted(box, lambda: desk.end(desk.runs()[-1]))


def compressed(layer: Layer) -> int:
    """Return how many bytes a layer is as it is sent."""
    return sum(map(len, content(chunks_of(layer.path), compressor(), SilentTask())))


def test_a_changed_line_of_code_costs_that_and_little_more(desk: Desk, box: Box, record_property: Figures) -> None:
    """There are 3 MB of code, which don't get smaller by compressing."""
    code = SCRIPT + "# another line\n"
    desk.write(script=code)
    launch, follow = launched(desk, box)
    record_property("figures", f"a line of code: {launch} bytes; following the run afterwards: {follow}")
    assert launch <= FREE + len(code)


def test_a_changed_small_wheel_costs_its_bundle_and_little_more(desk: Desk, box: Box, record_property: Figures) -> None:
    before = desk.image.diff_ids
    desk.version = "2.0"
    desk.write()
    launch, follow = launched(desk, box)
    new = [layer for layer in desk.image.layers if f"sha256:{layer.diff_id}" not in before]
    assert new and sum(layer.size for layer in new) < 10 * WHEEL_BYTES, "small wheels lie in small layers"
    bundle = sum(map(compressed, new))
    record_property("figures", f"a small wheel: {launch} bytes, {bundle} of them its bundle; following: {follow}")
    assert WHEEL_BYTES // 2 < bundle < launch <= bundle + FREE


def test_docker_save_and_load_costs_all_of_it(
    desk: Desk, box: Box, docker_engine: str, monkeypatch: pytest.MonkeyPatch, record_property: Figures
) -> None:
    """The box has this image already: by `docker save` it is sent all the same."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine)
    desk.call("build", str(desk.spec), "--docker")
    line = f"docker save {desk.image.tag} | {shlex.join(box.ssh('docker', 'load'))}"
    theirs = counted(box, lambda: subprocess.run(["sh", "-c", line], check=True, capture_output=True))
    desk.write(SCRIPT + "# and one more\n")
    ours, _ = launched(desk, box)
    record_property("figures", f"docker save | ssh docker load: {theirs} bytes; launcher: {ours}")
    assert theirs > 100 * ours
