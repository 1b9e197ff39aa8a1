"""`launcher.train` in a container, with the real numpy, torch, safetensors and torch.distributed.checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.cache import Cache

pytestmark = [pytest.mark.services, pytest.mark.slow]

SPEC = """\
name: frameworks
image:
  python: "3.11"
  pip: [torch==2.13.0, numpy>=2.2, scikit-learn>=1.6, safetensors>=0.5]  # examples/torch and one more
run: python one.py && python -m torch.distributed.run --nproc-per-node=2 --master-port={port} many.py
params: {port: 29511}
seed: 5
resources: {cpus: 2}
"""
ONE = """\
import numpy as np
import random
import torch
from launcher import train


def same(a, b):
    if isinstance(a, dict):
        return isinstance(b, dict) and set(a) == set(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


def check(state, suffix, **more):
    path = train.save(3, state, **more)
    assert path.suffix == suffix, path
    assert same(state, train.load(path)), (state, train.load(path))
    path.unlink()


assert train.seed_everything() == 5
drawn = random.random(), np.random.rand(), torch.rand(1).item()
train.seed_everything(5)
assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())

flat = {"w": np.arange(6.0).reshape(2, 3), "file": np.array(["ä", "b"]), "empty": np.zeros((0, 2), np.int8)}
check(flat, ".npz")
path = train.save(4, flat)
with np.load(path) as read:
    assert sorted(read.files) == sorted(flat), "numpy reads it as its own"
path.unlink()
check({"model": {"w": np.ones(3, np.float32)}, "step": 3, "path": ["a", (np.zeros(1), None)], "nan": "x"}, ".npz")
check(np.random.get_state(), ".npz")
check({"rng": np.random.default_rng(1).bit_generator.state}, ".json")
check([np.arange(3)], ".npz")
for odd in (np.array([object()]), {"half": np.zeros(2, np.dtype("V2"))}):
    try:
        train.save(3, odd)
        raise SystemExit("that was not refused")
    except TypeError as e:
        assert ".npz can't hold" in str(e), e

model = torch.nn.Linear(3, 2)
optimizer = torch.optim.Adam(model.parameters())
model(torch.ones(1, 3)).sum().backward()
optimizer.step()
whole = {
    "model": dict(model.state_dict()),
    "optimizer": optimizer.state_dict(),
    "random": (random.getstate(), np.random.get_state(), torch.get_rng_state()),
    "step": 3,
}
check(whole, ".pt")
check(dict(model.state_dict()), ".safetensors", name="weights-{step}.safetensors")
assert train.load(train.save(3, {"w": np.ones(2)}, name="n.safetensors"))["w"].tolist() == [1, 1]
train.log(1, loss=torch.tensor(0.5), accuracy=np.float32(0.25))
try:
    train.save(3, model)
    raise SystemExit("a module was saved whole")
except TypeError as e:
    assert "state_dict" in str(e)
"""
MANY = """\
import os
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from launcher import train

dist.init_process_group("gloo")
rank = dist.get_rank()
state = {"shard": torch.full((4,), float(rank)), "of": torch.tensor(rank)}
own = {f"{name}-{rank}": value for name, value in state.items()}
path = train.save(20, lambda folder: dcp.save(own, checkpoint_id=folder))
assert path.name == "step-00000020" and (path / ".metadata").exists(), os.listdir(path)
assert len([name for name in os.listdir(path) if name.endswith(".distcp")]) == 2
assert train.latest() == path
read = {name: torch.zeros_like(value) for name, value in own.items()}
dcp.load(read, checkpoint_id=train.latest())
assert all(torch.equal(read[name], own[name]) for name in own)
train.save(21, {"rank": torch.tensor(rank)}, name="plain-{step}")
dist.barrier()
assert train.load(train.latest().parent / "plain-21.pt")["rank"] == 0
train.log(21, rank=rank)
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory, shared_cache: Cache) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("frameworks")
    code = folder / "code"
    code.mkdir()
    for name, text in (("experiment.yaml", SPEC), ("one.py", ONE), ("many.py", MANY)):
        (code / name).write_text(text)
    env = os.environ | {"LAUNCHER_CACHE": str(shared_cache.root), "LAUNCHER_STORE": str(folder / "store")}
    port = f"port={20000 + os.getpid() % 10000}"
    command = [sys.executable, "-m", "launcher", "run", str(code), "--json", "-p", port]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_every_kind_of_state_comes_back_as_it_was(record: dict[str, Any]) -> None:
    assert record["state"] == "succeeded" and record["complete"]


def test_what_many_processes_wrote_is_kept_as_one_folder(record: dict[str, Any]) -> None:
    [sharded] = [found for found in record["checkpoints"] if found["name"] == "step-00000020"]
    assert sharded["files"] == 3, "two shards and what ties them together"


def test_metrics_are_numbers_and_rank_0_s_alone(record: dict[str, Any]) -> None:
    names = record["metrics"]["names"]
    assert (names["loss"]["last"], names["accuracy"]["last"]) == (0.5, 0.25)
    assert (names["rank"]["count"], names["rank"]["last"]) == (1, 0)
