"""Images on their way to a box's engine: what it lacks and nothing else, through cuts, beside others, and without a
trace."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import TargetError
from launcher.image.oci import Image
from launcher.image.tree import Bytes, Entry
from launcher.profiles.model import Profile
from launcher.remote.delivery import prepare
from launcher.remote.engines import deliver
from launcher.remote.fabric import Fabric
from launcher.remote.openssh import OpenSSH
from tests.boxes import Box, Boxes
from tests.rootfs import image as image_of

pytestmark = pytest.mark.services
MB = 1 << 20
HEADERS = 1.2  # what TCP, SSH and HTTP add to the bytes themselves, and what the questions weigh
QUESTIONS = 300_000
Way = OpenSSH | Fabric


@pytest.fixture(scope="module")
def box(boxes: Boxes) -> Box:
    return boxes.new()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(params=["ssh"])
def way(request: pytest.FixtureRequest, box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    yield from opened(request.param, box, tmp_path, monkeypatch)


def opened(transport: str, box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    monkeypatch.setenv("LAUNCHER_SSH_CONFIG", str(box.ssh_config))
    monkeypatch.delenv("SSH_ASKPASS", raising=False)
    control = Path(f"/tmp/launcher-{random.randbytes(4).hex()}")
    shell = OpenSSH(box.name, control=control) if transport == "ssh" else Fabric(box.name)
    yield shell
    shell.close()
    if isinstance(shell, OpenSSH):
        shell.end()
        for path in control.glob("*"):
            path.unlink()
        control.rmdir()


def made(cache: Cache, *sizes: float, seed: object) -> Image:
    """Return an image of layers of so many megabytes, which nothing can compress."""
    chance = random.Random(f"{seed}")
    trees = []
    for number, size in enumerate(sizes):
        content = chance.randbytes(int(size * MB))
        trees.append({f"f{number}": Entry(path=f"f{number}", kind="file", mode=0o644, content=Bytes(content))})
    return image_of(cache, trees)


def profile_of(box: Box, **more: str) -> Profile:
    return Profile(name="box", kind="ssh", host=box.name, shared="/root/.launcher", runtime="docker", **more)


def sent(box: Box, work: Callable[[], object]) -> int:
    """Return how many bytes the box received meanwhile."""
    before = box.bytes()[0]
    work()
    return box.bytes()[0] - before


def loaded(box: Box, image: Image) -> list[str]:
    return box.engine.docker("image", "inspect", "-f", '{{join .RootFS.Layers "\\n"}}', image.tag).split()


def assert_no_trace(box: Box) -> None:
    told = box.engine.docker("image", "ls", "--all", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}")
    assert "127.0.0.1" not in told
    assert "<none> <none>" not in told
    assert list((box.root / "root/.launcher/tmp").iterdir()) == []


def test_an_image_and_then_what_is_new_of_another(box: Box, way: Way, cache: Cache) -> None:
    first = made(cache, 4, 2, 0.5, seed=1)
    _, tools = prepare(way, profile_of(box), [], cache)
    size = sent(box, lambda: deliver(way, profile_of(box), tools, first, cache))
    assert loaded(box, first) == first.diff_ids
    assert 6.5 * MB < size < 6.5 * MB * HEADERS + QUESTIONS
    assert_no_trace(box)
    trips = way.trips
    assert sent(box, lambda: deliver(way, profile_of(box), tools, first, cache)) < QUESTIONS / 10
    assert way.trips == trips + 1
    second = image_like(cache, first, 0.1)
    assert sent(box, lambda: deliver(way, profile_of(box), tools, second, cache)) < 0.1 * MB * HEADERS + QUESTIONS / 5
    assert loaded(box, second) == second.diff_ids
    assert_no_trace(box)


def image_like(cache: Cache, first: Image, size: float) -> Image:
    return made(cache, 4, 2, 0.5, size, seed=1)
