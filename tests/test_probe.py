"""The probe: what a node says of its GPUs, with a made-up driver, by every way there is."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from launcher.gpu.model import Device, Node
from launcher.gpu.probe import driver_version, probe, visible

CC = shutil.which("cc")
NVML = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#define H(d) ((long)(d))
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned sm, engines[5], slices[2]; unsigned long long mib; } attributes_t;
int nvmlInit_v2(void) { INIT }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { snprintf(s, n, "550.54.14"); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = 12040; return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { if (i == 1) return 4; *d = (void *)(long)(i + 1); return 0; }
int nvmlDeviceGetMigMode(void *d, unsigned *now, unsigned *later) { *now = *later = H(d) == 3; return 0; }
int nvmlDeviceGetMaxMigDeviceCount(void *d, unsigned *n) { *n = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *d, unsigned i, void **m) {
  if (i != 2) return 6; *m = (void *)30L; return 0; }
int nvmlDeviceGetUUID(void *d, char *s, unsigned n) {
  snprintf(s, n, H(d) == 30 ? "MIG-aaaa" : "GPU-%ld111", H(d)); return 0; }
int nvmlDeviceGetName(void *d, char *s, unsigned n) {
  snprintf(s, n, "NVIDIA H100 80GB HBM3%s", H(d) == 30 ? " MIG 1g.10gb" : ""); return 0; }
int nvmlDeviceGetMemoryInfo(void *d, memory_t *m) { m->total = H(d) == 30 ? 10ull << 30 : 80ull << 30; return 0; }
int nvmlDeviceGetCudaComputeCapability(void *d, int *a, int *b) {
  if (H(d) == 30) return 2; *a = 9; *b = 0; return 0; }
int nvmlDeviceGetAttributes_v2(void *d, attributes_t *a) {
  if (H(d) != 30) return 3; memset(a, 0, sizeof *a); a->sm = 16; return 0; }
int nvmlDeviceGetNumGpuCores(void *d, unsigned *n) { *n = 16896; return 0; }
"""
SMI = """#!/bin/sh
case "$*" in *compute_cap*) {new} ;; esac
echo '0, GPU-1111, NVIDIA A100-SXM4-40GB, 40960, {cap}535.104.05'
"""
INFORMATION = "Model: \t\t NVIDIA L4\nIRQ:   \t\t 87\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
VERSION = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  525.60.13  Wed Nov 30 06:39:21 UTC 2022\nGCC version: 12.2.0\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A node with a driver's files, and nothing that answers."""
    proc = tmp_path / "proc" / "driver" / "nvidia"
    proc.mkdir(parents=True)
    (proc / "version").write_text(VERSION)
    for minor, bus in enumerate(("0000:17:00.0", "0000:65:00.0")):
        (proc / "gpus" / bus).mkdir(parents=True)
        uuid = "GPU-????????-????-????-????-????????????" if minor else "GPU-2222"
        (proc / "gpus" / bus / "information").write_text(INFORMATION.format(uuid=uuid, minor=1 - minor))
    (tmp_path / "dev").mkdir()
    for name in ("nvidiactl", "nvidia0", "nvidia1"):
        (tmp_path / "dev" / name).touch()
    return tmp_path


def put_nvml(root: Path, init: str = "return 0;") -> Path:
    """Compile a library that answers as NVIDIA's does."""
    if CC is None:
        pytest.skip("there is no C compiler")
    place = root / "usr" / "lib64" / "libnvidia-ml.so.1"
    place.parent.mkdir(parents=True)
    command = [CC, "-shared", "-fPIC", f"-DINIT={init}", "-x", "c", "-o", str(place), "-"]
    subprocess.run(command, input=NVML.encode(), check=True)
    return place


def put_smi(root: Path, text: str) -> None:
    place = root / "usr" / "bin" / "nvidia-smi"
    place.parent.mkdir(parents=True)
    place.write_text(text)
    place.chmod(0o755)


@pytest.mark.alone
def test_a_node_without_a_driver_has_nothing_and_costs_nothing(tmp_path: Path) -> None:
    put_smi(tmp_path, "#!/bin/sh\nsleep 60\n")
    begun = time.perf_counter()
    assert probe(tmp_path) == Node(), "without /proc nothing can be told"
    (tmp_path / "proc").mkdir()
    assert probe(tmp_path) == Node(source="proc")
    assert time.perf_counter() - begun < 0.01


def test_nvml_tells_everything_also_of_slices_and_leaves_out_what_is_forbidden(root: Path) -> None:
    put_nvml(root)
    put_smi(root, "#!/bin/sh\nexit 9\n")
    whole = Device(
        index=0,
        uuid="GPU-1111",
        model="NVIDIA H100 80GB HBM3",
        capability="9.0",
        memory_bytes=80 << 30,
        multiprocessors=132,
    )
    piece = Device(
        index=2,
        uuid="MIG-aaaa",
        model="NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        capability="9.0",
        memory_bytes=10 << 30,
        multiprocessors=16,
    )
    assert probe(root) == Node(driver="550.54.14", cuda="12.4", devices=(whole, piece), source="nvml")


