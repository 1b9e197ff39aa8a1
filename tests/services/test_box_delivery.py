"""Images on their way to a box's engine: what it lacks and nothing else, through cuts, beside others, and without a
trace."""

from __future__ import annotations

import fcntl
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import IntegrityError, TargetError
from launcher.image.oci import Image
from launcher.image.tree import Bytes, Entry
from launcher.profiles.model import Profile
from launcher.remote.arriving import SILENCE_S
from launcher.remote.delivery import prepare
from launcher.remote.engines import deliver
from launcher.remote.fabric import Fabric
from launcher.remote.openssh import OpenSSH
from launcher.remote.taking import mark_of
from tests.boxes import Box, Boxes
from tests.clusters import wait_until
from tests.rootfs import image as image_of

pytestmark = pytest.mark.services
MB = 1 << 20
HEADERS = 1.2  # what TCP, SSH and HTTP add to the bytes themselves, and what the questions weigh
QUESTIONS = 300_000
LAYERS = '{{join .RootFS.Layers " "}}'
STORAGE = '[storage]\ndriver = "vfs"\ngraphroot = "/var/lib/podman"\nrunroot = "/run/podman"\n'
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
    try:
        yield shell
    finally:
        shell.close()
        if isinstance(shell, OpenSSH):
            shell.end()
            for path in control.glob("*"):
                path.unlink(missing_ok=True)
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
    return box.engine.docker("image", "inspect", "-f", LAYERS, image.tag).split()


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


def test_cuts_cost_the_piece_in_flight(box: Box, way: Way, cache: Cache) -> None:
    """Connections end at random moments; what had come is never sent again."""
    image = made(cache, 6, 5, 4, seed=2)
    _, tools = prepare(way, profile_of(box), [], cache)
    chance, cuts = random.Random(2), 5
    box.line(rate_mbit=40)
    try:
        with cutting(box, [chance.uniform(0.3, 1.2) for _ in range(cuts)]):
            size = sent(box, lambda: deliver(way, profile_of(box), tools, image, cache))
    finally:
        box.line()
    assert loaded(box, image) == image.diff_ids
    assert 15 * MB < size < 15 * MB * HEADERS + (cuts + 1) * (QUESTIONS + 3 * MB)
    assert_no_trace(box)


@contextmanager
def cutting(box: Box, pauses: list[float]) -> Iterator[None]:
    def cut() -> None:
        for pause in pauses:
            time.sleep(pause)
            box.kill_sessions()

    thread = threading.Thread(target=cut)
    thread.start()
    yield
    thread.join()


def test_two_at_once_have_a_layer_sent_once(box: Box, way: Way, cache: Cache) -> None:
    one, other = made(cache, 6, 3, 1, seed=3), made(cache, 6, 3, 2, 1, seed=3)
    _, tools = prepare(way, profile_of(box), [], cache)
    box.line(rate_mbit=40)
    try:
        with ThreadPoolExecutor(3) as pool:
            images = [one, other, one]
            size = sent(box, lambda: list(pool.map(lambda x: deliver(way, profile_of(box), tools, x, cache), images)))
    finally:
        box.line()
    assert [loaded(box, x) for x in images] == [x.diff_ids for x in images]
    assert size < 13 * MB * HEADERS + 6 * QUESTIONS, "what differs: 6, 3, 1, 2, 1"
    assert_no_trace(box)


def test_where_sshd_leads_no_port_back_files_are_sent(box: Box, way: Way, cache: Cache) -> None:
    image = made(cache, 3, 2, 1, seed=4)
    _, tools = prepare(way, profile_of(box), [], cache)
    box.configure_sshd("AllowTcpForwarding no")
    try:
        size = sent(box, lambda: deliver(way, profile_of(box), tools, image, cache))
    finally:
        box.configure_sshd()
    assert loaded(box, image) == image.diff_ids
    assert size < 6 * MB * HEADERS + 2 * QUESTIONS
    assert_no_trace(box)
    assert not list((box.root / "root/.launcher/blobs").rglob("?" * 64)), "the engine has them"


def test_an_engine_that_is_restarted_meanwhile(box: Box, way: Way, cache: Cache) -> None:
    image = made(cache, 5, 4, seed=5)
    _, tools = prepare(way, profile_of(box), [], cache)
    box.line(rate_mbit=40)
    restarting = threading.Thread(target=lambda: (time.sleep(1), box.engine.kill(), box.engine.start()))
    restarting.start()
    try:
        with suppress(TargetError):
            deliver(way, profile_of(box), tools, image, cache)
        restarting.join()
        deliver(way, profile_of(box), tools, image, cache)
    finally:
        box.line()
    assert loaded(box, image) == image.diff_ids
    assert_no_trace(box)


def test_names_that_a_killed_one_left_are_taken_away(box: Box, way: Way, cache: Cache) -> None:
    """A name that nobody holds goes; one of somebody who lives stays."""
    left, living, image = made(cache, 1, seed=6), made(cache, 1, seed=7), made(cache, 1, seed=8)
    _, tools = prepare(way, profile_of(box), [], cache)
    names = {}
    for one, secret in ((left, "a" * 64), (living, "b" * 64)):
        deliver(way, profile_of(box), tools, one, cache)
        names[secret] = f"127.0.0.1:40000/{secret}:latest"
        box.engine.docker("tag", one.tag, names[secret])
        box.engine.docker("rmi", one.tag)
    tmp = box.root / "root/.launcher/tmp"
    for secret in names:
        mark = tmp / mark_of("", secret).name
        mark.touch()
    with mark.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        deliver(way, profile_of(box), tools, image, cache)
        told = box.engine.docker("image", "ls", "--format", "{{.Repository}}").split()
        assert f"127.0.0.1:40000/{'b' * 64}" in told
        assert f"127.0.0.1:40000/{'a' * 64}" not in told
    deliver(way, profile_of(box), tools, made(cache, 0.5, seed=9), cache)
    assert_no_trace(box)


