"""GPUs handed to containers, without one: who holds which, and what each runtime is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import TargetError
from launcher.gpu.model import Code, Device, Gpu, Node
from launcher.image.oci import Image
from launcher.spec.model import Gpus
from launcher.target import apptainer, docker, driver_files, gpus, podman
from launcher.target.model import Container
from launcher.target.sandbox import plan

A100 = "NVIDIA A100-SXM4-80GB"
DEVICES = tuple(Device(index=at, uuid=f"GPU-{at}{at}", model=A100 if at < 3 else "NVIDIA T4") for at in range(4))
NODE = Node(driver="550.54.14", devices=DEVICES, source="nvml")
LISTING = (
    "3 libs found in cache `/etc/ld.so.cache'\n"
    "\tlibnvidia-ml.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1\n"
    "\tlibcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1\n"
    "\tlibcuda.so.1 (libc6) => /usr/lib/i386-linux-gnu/libcuda.so.1\n"
    "\tlibcuda.so (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so\n"
    "\tlibcudart.so.12 (libc6,x86-64) => /opt/cuda/libcudart.so.12\n"
)


def container(*devices: Device) -> Container:
    image = Image(id="a" * 64, config=b"{}", manifest=b"{}", layers=())
    return Container(run="r", image=image, argv=("x",), env={}, mounts=(), user=1, group=1, gpus=devices)


def test_free_gpus_are_claimed_once(cache: Cache) -> None:
    first = gpus.claim(Gpus(count=2), NODE, "run-1", cache)
    second = gpus.claim(Gpus(count=1, model="A100"), NODE, "run-2", cache)
    assert [device.index for device in first.devices] == [0, 1]
    assert [device.index for device in second.devices] == [2]
    with pytest.raises(TargetError, match=r"2 GPUs, and 1 is free.*GPU 0 \(NVIDIA A100-SXM4-80GB\) by run-1.*by run-2"):
        gpus.claim(Gpus(count=2), NODE, "run-3", cache)
    gpus.claim(Gpus(count=1), NODE, "run-3", cache).release()  # the refused one let go of the T4
    first.release()
    assert len(gpus.claim(Gpus(count=3), NODE, "run-4", cache).devices) == 3
    second.release()


def test_the_environment_names_the_gpus() -> None:
    found = gpus.environment(DEVICES[:2], {"LD_LIBRARY_PATH": "/opt/lib"})
    assert found["CUDA_VISIBLE_DEVICES"] == found["NVIDIA_VISIBLE_DEVICES"] == "GPU-00,GPU-11"
    assert found["LD_LIBRARY_PATH"] == "/opt/lib:/.singularity.d/libs"
    assert gpus.environment((), {"NVIDIA_VISIBLE_DEVICES": "all"}) == {"NVIDIA_VISIBLE_DEVICES": "void"}
    assert gpus.environment((), {}) == {}


def test_docker_is_asked_by_uuid_or_by_cdi() -> None:
    asked = docker.options(container(*DEVICES[:2]))["device_requests"]
    assert [(one["DeviceIDs"], one["Capabilities"]) for one in asked] == [(["GPU-00", "GPU-11"], [["gpu"]])]
    [one] = docker.options(container(*DEVICES[:2]), ["nvidia.com/gpu=GPU-00", "nvidia.com/gpu=1"])["device_requests"]
    assert (one["Driver"], one["DeviceIDs"]) == ("cdi", ["nvidia.com/gpu=GPU-00", "nvidia.com/gpu=1"])
    assert docker.options(container())["device_requests"] == []


def test_podman_is_asked_by_cdi_where_a_specification_knows_all(tmp_path: Path) -> None:
    (tmp_path / "etc/cdi").mkdir(parents=True)
    text = 'kind: nvidia.com/gpu\ndevices:\n  - name: "0"\n  - name: all\n'
    (tmp_path / "etc/cdi/nvidia.yaml").write_text(text)
    assert gpus.cdi_names(DEVICES[:1], gpus.cdi_known(DEVICES[:1], tmp_path)) == ["nvidia.com/gpu=0"]
    assert gpus.cdi_names(DEVICES[:2], gpus.cdi_known(DEVICES[:2], tmp_path)) is None
    words = podman.arguments(container(DEVICES[0]), podman.Shown(words=("--device", "nvidia.com/gpu=0")))
    assert words[words.index("--device") + 1] == "nvidia.com/gpu=0"


def test_apptainer_is_asked_by_nv() -> None:
    assert "--nv" in apptainer.arguments(container(DEVICES[0]), Path("x.sif"))
    assert "--nv" not in apptainer.arguments(container(), Path("x.sif"))


def fake(root: Path, *names: str) -> Path:
    (root / "dev").mkdir()
    for name in names:
        (root / "dev" / name).touch()
    return root


def test_driver_files(tmp_path: Path) -> None:
    root = fake(tmp_path, "nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm")
    found = driver_files.driver_files(DEVICES[1:2], root, LISTING)
    assert found.devices == ("/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm")
    assert [(mount.target, str(mount.source)) for mount in found.mounts] == [
        (f"/.singularity.d/libs/{name}", f"/usr/lib/x86_64-linux-gnu/{name}")
        for name in ("libcuda.so", "libcuda.so.1", "libnvidia-ml.so.1")
    ]
    with pytest.raises(TargetError, match="no /dev/nvidia2"):
        driver_files.driver_files(DEVICES[2:3], root, LISTING)
    with pytest.raises(TargetError, match=r"libcuda\.so\.1"):
        driver_files.driver_files(DEVICES[:1], root, "")


def test_the_sandbox_binds_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fake(tmp_path, "nvidia0", "nvidiactl")
    monkeypatch.setattr(plan, "driver_files", lambda given: driver_files.driver_files(given, root, LISTING))
    steps = plan.actions(container(DEVICES[0]))
    assert ("bind", "/dev/nvidia0", "/dev/nvidia0", True) in steps
    library = "/usr/lib/x86_64-linux-gnu/libcuda.so.1"
    assert ("bind", library, "/.singularity.d/libs/libcuda.so.1", False) in steps
    assert not [step for step in plan.actions(container()) if "nvidia" in str(step)]


def test_gpus_without_uuids_are_told_by_their_places_in_what_is_seen() -> None:
    nameless = (Device(index=2), Device(index=5, uuid="GPU-5"))
    hidden, shown = (gpus.environment(nameless, {}, runtime) for runtime in ("sandbox", "apptainer"))
    assert (hidden["CUDA_VISIBLE_DEVICES"], shown["CUDA_VISIBLE_DEVICES"]) == ("0,1", "2,5")
    assert hidden["NVIDIA_VISIBLE_DEVICES"] == "2,GPU-5", "NVIDIA's runtimes count as the host does"
    assert hidden["CUDA_DEVICE_ORDER"] == shown["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_gpus_that_have_code_are_handed_out(cache: Cache) -> None:
    code = Code(name="torch", version="2.7.1", cubins=("8.0",), ptx=("8.0",), source="elf")
    cards = ("6.1", "9.0", "8.0", None)
    node = Node(driver="570.26", devices=tuple(Device(index=at, capability=card) for at, card in enumerate(cards)))
    needs = Gpu(cuda="12.6", driver="525.60.13", driver_exact="560.28.03", code=(code,))
    claimed = gpus.claim(Gpus(count=3), node, "run-1", cache, needs)
    assert [device.index for device in claimed.devices] == [2, 1, 3], "machine code, PTX, nobody knows"
    with pytest.raises(TargetError, match=r"1 GPU\b.* 0 are free.* with code"):
        gpus.claim(Gpus(count=1), node, "run-2", cache, needs)
    claimed.release()


def test_nobody_is_told_to_wait_for_gpus_that_are_not_there(cache: Cache) -> None:
    with pytest.raises(TargetError, match=r"wants 1 GPU of model T4, and this machine tells of none") as caught:
        gpus.claim(Gpus(count=1, model="T4"), Node(), "run-1", cache)
    assert caught.value.problems[0].hint is not None and "wait" not in caught.value.problems[0].hint