def test_nvml_is_found_in_a_named_folder(root: Path, tmp_path: Path) -> None:
    place = put_nvml(root)
    elsewhere = tmp_path / "elsewhere"
    place.parent.rename(elsewhere)
    assert probe(root).source == "proc"
    assert probe(root, folders=[str(elsewhere)]).source == "nvml"


def test_an_nvml_that_fails_is_followed_by_nvidia_smi(root: Path) -> None:
    put_nvml(root, "return 18;")  # NVML_ERROR_LIB_RM_VERSION_MISMATCH
    put_smi(root, SMI.format(new=":", cap="8.0, "))
    [device] = probe(root).devices
    assert (device.uuid, device.capability, device.memory_bytes) == ("GPU-1111", "8.0", 40960 << 20)
    assert (probe(root).driver, probe(root).source) == ("535.104.05", "nvidia-smi")


def test_an_nvml_that_crashes_is_no_trouble(root: Path) -> None:
    put_nvml(root, "*(int *)0 = 1; return 0;")
    assert probe(root).source == "proc"


def test_an_old_nvidia_smi_knows_no_capabilities(root: Path) -> None:
    put_smi(root, SMI.format(new="echo 'Field \"compute_cap\" is not a valid field'; exit 2", cap=""))
    [device] = probe(root).devices
    assert (device.model, device.capability) == ("NVIDIA A100-SXM4-40GB", None)


def test_what_nvidia_smi_does_not_know_stays_unknown(root: Path) -> None:
    put_smi(root, "#!/bin/sh\necho '0, [N/A], NVIDIA GB10, [N/A], 12.1, 580.95.05'\n")
    assert probe(root).devices == (Device(index=0, model="NVIDIA GB10", capability="12.1"),)


def test_the_drivers_own_files_are_read_for_the_gpus_that_are_here(root: Path) -> None:
    found = probe(root)
    assert (found.driver, found.source) == ("525.60.13", "proc")
    assert found.devices == (
        Device(index=0, model="NVIDIA L4"),
        Device(index=1, model="NVIDIA L4", uuid="GPU-2222"),
    )
    (root / "dev" / "nvidia1").unlink()
    assert [device.index for device in probe(root).devices] == [0], "the host's /proc lists another container's too"


@pytest.mark.parametrize(
    ("said", "version"),
    [
        (VERSION, "525.60.13"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build", "580.95.05"),
        ("", None),
    ],
)
def test_a_drivers_version_is_read(said: str, version: str | None) -> None:
    assert driver_version(said) == version


@pytest.mark.parametrize("way", ["nvml", "nvidia-smi"])
def test_a_driver_that_hangs_is_given_up_and_what_it_has_is_unknown(root: Path, way: str) -> None:
    put_nvml(root, "for (;;) pause();") if way == "nvml" else put_smi(root, "#!/bin/sh\nexec sleep 60\n")
    begun = time.monotonic()
    assert probe(root, timeout_s=0.3) == Node(driver="525.60.13")
    assert time.monotonic() - begun < 55, "and not the minute that it would take"


@pytest.mark.parametrize("said", ["", "{}", "[1]", '{"driver": 1, "cuda": 2, "devices": [{"strange": 1}]}', "\0"])
def test_odd_answers_are_no_trouble(root: Path, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "usr" / "lib").mkdir(parents=True)
    (root / "usr" / "lib" / "libnvidia-ml.so.1").write_text("no library")
    monkeypatch.setattr("launcher.gpu.probe.answer", lambda words, timeout_s: said)
    assert probe(root).driver == "525.60.13"


def test_odd_files_are_no_trouble(root: Path) -> None:
    (root / "proc/driver/nvidia/version").write_bytes(b"\xff\n")
    (root / "proc/driver/nvidia/gpus/0000:17:00.0/information").write_text("Device Minor: x\n")
    assert probe(root) == Node()


def test_this_machine_can_be_asked() -> None:
    found = probe()
    assert isinstance(found, Node)
    assert bool(found.devices) <= (found.driver is not None)
    if not os.path.exists("/proc/driver/nvidia"):  # noqa: PTH110
        assert found == Node(source="proc") or found.source == "nvml"


GPUS = (Device(index=0, uuid="GPU-aaaa1"), Device(index=1, uuid="GPU-bbbb2"), Device(index=3, uuid="MIG-cccc3"))


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (None, [0, 1, 3]),
        ("", []),
        ("1", [1]),
        ("1,0", [1, 0]),
        ("2", [3]),  # CUDA counts what it may see, whatever number the host gives it
        ("GPU-bbbb2,MIG-cccc", [1, 3]),
        ("0,7,1", [0]),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices_hides_gpus(value: str | None, seen: list[int]) -> None:
    found = visible(Node(devices=GPUS, source="nvml"), value)
    assert ([device.index for device in found.devices], found.source) == (seen, "nvml")


@pytest.mark.parametrize(
    ("device", "source", "value"),
    [(Device(index=0), "proc", "GPU-aaaa1"), (Device(index=0, uuid="GPU-aaaa1"), "nvidia-smi", "MIG-cccc3")],
)
def test_a_uuid_that_nobody_told_is_unknown_and_not_missing(device: Device, source: str, value: str) -> None:
    assert visible(Node(driver="1.2", devices=(device,), source=source), value) == Node(driver="1.2")
