"""The boxes that other tests rely on: real machines to whoever comes by ssh, and gone without a trace afterwards."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.box.model import PLACE
from tests.boxes import Box, Boxes
from tests.clusters import wait_until

pytestmark = pytest.mark.services
SHELL = r"""set -e; cd /
programs="/usr/bin/dash /usr/bin/sleep"
libraries=$(ldd $programs | grep -o '\s/[^ ]*' | sort -u)
tar -c --dereference $programs $libraries --transform 's,usr/bin/dash,bin/sh,' | docker import - shell:1
"""


@pytest.fixture(scope="module")
def box(boxes: Boxes) -> Box:
    one = boxes.new()
    one.exec(["sh", "-c", SHELL])
    return one


def over_ssh(box: Box, command: str, user: str = "root") -> str:
    done = subprocess.run(box.ssh(command, user=user), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def running(box: Box) -> list[str]:
    return box.engine.docker("ps", "--format", "{{.Names}}").split()


def test_a_box_is_a_machine_of_its_own(box: Box) -> None:
    told = over_ssh(box, "uname -n; id -un; ls / /home /root; ip route", user="ada").split()
    assert told[:2] == [box.name, "ada"]
    assert "default" not in told
    assert Path(__file__).parts[1] not in told or Path(__file__).parts[1] in ("home", "root", "tmp", "opt", "srv")
    assert "permission denied" in box.exec(["docker", "ps"], user="ada", check=False).stderr.decode()
    box.exec(["docker", "ps"], user="dora")


def test_what_the_engine_keeps_up_outlives_a_reboot_and_the_engine_s_death(box: Box) -> None:
    """`always`, for an engine that was killed takes `unless-stopped` for stopped by hand when it starts again."""
    for name in ("always", "unless-stopped"):
        box.engine.docker(
            "run", "-d", "--stop-timeout", "1", "--name", name, "--restart", name, "shell:1", "sleep", "1000"
        )
    box.engine.docker("run", "-d", "--stop-timeout", "1", "--name", "once", "shell:1", "sleep", "1000")
    box.root.joinpath("tmp", "left").touch()
    box.reboot()
    assert not box.root.joinpath("tmp", "left").exists()
    wait_until(lambda: sorted(running(box)) == ["always", "unless-stopped"], 60, "both are up again")
    box.engine.kill()
    assert len(box.processes("sleep")) == 3, "containers and the box's own run on"
    box.engine.start()
    wait_until(lambda: running(box) == ["always"], 60, "one is up again")
    box.engine.docker("rm", "-f", "always", "unless-stopped", "once")


def test_a_line_is_cut_delayed_and_counted(box: Box) -> None:
    received, _ = box.bytes()
    subprocess.run(box.ssh("cat >/dev/null"), input=bytes(1 << 20), check=True)
    assert 1 << 20 < box.bytes()[0] - received < 1.1 * (1 << 20)
    box.line(delay_ms=50, rate_mbit=20)
    try:
        begun = time.monotonic()
        subprocess.run(box.ssh("cat >/dev/null"), input=bytes(1 << 20), check=True)
        assert time.monotonic() - begun > 0.4 + 5 * 0.1, "so long take a megabyte and some turns"
    finally:
        box.line()
    follower = subprocess.Popen(box.ssh("while sleep 0.1; do echo x; done"), stdout=subprocess.PIPE)
    assert follower.stdout is not None
    follower.stdout.readline()
    box.cut()
    before = box.bytes()[0]
    time.sleep(1)
    assert box.bytes()[0] - before < 1000
    box.join()
    assert follower.stdout.read(20), "the connection lives on"
    box.restart_sshd()
    assert follower.wait(60) == 255
    follower.stdout.close()


def test_gpus_that_are_not_there_are_shown_and_handed_out(box: Box) -> None:
    box.fake_gpus(2, driver="535.104.05", capability="8.0", model="NVIDIA A100-SXM4-80GB")
    asked = "nvidia-smi --query-gpu=index,uuid,compute_cap,driver_version --format=csv,noheader,nounits"
    assert over_ssh(box, asked).splitlines()[1] == f"1, {box.gpu(1)}, 8.0, 535.104.05"
    told = box.engine.docker(
        "run", "--rm", "--gpus", f"device={box.gpu(1)}", "shell:1", "sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES"
    )
    assert told.strip() == box.gpu(1)


def test_boxes_stand_beside_each_other_without_an_engine_or_room(boxes: Boxes, box: Box) -> None:
    other = boxes.new(docker=False, cron=True, disk_mb=64)
    assert over_ssh(other, "command -v docker podman runc || echo none; pgrep -x cron | wc -l").split() == ["none", "1"]
    assert int(over_ssh(other, "df -m --output=size / | tail -n 1")) == 64
    assert over_ssh(other, "unshare --user --map-root-user --pid --fork --mount-proc id -u", user="ada") == "0\n"
    assert box.host != other.host
    other.off()
    assert over_ssh(box, "echo there") == "there\n"


def test_what_a_dead_test_left_is_removed_by_the_next(boxes: Boxes) -> None:
    """One that is killed while its box runs."""
    program = [sys.executable, "-m", "tests.boxes", "--no-docker"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as dying:
        assert dying.stdout is not None
        place = Path(dying.stdout.readline().decode().split()[2]).parent
        dying.kill()
    assert str(place).startswith(PLACE.format(""))
    assert (place / "1" / "run" / "machine").exists()
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as next_one:
        assert next_one.stdout is not None
        next_one.stdout.read(1)
        assert next_one.stdin is not None
        assert (place / "owner").read_text().split()[0] == str(next_one.pid)
        next_one.stdin.close()
        next_one.stdout.read()
    assert not place.exists()
    assert not Path("/sys/class/net", f"bx{place.name.rpartition('-')[2]}-host").exists()
