"""The lock's [gpu] on its way: held against the spec, into the image's environment, into jobs."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from launcher.gpu.model import Code, Gpu
from launcher.image.nvidia import nvidia_variables
from launcher.image.oci import environment
from launcher.job import from_json, plan, to_json
from launcher.lock import Lock, Wheel, dumps, loads
from launcher.lock.check import problems
from launcher.lock.gpu import unmet
from launcher.lock.inputs import inputs
from launcher.spec.model import CodeSpec, GpuSpec, ImageSpec, Spec

TORCH = Code(name="torch", version="2.7.1", cubins=("7.0", "8.0", "9.0"), ptx=("9.0",), source="elf")
GPU = Gpu(
    cuda="12.6", cudart="12.6.77", cudnn="9.5.1.17", nccl="2.26.2",
    driver="525.60.13", driver_exact="560.28.03", code=(TORCH,),
)  # fmt: skip
NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


def spec(cuda: str | None = None, cudnn: str | None = None, **gpu: Any) -> Spec:
    image = ImageSpec(cuda=cuda, cudnn=cudnn)
    root = Path("/x")
    return Spec(
        name="x", image=image, code=CodeSpec(root=root), run="true", gpu=GpuSpec(**gpu), file=root / "experiment.yaml"
    )


def lock(gpu: Gpu | None = GPU, wheels: tuple[Wheel, ...] = ()) -> Lock:
    return Lock(
        inputs=inputs(spec()), suite="bookworm", architecture="amd64", python="3.11.2", libc="glibc 2.36",
        gpu=gpu, wheels=wheels,
    )  # fmt: skip


def wheel(filename: str) -> Wheel:
    name, version = filename.split("-")[:2]
    return Wheel(name=name, version=version, filename=filename, size=1, sha256="1" * 64)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"cuda": "12.6"},
        {"cuda": "12"},
        {"cuda": "12.6.77"},
        {"cuda": "12.6.3"},  # a toolkit's update, which a lock doesn't tell
        {"cuda": "12.6", "cudnn": "9.5"},
        {"cudnn": "9"},
        {"driver": "525.60.13"},
        {"driver": "550.54"},
        {"capability": ("7.0", "8.9", "9.0")},
        {"capability": ("10.0",)},  # by PTX; whether the drivers can isn't known
        {"capability": ("10.0",), "driver": "560.28.03"},
    ],
)
def test_asks_that_are_met(asked: dict[str, Any]) -> None:
    assert unmet(spec(**asked), lock()) == []
    assert problems(lock(), spec(**asked)) == ()


@pytest.mark.parametrize(
    ("asked", "key", "message", "hint"),
    [
        ({"cuda": "12.8"}, "image.cuda", "12.8 is asked for, and what is locked has CUDA 12.6", "--extra-index-url"),
        ({"cuda": "1"}, "image.cuda", "1 is asked for", "index"),
        ({"cuda": "12.6.68"}, "image.cuda", "(runtime 12.6.77)", "index"),
        ({"cudnn": "9.50"}, "image.cudnn", "9.50 is asked for, and what is locked has 9.5.1.17", "index"),
        ({"driver": "525.60.11"}, "gpu.driver", "nodes may have driver 525.60.11, and CUDA 12.6 needs", "CUDA 11.8"),
        ({"driver": "450"}, "gpu.driver", "needs 525.60.13", "update"),
        ({"capability": ("6.1",)}, "gpu.capability", "torch 2.7.1 has no code for a GPU (6.1)", "another build"),
        ({"capability": ("12.0",), "driver": "550.54"}, "gpu.capability", "can't read PTX of CUDA 12.6", "driver"),
    ],
)
def test_asks_that_are_not_met(asked: dict[str, Any], key: str, message: str, hint: str) -> None:
    [found] = unmet(spec(**asked), lock())
    assert found.where and (found.where.key, Path(found.where.file).name) == (key, "experiment.yaml")
    assert message in found.message
    assert found.hint and hint in found.hint
    assert problems(lock(), spec(**asked)) == (found,)


def test_all_that_is_not_met_is_told_at_once() -> None:
    asked = spec("13.0", "8", driver="470.1", capability=("6.1", "8.0"))
    keys = [found.where and found.where.key for found in unmet(asked, lock())]
    assert keys == ["image.cuda", "image.cudnn", "gpu.driver", "gpu.capability"]


def test_a_build_of_torch_without_cuda_is_named() -> None:
    cpu = wheel("torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl")
    [found] = unmet(spec("12.6"), lock(None, (cpu,)))
    assert "has none" in found.message
    assert found.hint and found.hint.startswith(cpu.filename) and "torch==2.13.0+cu126" in found.hint
    [bare] = unmet(spec("12.6"), lock(None))
    assert bare.hint and "nvidia-cuda-runtime" in bare.hint


def test_an_image_without_cuda_runs_on_any_node() -> None:
    assert unmet(spec(driver="450.80.02", capability=("9.0",)), lock(None)) == []


def test_what_cant_be_known_is_not_refused() -> None:
    unread = replace(TORCH, cubins=(), ptx=())
    future = Gpu(cuda="14.0", code=(unread,))
    assert unmet(spec("14.0", driver="450.80.02", capability=("5.0",)), lock(future)) == []


def test_a_lock_goes_through_toml_unchanged() -> None:
    for gpu in (GPU, Gpu(cuda="14"), Gpu(cuda="12", driver="525.60.13"), None):
        assert loads(dumps(lock(gpu))).gpu == gpu


def test_nvidias_variables_and_the_specs_above_them() -> None:
    assert not {key for key in environment(lock(None)) if key.startswith("NVIDIA_")}
    env = environment(replace(lock(), env={"NVIDIA_DRIVER_CAPABILITIES": "all"}))
    assert env["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert env["NVIDIA_DRIVER_CAPABILITIES"] == "all"
    assert env["NVIDIA_REQUIRE_CUDA"] == "cuda>=12.6 driver>=525.60.13"


def test_a_requirement_in_nvidias_words() -> None:
    assert nvidia_variables(Gpu(cuda="14.0"))["NVIDIA_REQUIRE_CUDA"] == "cuda>=14.0"
    assert nvidia_variables(Gpu(cuda="13", driver="580.65.06"))["NVIDIA_REQUIRE_CUDA"] == "cuda>=13.0 driver>=580.65.06"
    base = {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility,video", "NVIDIA_REQUIRE_CUDA": "cuda>=11.0"}
    over = nvidia_variables(GPU, base)
    assert over["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility,video"
    assert over["NVIDIA_REQUIRE_CUDA"] == "cuda>=12.6 driver>=525.60.13"


@pytest.mark.parametrize("gpu", [GPU, Gpu(cuda="14.0"), None])
def test_jobs_carry_it_and_old_ones_are_read(gpu: Gpu | None) -> None:
    [job] = plan(spec(), lock="1" * 64, image="2" * 64, code="3" * 64, now=NOW, entropy=b"\0\1\2\3", gpu=gpu)
    assert job.gpu == gpu
    assert from_json(to_json(job)) == job
    told = json.loads(to_json(job))
    del told["gpu"]
    assert from_json(json.dumps(told)) == replace(job, gpu=None)