def test_through_paramiko(box: Box, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for way in opened("fabric", box, tmp_path, monkeypatch):
        image = made(cache, 3, 1, seed=10)
        _, tools = prepare(way, profile_of(box), [], cache)
        deliver(way, profile_of(box), tools, image, cache)
        assert loaded(box, image) == image.diff_ids
    assert_no_trace(box)


def test_nobody_else_reads_along(box: Box, way: Way, cache: Cache) -> None:
    """While an image is under way its secret is in nobody's process list, and the port alone is worth nothing."""
    image = made(cache, 6, seed=11)
    _, tools = prepare(way, profile_of(box), [], cache)
    box.line(rate_mbit=20)
    thread = threading.Thread(target=deliver, args=(way, profile_of(box), tools, image, cache))
    thread.start()
    try:
        seen: set[str] = set()
        while thread.is_alive():
            seen |= {*box.exec(["ps", "-eo", "args"], user="ada").stdout.decode().splitlines()}
            time.sleep(0.1)
    finally:
        thread.join()
        box.line()
    assert any("launcher.remote.looking" in line for line in seen)
    assert not [line for line in seen if re.search(r"127\.0\.0\.1:\d+|[0-9a-f]{64}@", line)]


def test_an_engine_in_a_network_of_its_own_loads_what_it_lacks(box: Box, way: Way, cache: Cache) -> None:
    """As a rootless one: it finds nothing on our loopback."""
    place = "--data-root /var/lib/apart --exec-root /run/apart --pidfile /run/apart.pid -H unix:///run/apart.sock"
    options = f"{place} --bridge=none --iptables=false --config-file /root/apart.json"
    (box.root / "root/apart.json").write_text("{}")
    box.exec(["sh", "-c", f"setsid unshare --net dockerd {options} >/root/apart.log 2>&1 </dev/null &"])
    apart = ["docker", "-H", "unix:///run/apart.sock"]
    wait_until(lambda: box.exec([*apart, "version"], check=False).returncode == 0, 90, "the engine answers")
    profile = replace(profile_of(box), setup=("export DOCKER_HOST=unix:///run/apart.sock",))
    first, second = made(cache, 2, 1, seed=12), made(cache, 2, 1, 0.2, seed=12)
    _, tools = prepare(way, profile, [], cache)
    assert 3 * MB < sent(box, lambda: deliver(way, profile, tools, first, cache)) < 3 * MB * HEADERS + QUESTIONS
    assert sent(box, lambda: deliver(way, profile, tools, second, cache)) < 0.2 * MB * HEADERS + QUESTIONS
    for one in (first, second):
        told = box.exec([*apart, "image", "inspect", "-f", LAYERS, one.tag]).stdout.decode()
        assert told.split() == one.diff_ids
    assert_no_trace(box)


def test_podman_pulls_too(boxes: Boxes, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = boxes.new(docker=False, podman=True)
    (box.root / "etc/containers").mkdir(exist_ok=True)
    (box.root / "etc/containers/policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    (box.root / "etc/containers/storage.conf").write_text(STORAGE)
    profile = replace(profile_of(box), runtime="podman")
    first, second = made(cache, 2, 1, seed=13), made(cache, 2, 1, 0.2, seed=13)
    for way in opened("ssh", box, tmp_path, monkeypatch):
        _, tools = prepare(way, profile, [], cache)
        bring = partial(deliver, way, profile, tools, cache=cache)
        assert 3 * MB < sent(box, partial(bring, first)) < 3 * MB * HEADERS + QUESTIONS
        assert sent(box, partial(bring, second)) < 0.2 * MB * HEADERS + QUESTIONS
    told = box.exec(["podman", "image", "ls", "--all", "--format", "{{.Repository}}:{{.Tag}}"]).stdout.decode().split()
    assert sorted(told) == sorted(f"localhost/{one.tag}" for one in (first, second))
    assert list((box.root / "root/.launcher/tmp").iterdir()) == []


def test_a_cable_that_is_pulled_for_a_while(box: Box, way: Way, cache: Cache) -> None:
    """Nobody is told of it: what is silent for too long is given up, and gone on with over whatever way there is."""
    image = made(cache, 6, 2, seed=14)
    _, tools = prepare(way, profile_of(box), [], cache)
    box.line(rate_mbit=40)

    def pull() -> None:
        time.sleep(1.5)
        box.cut()
        time.sleep(SILENCE_S + 3)
        box.join()

    pulling = threading.Thread(target=pull)
    pulling.start()
    try:
        size = sent(box, lambda: deliver(way, profile_of(box), tools, image, cache))
        pulling.join()
    finally:
        box.line()
    assert loaded(box, image) == image.diff_ids
    assert size < 8 * MB * HEADERS + 3 * (QUESTIONS + 3 * MB)
    assert_no_trace(box)


def test_a_layer_that_was_damaged_here(box: Box, way: Way, cache: Cache) -> None:
    image = made(cache, 1, 0.5, seed=15)
    _, tools = prepare(way, profile_of(box), [], cache)
    with image.layers[1].path.open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"damaged")
    with pytest.raises(IntegrityError, match="damaged in the cache"):
        deliver(way, profile_of(box), tools, image, cache)
    assert not image.layers[1].path.exists()
    again = made(cache, 1, 0.5, seed=15)
    deliver(way, profile_of(box), tools, again, cache)
    assert loaded(box, again) == again.diff_ids
    assert_no_trace(box)
