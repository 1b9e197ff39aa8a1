"""The batch script: its text, and what it does around a host side that ends, fails or is killed."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import TargetError
from launcher.node.order import Order
from launcher.profiles.model import Profile
from launcher.slurm import script
from launcher.slurm.options import options
from launcher.store.access import Access
from tests.patience import LONG_S
from tests.submissions import job

GOLDEN = Path(__file__).parent / "golden" / "slurm" / "submission.sh"
NASTY = 'it\'s a "$HOME" `x` \\ & (ü) %a'


def text(shared: str, *, groups: tuple[tuple[int, ...], ...] = ((0,), (1,), (2,)), **profile: Any) -> str:
    site = Profile(name="lab", shared=shared, **profile)
    order = Order(
        sweep="tiny-0123456789ab",
        token="a1b2c3d4e5f6",
        number=1,
        groups=groups,
        plan=f"{shared}/plan.json",
        tools=f"{shared}/tools/x",
        profile=site,
        store=Access("s3://runs", {}, f"{shared}/secrets/x/store.json"),
        image="1" * 64,
    )
    return script.text(order, options(job(), site, pack=max(map(len, groups))), throttle=2)


def test_the_script_is_the_one_that_was_looked_at() -> None:
    """Write tests/golden/slurm/submission.sh anew, and look at it, when this fails for a reason."""
    found = text("/shared/ada", setup=("module load apptainer",), partition="main", options={"mail-type": "END"})
    assert found == GOLDEN.read_text()


def test_one_task_is_no_array() -> None:
    found = text("/shared/ada", groups=((0,),))
    assert "--array" not in found and "/0.out" in found


def test_a_folder_that_no_script_can_name_is_refused() -> None:
    with pytest.raises(TargetError, match="can't be named"):
        text("/shared/a\nb")
    with pytest.raises(TargetError, match="can't be named"):
        text("shared")


class Node:
    """Runs a batch script as a node would: with its own srun and scontrol, and a host side that is a few lines."""

    SRUN = '#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n'
    SCONTROL = '#!/bin/sh\necho "$@" >>"%s/requeued"\n[ ! -e "%s/refuses" ]\n'

    def __init__(self, folder: Path, host_side: str, shared: str = "shared", pack: int = 1) -> None:
        self.folder = folder
        self.shared = folder / shared
        self.submission = self.shared / "sweeps" / "tiny-0123456789ab" / "a1b2c3d4e5f6"
        self.submission.mkdir(parents=True)
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        self.program(bin_folder / "srun", self.SRUN)
        self.program(bin_folder / "scontrol", self.SCONTROL % (folder, folder))
        state = str(self.submission / "1.state.json").replace("'", "'\\''")
        head = f"#!/bin/sh\nstate='{state}'\nprintf '%s\\n' \"$*\" >'{folder}/words'\n"
        self.program(self.shared / "tools" / "x" / "bin" / "python", head + host_side)
        groups = tuple((i,) if pack == 1 else tuple(range(pack)) for i in range(3))
        (folder / "script").write_text(text(str(self.shared), groups=groups))

    @staticmethod
    def program(path: Path, content: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def start(self) -> subprocess.Popen[str]:
        env = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "11"}
        env |= {"SLURM_ARRAY_TASK_ID": "1", "TMPDIR": str(self.folder)}
        argv = ["bash", str(self.folder / "script")]
        return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self) -> tuple[int, str]:
        process = self.start()
        said, _ = process.communicate(timeout=LONG_S)
        return process.returncode, said

    @property
    def requeued(self) -> str:
        path = self.folder / "requeued"
        return path.read_text() if path.exists() else ""


SAYS = """echo '{"decision": "%s"}' >"$state"\n"""


def test_a_host_side_that_ends_gives_its_code(tmp_path: Path) -> None:
    node = Node(tmp_path, SAYS % "failed" + "exit 3\n")
    assert node.run() == (3, "")
    assert not node.requeued
    assert (node.submission / "job-11").exists()
    order = node.submission.with_suffix(".json")
    assert (tmp_path / "words").read_text() == f"-I -u -m launcher.node {order}\n"


@pytest.mark.parametrize("before", ["", SAYS % "running"])
def test_a_host_side_that_was_killed_is_queued_again(tmp_path: Path, before: str) -> None:
    node = Node(tmp_path, before + "kill -9 $$\n")
    process = node.start()
    while not node.requeued:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # as Slurm does then
    said, _ = process.communicate(timeout=LONG_S)
    assert node.requeued == "requeue 11_1\n"
    assert "was killed (code 137): it is queued again" in said


def test_a_host_side_that_is_killed_again_and_again_is_given_up(tmp_path: Path) -> None:
    node = Node(tmp_path, "kill -9 $$\n")
    (node.submission / "1.killed").write_text("killed with code 137\n" * 5)
    code, said = node.run()
    assert (code, node.requeued) == (137, "")
    assert "can't be queued again" in said and "launcher submit" in said


def test_where_slurm_does_not_requeue_the_person_is_told(tmp_path: Path) -> None:
    node = Node(tmp_path, "kill -9 $$\n")
    (tmp_path / "refuses").touch()
    code, said = node.run()
    assert code == 137 and "can't be queued again" in said


def test_what_an_earlier_attempt_said_is_forgotten(tmp_path: Path) -> None:
    node = Node(tmp_path, "kill -9 $$\n")
    (node.submission / "1.state.json").write_text(json.dumps({"decision": "requeue"}))
    (tmp_path / "refuses").touch()
    node.run()
    assert node.requeued


def test_a_job_that_slurm_ends_is_not_queued_again_by_us(tmp_path: Path) -> None:
    node = Node(tmp_path, "trap '' TERM\nsleep 1 & wait; kill -9 $$\n")
    process = node.start()
    while not (tmp_path / "words").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LONG_S)
    assert not node.requeued


def test_an_srun_that_gives_up_early_does_not_end_the_task(tmp_path: Path) -> None:
    """srun leaves after some seconds when Slurm ends a step, although the host side is still saving."""
    node = Node(tmp_path, "sleep 1\n" + SAYS % "requeue" + f"touch '{tmp_path}/saved'\n")
    node.program(tmp_path / "bin" / "srun", node.SRUN.replace('exec "$@"', 'setsid "$@" >/dev/null 2>&1 & sleep 0.3'))
    code, _ = node.run()
    assert (tmp_path / "saved").exists(), "the script ended before the host side did"
    assert code == 0 and not node.requeued


def test_packed_points_are_told_that_slurm_ends_the_job(tmp_path: Path) -> None:
    node = Node(
        tmp_path, "trap 'echo told; exit 75' TERM\n" + SAYS % "requeue" + "sleep 30 >/dev/null 2>&1 & wait\n", pack=2
    )
    process = node.start()
    while not (node.submission / "1.state.json").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=LONG_S)
    assert (process.returncode, said) == (75, "told\n")


def test_any_folder_works(tmp_path: Path) -> None:
    node = Node(tmp_path, SAYS % "done", shared=NASTY)
    assert node.run() == (0, "")
    assert (node.submission / "job-11").exists()
    assert "%%a/" in text(str(tmp_path / NASTY)), "Slurm would take a % for a place to fill in"


def test_nothing_that_opens_a_store_is_in_a_script() -> None:
    assert "secret" not in text("/shared/ada") and "s3://" not in text("/shared/ada")
