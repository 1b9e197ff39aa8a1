"""The real CUDA build of torch, from the index that this machine is configured for, without its find-links folders."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.fetch import fetch
from launcher.gpu.model import Device, Node
from launcher.gpu.verdict import findings
from launcher.image.base.tree import BaseTree, read_tree
from launcher.image.tree import Slice
from launcher.indexes.settings import Indexes, configured
from launcher.indexes.simple import wheel_sources
from launcher.lock import Lock, Wheel, load
from launcher.lock.toolkits import toolkits
from launcher.resolve.gpu import derive
from launcher.resolve.python import resolve_python
from tests.elf_needs import expanded, needs

pytestmark = pytest.mark.services
TORCH = "torch==2.13.0"
HERE = {"python": "3.11.2", "libc": "glibc 2.36", "architecture": "amd64"}
OF_TORCH = ("7.5", "8.0", "8.6", "9.0", "10.0", "10.0a", "10.3f", "12.0")
heavy = pytest.mark.skipif(not os.environ.get("LAUNCHER_HEAVY"), reason="3 GB: set LAUNCHER_HEAVY=1")
FROM_THE_NODE = ("libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-nvvm.so.4")


@pytest.fixture(scope="module")
def index() -> Indexes:
    """This machine's indexes: a find-links folder may hold a build of torch without CUDA, which would be taken."""
    return replace(configured(), find_links=())


@pytest.fixture(scope="module")
def wheels(index: Indexes, shared_cache: Cache) -> tuple[Wheel, ...]:
    return resolve_python((TORCH,), **HERE, indexes=index, cache=shared_cache)


@pytest.mark.slow
def test_what_torch_needs_is_read_out_of_its_wheel(
    wheels: tuple[Wheel, ...], index: Indexes, shared_cache: Cache
) -> None:
    told = [wheel for wheel in wheels if wheel.name == "torch" or wheel.name.startswith("nvidia-")]
    [torch] = [wheel for wheel in told if wheel.name == "torch"]
    started = time.monotonic()
    paths = fetch((torch,), shared_cache, wheel_sources(index, strict=True))  # 0.5 GB; none of the other 2 are fetched
    fetched = time.monotonic()
    gpu = derive(told, paths, None, shared_cache)
    print(f"fetched in {fetched - started:.1f} s, read in {time.monotonic() - fetched:.1f} s: {gpu}")
    assert gpu is not None
    versions = {wheel.name: wheel.version for wheel in told}
    assert (gpu.cuda, gpu.cudart) == ("13.0", versions["nvidia-cuda-runtime"])
    assert (gpu.cudnn, gpu.nccl) == (versions["nvidia-cudnn-cu13"], versions["nvidia-nccl-cu13"])
    assert (gpu.driver, gpu.driver_exact) == ("580.65.06", "580.65.06")
    [code] = gpu.code
    assert (code.name, code.source, code.cubins, code.ptx) == ("torch", "elf", OF_TORCH, ())
    for capability, driver, verdict in (
        ("9.0", "580.65.06", "ok"), ("8.9", "580.65.06", "ok"), ("12.1", "580.65.06", "ok"),
        ("7.0", "580.65.06", "refused"), ("9.0", "575.57.08", "refused"), ("9.0", None, "unknown"),
    ):  # fmt: skip
        node = Node(driver=driver, devices=(Device(index=0, capability=capability),), source="nvml")
        found = {one.verdict for one in findings(gpu, node, toolkits=toolkits())} - {"ok"}
        assert found == ({verdict} - {"ok"}), (capability, driver)


@pytest.fixture(scope="module")
def whole(index: Indexes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a spec and its lock and image, made by the command line as a user would."""
    folder = tmp_path_factory.mktemp("whole")
    spec = f"name: whole\nimage:\n  base: debian:bookworm\n  cuda: '13.0'\n  pip: ['{TORCH}']\nrun: 'true'\n"
    (folder / "experiment.yaml").write_text(spec)
    told = {"PIP_INDEX_URL": index.default, "PIP_EXTRA_INDEX_URL": " ".join(index.extra)}
    env = {key: value for key, value in os.environ.items() if key != "PIP_FIND_LINKS"}
    env |= {key: value for key, value in told.items() if value} | {"PIP_CONFIG_FILE": os.devnull}
    for verb in (["lock"], ["build", "--frozen"]):
        started = time.monotonic()
        args = [sys.executable, "-m", "launcher", *verb, "experiment.yaml"]
        done = subprocess.run(args, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
        print(f"{verb[0]}: {time.monotonic() - started:.1f} s, at most {peak} MiB")
        assert peak < 1024
    yield folder


@heavy
@pytest.mark.heavy
@pytest.mark.slow
def test_a_whole_image_with_cuda_finds_all_its_libraries(whole: Path) -> None:
    lock = load(whole / "experiment.lock")
    assert lock.gpu and lock.gpu.cuda == "13.0" and lock.image
    for layer in lock.image.layers:
        print(f"{layer.name}: {layer.size / 1e6:.1f} MB")
    tree = tree_of(lock)
    places = {path.rpartition("/")[2] for path, entry in tree.entries.items() if entry.kind != "dir"}
    assert not places & {"libcuda.so", "libcuda.so.1"} or all("stubs/" in path for path in named(tree, "libcuda.so"))
    looked = {path: missing(tree, path) for path in named(tree, ".so") if "/torch/lib/" in path}
    assert any(path.endswith("libtorch_cuda.so") for path in looked)
    assert {path: lost for path, lost in looked.items() if lost} == {}


def tree_of(lock: Lock) -> BaseTree:
    cache = Cache()
    assert lock.image
    blobs = [cache.find("blobs", layer.diff_id) for layer in lock.image.layers]
    return read_tree([path for path in blobs if path])


def named(tree: BaseTree, part: str) -> list[str]:
    return [path for path, entry in tree.entries.items() if entry.kind == "file" and part in path.rpartition("/")[2]]


def missing(tree: BaseTree, path: str) -> list[str]:
    """Return the libraries that a shared object needs and that its own folders and the system's lack."""
    entry = tree.entries[path]
    found = needs(Slice(tree.layers[entry.layer], entry.offset, entry.size))
    if found is None:
        return []
    folders = [expanded(folder, path) for folder in found.folders]
    folders += ["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"]
    return [
        name
        for name in found.libraries
        if name not in FROM_THE_NODE and not any(tree.find(f"{folder}/{name}") for folder in folders)
    ]
