"""A training that seeds nothing gives the same bits twice under `determinism: strict`, with a real PyTorch."""

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
name: strict
image:
  python: "3.11"
  pip: [torch==2.13.0, numpy>=2.2, scikit-learn>=1.6]  # the image of examples/torch
run: [python3, train.py]
resources: {cpus: 2}
"""
SCRIPT = '''\
"""Trains a small network on noise, with all that makes runs differ: unseeded numbers, threads, workers."""

import os
import random
from pathlib import Path

import numpy
import torch
from torch import nn


class Noise(torch.utils.data.Dataset):
    def __len__(self):
        return 256

    def __getitem__(self, at):
        x = torch.randn(64) + numpy.random.rand() + random.random()
        return x, x.sum().reshape(1)


def main():
    model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Dropout(0.3), nn.Linear(512, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=random.uniform(1e-4, 1e-3))
    for _ in range(3):
        for x, y in torch.utils.data.DataLoader(Noise(), batch_size=32, shuffle=True, num_workers=2):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
    folder = Path(os.environ["LAUNCHER_CHECKPOINT_DIR"])
    torch.save(model.state_dict(), folder / "model.pt.tmp")
    (folder / "model.pt.tmp").rename(folder / "model.pt")
    print(torch.are_deterministic_algorithms_enabled(), torch.get_num_threads())


main()
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strict") / "code"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    return folder


def weights(cache: Cache, folder: Path, **keys: object) -> tuple[str, dict[str, Any]]:
    """Run the spec with some keys added; return the sha256 of the checkpoint's file, and the record."""
    (folder / "experiment.yaml").write_text(SPEC + "".join(f"{name}: {value}\n" for name, value in keys.items()))
    store = folder.parent / "store"
    env = os.environ | {"LAUNCHER_CACHE": str(cache.root), "LAUNCHER_STORE": str(store)}
    command = [sys.executable, "-m", "launcher", "run", str(folder), "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    [checkpoint] = record["checkpoints"]
    [file] = json.loads((store / checkpoint["key"]).read_bytes())["files"]
    strict = keys["determinism"] == "strict"
    assert f"{strict} {2 if strict else ''}".strip() in done.stderr
    return file["sha256"], record


def test_an_unseeded_training_gives_the_same_bits_under_strict_alone(shared_cache: Cache, folder: Path) -> None:
    first, record = weights(shared_cache, folder, determinism="strict", seed=1)
    again, _ = weights(shared_cache, folder, determinism="strict", seed=1)
    other, _ = weights(shared_cache, folder, determinism="strict", seed=2)
    assert first == again
    assert first != other
    assert record["frameworks"]["torch"].startswith("2.13.0") and record["frameworks"]["world_size"] == 1
    loose = {weights(shared_cache, folder, determinism='"off"')[0] for _ in range(2)}
    assert len(loose) == 2, "the script differs by itself, so that the test above says something"
