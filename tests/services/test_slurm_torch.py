"""Two nodes train one model by torchrun and gloo, on their CPUs, and ship one record."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from launcher import records
from launcher.cache import Cache
from launcher.store import keys
from tests.clusters import Cluster
from tests.trials import Site

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.heavy]

SPEC = """\
name: two
image:
  python: "3.11"
  pip: [torch==2.13.0, numpy>=2.2, scikit-learn>=1.6]  # the image of examples/torch
run: torchrun --nproc-per-node 1 train.py
resources: {nodes: 2, cpus: 2, memory: 3G}
outputs: [result.json]
"""
SCRIPT = """\
import json
import os
import socket
from pathlib import Path

import torch
from torch import distributed, nn

distributed.init_process_group("gloo")
rank, size = distributed.get_rank(), distributed.get_world_size()
torch.manual_seed(1)
model = nn.parallel.DistributedDataParallel(nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
torch.manual_seed(100 + rank)
data = torch.randn(64, 8)
losses = []
for _ in range(20):
    loss = (model(data) - data.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
weights = [torch.zeros(1, 8) for _ in range(size)]
distributed.all_gather(weights, model.module.weight.data)
hosts = [None] * size
distributed.all_gather_object(hosts, socket.gethostname())
if rank == 0:
    same = all(torch.equal(weights[0], other) for other in weights)
    told = {"size": size, "hosts": hosts, "same": same, "first": losses[0], "last": losses[-1]}
    Path(os.environ["LAUNCHER_OUTPUT_DIR"], "result.json").write_text(json.dumps(told))
    part = Path(os.environ["LAUNCHER_CHECKPOINT_DIR"], "model.pt.tmp")
    torch.save(model.module.state_dict(), part)
    part.rename(part.with_name("model.pt"))
distributed.destroy_process_group()
"""


@pytest.mark.skipif(not os.environ.get("LAUNCHER_HEAVY"), reason="PyTorch is large: set LAUNCHER_HEAVY=1")
def test_two_nodes_train_one_model(cluster: Cluster, shared_cache: Cache, tmp_path: Path) -> None:
    place = str(cluster.shared / f"store-torch-{os.getpid()}")
    site = Site(cluster=cluster, home=tmp_path, cache=shared_cache.root, place=place)
    spec = tmp_path / "experiment.yaml"
    spec.write_text(SPEC)
    (tmp_path / "train.py").write_text(SCRIPT)
    sweep = site.submit(spec)
    site.wait(sweep, seconds=600)
    [run] = site.plan(sweep).runs
    record = records.load(site.store, run)
    assert (record.state, record.complete, len(record.attempts)) == ("succeeded", True, 1), site.told(sweep)
    told = json.loads(site.store.get(keys.output(run, 1, "result.json")))
    assert told["size"] == 2
    assert len(set(told["hosts"])) == 2
    assert told["same"], "the nodes' models differ"
    assert told["last"] < told["first"]
