"""`launcher.train`: checkpoints that are whole or not there, what comes back of them, metrics lines, seeds."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from launcher import train
from launcher.train import formats, saving

TOP = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's variables, as the runner gives them."""
    monkeypatch.setenv("LAUNCHER_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("LAUNCHER_METRICS", str(tmp_path / "metrics.jsonl"))
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


STATES: list[Any] = [
    {"step": 3, "loss": 0.1, "best": None, "names": ["a", "ä"]},
    {"random": random.Random(1).getstate(), "pair": (1, (2.5, "x"))},
    {"loss": math.inf},
    [],
    "a text",
    b"\0\xff",
]


@pytest.mark.parametrize("state", STATES)
def test_what_was_saved_comes_back(state: Any) -> None:
    path = train.save(7, state)
    assert path.stem == "step-00000007"
    assert path == train.latest()
    assert train.load(path) == state
    assert train.step_of(path) == 7


def test_nothing_is_what_comes_of_nothing() -> None:
    assert train.latest() is None
    assert train.load(train.latest()) is None


def test_random_goes_on_where_it_was() -> None:
    train.save(1, random.getstate())
    expected = random.random()
    random.setstate(train.load(train.latest()))
    assert random.random() == expected


def test_a_function_writes_a_file_or_a_folder(run: Path) -> None:
    def shards(folder: Path) -> None:
        folder.mkdir()
        (folder / "deep").mkdir()
        (folder / "deep" / "0").write_text("zero")
        (folder / "0").symlink_to("deep/0")

    path = train.save(20, shards)
    assert path == run / "checkpoints" / "step-00000020"
    assert (path / "0").read_text() == "zero"
    assert train.load(path) == path
    assert train.save(20, shards) == path, "a folder is replaced by a folder"
    model = train.save(21, lambda path: path.write_bytes(b"keras"), name="model-{step}.keras")
    assert (model.name, model.read_bytes()) == ("model-21.keras", b"keras")
    assert names(run / "checkpoints") == ["model-21.keras", "step-00000020"]


def test_the_place_where_a_function_writes_keeps_its_suffix_and_is_left_alone_by_the_runner() -> None:
    seen: list[str] = []
    train.save(1, lambda path: (seen.append(path.name), path.touch()), name="m.keras")
    assert seen == [".saving-m.keras"]


def test_files_and_folders_are_copied(run: Path) -> None:
    (run / "mine").mkdir()
    (run / "mine" / "a.txt").write_text("a")
    assert (train.save(1, run / "mine") / "a.txt").read_text() == "a"
    assert train.save(2, run / "mine" / "a.txt").name == "step-00000002.txt"
    assert (run / "mine" / "a.txt").exists()


def test_a_write_that_fails_leaves_the_one_before(run: Path) -> None:
    path = train.save(1, {"a": 1}, name="last")

    def broken(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.save(2, broken, name="last.json")
    assert train.load(path) == {"a": 1}
    assert names(run / "checkpoints") == ["last.json"]


def test_a_function_that_writes_nothing_is_told() -> None:
    with pytest.raises(FileNotFoundError, match="wrote nothing"):
        train.save(1, lambda path: None)


@pytest.mark.parametrize("name", ["../x", ".x", "a/b", ""])
def test_names_that_nobody_would_find(name: str) -> None:
    with pytest.raises(ValueError, match="no name for a checkpoint"):
        train.save(1, {}, name=name)
    with pytest.raises(ValueError, match="no name for a checkpoint"):
        train.save(1, lambda path: None, name=f"{name}.tmp")


class Model:
    def state_dict(self) -> dict[str, int]:
        return {}

    def __call__(self) -> None: ...


@pytest.mark.parametrize(("state", "why"), [(Model(), "state_dict"), (object(), "an? object"), ({1: 2}, "texts")])
def test_what_cannot_be_saved_is_told_before_anything_is_written(run: Path, state: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        train.save(1, state)
    assert not (run / "checkpoints").exists()


def test_latest_passes_over_what_is_not_whole(run: Path) -> None:
    whole = train.save(5, {"step": 5})
    folder = whole.parent
    for name in (".saving-step-9.json", "step-9.tmp", "step-9.part"):
        (folder / name).write_text("half")
    (folder / "step-10").mkdir()
    (folder / "link").symlink_to("step-9.tmp")
    assert train.latest() == whole
    for path in folder.iterdir():
        os.utime(path, (1, 1), follow_symlinks=False)
    later = train.save(10, {}, name="step-{step}")
    os.utime(later, (1, 1))
    assert train.latest() == later, "the step decides between files of one moment"


def test_synced_before_it_is_renamed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file and folder reaches the disk first, and the name last."""
    done: list[str] = []
    sync, replace = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(str(Path(f"/proc/self/fd/{fd}").readlink())), sync(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda path, to: (done.append("rename"), replace(path, to))[1])

    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / "x").touch()

    train.save(1, write)
    part, folder = str(run / "checkpoints" / ".saving-step-00000001"), str(run / "checkpoints")
    assert done == [f"{part}/x", part, "rename", folder]


def test_other_ranks_save_and_log_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert train.save(1, {"a": 1}).name == "step-00000001.json"
    train.log(1, loss=0.5)
    assert list(run.iterdir()) == []


class Group:
    """torch.distributed for threads: as much of it as `save` asks for."""

    def __init__(self, size: int) -> None:
        self.gate, self.local = threading.Barrier(size), threading.local()

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def get_rank(self) -> int:
        return int(self.local.rank)

    def barrier(self) -> None:
        self.gate.wait(10)


def test_many_processes_write_one_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch.distributed.checkpoint does: each rank its own file, the first one's rename last."""
    group = Group(3)
    monkeypatch.setitem(sys.modules, "torch.distributed", group)  # type: ignore[arg-type]

    def shard(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / str(group.get_rank())).write_text("shard")

    def process(rank: int) -> None:
        group.local.rank = rank
        for step in (1, 1, 2):
            paths.append(train.save(step, shard))

    paths: list[Path] = []
    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 9
    for path in set(paths):
        assert names(path) == ["0", "1", "2"]
    assert len(names(run / "checkpoints")) == 2


class Tensor:
    def __init__(self, *values: float) -> None:
        self.values = values

    def item(self) -> float:
        if len(self.values) != 1:
            raise ValueError("not a scalar")
        return self.values[0]


def test_metrics_are_lines(run: Path) -> None:
    train.log(3, loss=Tensor(0.5), split="test")
    train.log(acc=1)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 3, "loss": 0.5, "split": "test"}, {"acc": 1}]
    with pytest.raises(TypeError, match="the metric `loss` is no single number"):
        train.log(1, loss=Tensor(1, 2))


def test_lines_of_many_processes_never_mix(run: Path) -> None:
    script = "from launcher import train\nfor n in range(300): train.log(n, text='x' * 5000)"
    many = [subprocess.Popen([sys.executable, "-c", script], cwd=TOP) for _ in range(4)]
    assert [process.wait() for process in many] == [0] * 4
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 1200
    assert {len(row["text"]) for row in rows} == {5000}


def test_metrics_that_cannot_be_written_stop_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_METRICS", "/dev/full")
    with pytest.warns(RuntimeWarning, match="metrics are not written: /dev/full: No space left"):
        train.log(1, loss=1.0)


def test_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_SEED", "11")
    assert train.seed_everything() == 11
    assert random.random() == random.Random(11).random()
    assert train.seed_everything(2**40 + 1) == 2**40 + 1
    assert random.random() == random.Random(2**40 + 1).random()
    monkeypatch.delenv("LAUNCHER_SEED")
    assert train.seed_everything() == 0


def test_outside_of_a_run_it_works_in_the_working_directory(run: Path) -> None:
    script = "from launcher import train; train.log(1, a=2); print(train.save(1, {'a': 1})); print(train.latest())"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TOP)}
    done = subprocess.run([sys.executable, "-B", "-c", script], cwd=run, env=env, capture_output=True, text=True)
    assert done.stdout == "checkpoints/step-00000001.json\n" * 2, done.stderr
    assert (run / "metrics.jsonl").read_text() == '{"step": 1, "a": 2}\n'


def test_importing_it_is_light() -> None:
    heavy = "{'torch', 'numpy', 'click', 'obstore', 'yaml'}"
    script = f"import sys; from launcher import train; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=TOP, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_a_suffix_of_the_name_chooses_the_format() -> None:
    assert formats.writer({"a": 1}, "x.pt")[1] == ".pt"
    assert formats.writer({"a": 1}, "x-1.5")[1] == ".json"
    assert saving.named(3, "x-{step}", ".json") == "x-3.json"
    assert saving.named(3, "lr0.1", ".json") == "lr0.1.json"
