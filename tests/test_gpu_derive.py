"""What an image needs of GPUs, read out of wheels and bases that the tests make."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import ImageError, ResolveError
from launcher.gpu.model import Code, Gpu
from launcher.image.base.tree import BaseEntry, BaseTree, read_tree
from launcher.lock import Deb, Wheel
from launcher.resolve.gpu import BaseFacts, derive, refuse_driver
from launcher.resolve.gpu.base import installed, versions_of
from launcher.resolve.gpu.fatbin import usual
from launcher.resolve.gpu.forward import Forward
from launcher.resolve.gpu.shared_object import device_code
from tests.conftest import Notes
from tests.fatbins import LZ4, compiled, container, entry, shared_object
from tests.wheels import wheel_bytes

TORCH = "from typing import Optional\n__version__ = '2.7.1+cu126'\ncuda: Optional[str] = {cuda}\nhip = None\n"
FILLER = bytes(range(256)) * 40


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def library(*targets: str) -> bytes:
    return shared_object([(".text", FILLER), (".nv_fatbin", compiled(*targets) * 3), (".data", FILLER)])


class Wheels:
    """Wheels on disk, as a lock names them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.wheels, self.paths = folder, list[Wheel](), dict[str, Path]()

    def add(self, name: str, version: str = "1.0", files: Mapping[str, bytes] | None = None) -> Wheel:
        data = wheel_bytes(name.replace("-", "_"), version, files)
        sha256 = hashlib.sha256(data).hexdigest()
        filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        (self.folder / filename).write_bytes(data)
        wheel = Wheel(name=name, version=version, filename=filename, size=len(data), sha256=sha256)
        self.wheels.append(wheel)
        self.paths[sha256] = self.folder / filename
        return wheel

    def torch(self, cuda: str | None = "12.6", version: str = "2.7.1", **files: bytes) -> None:
        found = {f"torch/lib/{name}.so": data for name, data in files.items()}
        said = TORCH.format(cuda=repr(cuda))
        self.add("torch", version, {"torch/version.py": said.encode(), "torch/__init__.py": b"", **found})


@pytest.fixture
def wheels(tmp_path: Path) -> Wheels:
    return Wheels(tmp_path)


def derived(wheels: Wheels, cache: Cache, base: BaseFacts | None = None) -> Gpu | None:
    return derive(wheels.wheels, wheels.paths, base, cache)


@pytest.mark.parametrize("size", [7, 64, 1000, 1 << 20])
def test_device_code_is_found_however_the_stream_is_cut(size: int) -> None:
    code = compiled("7.5", "8.6", "9.0a", "10.3f", "ptx 12.0")
    data = shared_object([(".text", FILLER), (".nv_fatbin", code * 2), ("__nv_relfatbin", code), (".data", FILLER)])
    targets = {("cubin", "7.5"), ("cubin", "8.6"), ("cubin", "9.0a"), ("cubin", "10.3f"), ("ptx", "12.0")}
    assert device_code(pieces(data, size)) == Counter(dict.fromkeys(targets, 3))


def test_headers_of_any_size_and_any_packing() -> None:
    one = container(entry("cubin", "10.0", header=112), entry("cubin", "8.0", flags=LZ4), entry("ptx", "8.0", flags=0))
    data = shared_object([(".nv_fatbin", one)])
    assert set(device_code([data])) == {("cubin", "10.0"), ("cubin", "8.0"), ("ptx", "8.0")}


def test_a_table_of_sections_that_comes_first_or_is_missing() -> None:
    sections = [(".text", FILLER), (".nv_fatbin", compiled("8.0"))]
    assert device_code([shared_object(sections, table_first=True)]) == {("cubin", "8.0"): 1}
    assert device_code([shared_object(sections, sections_told=False)]) == {("cubin", "8.0"): 1}


def test_what_only_looks_like_device_code_is_none() -> None:
    inside = FILLER + compiled("9.0") + FILLER  # in the middle of code, as a constant would be
    sections = [(".text", inside), (".nv_fatbin", compiled("8.0") + compiled("8.6"))]
    assert set(device_code([shared_object(sections)])) == {("cubin", "8.0"), ("cubin", "8.6")}
    assert not device_code([shared_object([(".nv_fatbin", container(entry("cubin", "8.0"), version=7))])])
    assert not device_code([b"#!/bin/sh\n" + compiled("8.0")])
    assert not device_code([b""])
    assert not device_code([b"\x7fELF\x02\x01"])


def test_a_file_that_ends_too_early_says_what_is_there() -> None:
    whole = shared_object([(".nv_fatbin", compiled("8.0") + compiled("8.6", "9.0"))], sections_told=False)
    for cut in range(0, len(whole), 13):
        assert set(device_code([whole[:cut]])) <= {("cubin", "8.0"), ("cubin", "8.6"), ("cubin", "9.0")}


def test_reading_forward_forgets_what_is_behind() -> None:
    stream = Forward(pieces(FILLER * 400, 1 << 12))
    assert stream.read(1_000_000, 4) == (FILLER * 400)[1_000_000:1_000_004]
    assert len(stream.data) < 3 << 12
    assert stream.find(b"\xff\x00\x01", 1_000_000, 1 << 40) == 1_000_000 + 256 - 1_000_000 % 256 - 1
    assert stream.find(b"nowhere", 1_000_300, 1_000_400) is None
    assert stream.read(1 << 40, 4) == b""


def test_a_few_kernels_for_one_more_gpu_promise_nothing() -> None:
    counts = Counter({("cubin", "8.0"): 100, ("cubin", "9.0"): 10, ("cubin", "9.0a"): 9, ("ptx", "9.0"): 1})
    assert usual(counts) == {("cubin", "8.0"), ("cubin", "9.0")}


def test_torch_with_its_libraries(wheels: Wheels, cache: Cache) -> None:
    wheels.torch(libtorch_cuda=library("8.0", "9.0", "ptx 9.0"), libtorch_cpu=shared_object([(".text", FILLER)]))
    wheels.add("nvidia-cuda-runtime-cu12", "12.6.77")
    wheels.add("nvidia-cudnn-cu12", "9.5.1.17")
    wheels.add("nvidia-nccl-cu12", "2.26.2")
    wheels.add("nvidia-cublas-cu12", "12.6.4.1", {"nvidia/cublas/lib/libcublas.so.12": library("5.0")})
    code = Code(name="torch", version="2.7.1", cubins=("8.0", "9.0"), ptx=("9.0",), source="elf")
    assert derived(wheels, cache) == Gpu(
        cuda="12.6", cudart="12.6.77", cudnn="9.5.1.17", nccl="2.26.2",
        driver="525.60.13", driver_exact="560.28.03", code=(code,),
    )  # fmt: skip


def test_cuda_13_has_names_without_its_number(wheels: Wheels, cache: Cache) -> None:
    wheels.torch("13.0", libtorch_cuda=library("9.0"))
    wheels.add("nvidia-cuda-runtime", "13.0.96")
    wheels.add("nvidia-cudnn-cu13", "9.20.0.48")
    found = derived(wheels, cache)
    assert found and (found.cuda, found.cudart, found.cudnn) == ("13.0", "13.0.96", "9.20.0.48")
    assert (found.driver, found.driver_exact) == ("580.65.06", "580.65.06")


def test_a_build_without_cuda_needs_nothing(wheels: Wheels, cache: Cache) -> None:
    wheels.torch(None)
    wheels.add("numpy", "2.0", {"numpy/core.so": shared_object([(".text", FILLER)])})
    assert derived(wheels, cache) is None


def test_what_was_read_is_noted_and_not_read_again(wheels: Wheels, cache: Cache) -> None:
    wheels.torch(libtorch_cuda=library("8.0"))
    first = derived(wheels, cache)
    note = cache.note("device-code-1", wheels.wheels[0].sha256)
    assert note == {"source": "elf", "cubins": ["8.0"], "ptx": []}
    cache.write_note("device-code-1", wheels.wheels[0].sha256, {"source": "elf", "cubins": ["7.0"], "ptx": []})
    second = derived(wheels, cache)
    assert first and second and second.code[0].cubins == ("7.0",)


def test_torchs_own_words_where_its_code_cant_be_read(wheels: Wheels, cache: Cache) -> None:
    said = FILLER + b"\0sm_80 sm_90a compute_120\0" + FILLER
    wheels.torch(libtorch_python=shared_object([(".rodata", said)]))
    found = derived(wheels, cache)
    assert found and found.code == (
        Code(name="torch", version="2.7.1", cubins=("8.0", "9.0a"), ptx=("12.0",), source="metadata"),
    )


def test_the_table_where_nothing_else_tells(wheels: Wheels, cache: Cache) -> None:
    wheels.torch("12.8", "2.7.1")
    found = derived(wheels, cache)
    assert found and found.code[0].source == "table"
    assert found.code[0].cubins == ("7.0", "7.5", "8.0", "8.6", "9.0", "10.0", "12.0")


def test_what_nothing_tells_stays_unknown(wheels: Wheels, cache: Cache) -> None:
    wheels.torch("14.2", "9.9")
    found = derived(wheels, cache)
    assert found == Gpu(cuda="14.2", code=(Code(name="torch", version="9.9", source="table"),))


def test_tensorflow_by_its_build_info_and_only_with_a_runtime(wheels: Wheels, cache: Cache) -> None:
    info = b"build_info = {'cuda_version': '12.5.1', 'cuda_compute_capabilities': ['sm_60', 'compute_90']}\n"
    wheels.add("tensorflow", "2.18", {"tensorflow/python/platform/build_info.py": info})
    assert derived(wheels, cache) is None
    wheels.add("nvidia-cuda-runtime-cu12", "12.5.82")
    found = derived(wheels, cache)
    assert found and found.cuda == "12.5"
    assert found.code == (Code(name="tensorflow", version="2.18", cubins=("6.0",), ptx=("9.0",), source="metadata"),)


@pytest.mark.parametrize(("name", "cuda"), [("cupy-cuda12x", "12"), ("jax-cuda13-plugin", "13")])
def test_a_name_that_tells_the_major_version_alone(wheels: Wheels, cache: Cache, name: str, cuda: str) -> None:
    wheels.add(name)
    found = derived(wheels, cache)
    assert found and (found.cuda, found.driver_exact) == (cuda, None)
    assert found.driver == {"12": "525.60.13", "13": "580.65.06"}[cuda]


def test_two_major_versions_are_told_and_the_newer_one_decides(wheels: Wheels, cache: Cache) -> None:
    wheels.torch("13.0", "2.13.0", libtorch_cuda=library("9.0"))
    wheels.add("nvidia-cuda-runtime-cu12", "12.9.79")
    notes = Notes()
    found = derive(wheels.wheels, wheels.paths, None, cache, notes)
    assert found and (found.cuda, found.driver) == ("13.0", "580.65.06")
    assert notes.said == ["several CUDA major versions are in one image (12.9, 13.0)"]


STATUS = """Package: cuda-cudart-12-6
Status: install ok installed
Version: 12.6.77-1
Description: x
 Package: not-this-one

Package: libnccl2
Status: install ok installed
Version: 2.23.4-1+cuda12.6

Package: libcudnn9-cuda-12
Status: deinstall ok config-files
Version: 9.1
"""
ENV = {"CUDA_VERSION": "12.6.3", "NV_CUDNN_VERSION": "9.5.1.17-1", "NCCL_VERSION": "2.0"}


def test_a_base_by_its_packages_and_variables(wheels: Wheels, cache: Cache) -> None:
    base = BaseFacts(env=ENV, installed=dict(installed(STATUS)))
    assert versions_of(base) == {"cuda": "12.6.3", "cudart": "12.6.77", "cudnn": "9.5.1.17", "nccl": "2.23.4"}
    assert derived(wheels, cache, base) == Gpu(
        cuda="12.6", cudart="12.6.77", cudnn="9.5.1.17", nccl="2.23.4", driver="525.60.13", driver_exact="560.28.03"
    )


def test_wheels_bring_their_own_above_a_base(wheels: Wheels, cache: Cache) -> None:
    wheels.torch("12.8", libtorch_cuda=library("9.0"))
    wheels.add("nvidia-cuda-runtime-cu12", "12.8.57")
    found = derived(wheels, cache, BaseFacts(env=ENV, installed=dict(installed(STATUS))))
    assert found and (found.cuda, found.cudart, found.cudnn) == ("12.8", "12.8.57", "9.5.1.17")


SITE = "opt/conda/lib/python3.11/site-packages"


@pytest.fixture
def torch_base(tmp_path: Path) -> BaseFacts:
    """A base whose own Python has torch, as images of frameworks do."""
    files = {"torch/version.py": TORCH.format(cuda="'12.6'").encode(), "torch/lib/libtorch_cuda.so": library("8.0")}
    layer = tmp_path / ("1" * 64)
    with tarfile.open(layer, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{SITE}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    there = {"torch": "2.7.1", "nvidia-cudnn-cu12": "9.5.1.17", "numpy": "2.0"}
    return BaseFacts.of({"PATH": "/opt/conda/bin"}, read_tree([layer]), there)


def test_a_framework_of_the_base_is_read_where_it_lies(wheels: Wheels, cache: Cache, torch_base: BaseFacts) -> None:
    code = Code(name="torch", version="2.7.1", cubins=("8.0",), source="elf")
    expected = Gpu(cuda="12.6", cudnn="9.5.1.17", driver="525.60.13", driver_exact="560.28.03", code=(code,))
    assert derived(wheels, cache, torch_base) == expected
    assert derived(wheels, cache, torch_base) == expected  # from the note


def test_a_framework_above_the_base_hides_the_bases_own(wheels: Wheels, cache: Cache, torch_base: BaseFacts) -> None:
    wheels.torch("12.8", "2.8.0", libtorch_cuda=library("9.0"))
    found = derived(wheels, cache, torch_base)
    assert found and found.cuda == "12.8"
    assert [(code.version, code.cubins) for code in found.code] == [("2.8.0", ("9.0",))]


def test_a_base_without_cuda(wheels: Wheels, cache: Cache) -> None:
    assert derived(wheels, cache, BaseFacts(env={"PATH": "/bin"}, installed={"libc6": "2.36-9"})) is None


@pytest.mark.parametrize("name", ["x/lib/libcuda.so.1", "x.libs/libcuda-0a1b2c3d.so.1", "x/libcuda.so.550.54.14"])
def test_a_wheel_with_the_drivers_library_is_refused(wheels: Wheels, name: str) -> None:
    wheels.add("x", files={name: b"x", "x/__init__.py": b""})
    with pytest.raises(ResolveError, match="belongs to the node"):
        refuse_driver(wheels.wheels, (), wheels.paths)


@pytest.mark.parametrize("name", ["nvidia/lib/stubs/libcuda.so", "x/libcudart.so.12", "x/libcudadevrt.a"])
def test_stubs_and_the_runtime_may_stay(wheels: Wheels, name: str) -> None:
    wheels.add("x", files={name: b"x", "x/__init__.py": b""})
    refuse_driver(wheels.wheels, (), wheels.paths)


def deb(name: str) -> Deb:
    return Deb(
        name=name, version="550.1", filename=f"{name}_550.1_amd64.deb", size=1, sha256="0" * 64,
        architecture="amd64", group="apt", pool=f"pool/non-free/n/{name}.deb",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["libcuda1", "libnvidia-compute-550-server", "cuda-compat-12-6", "nvidia-driver-libs"])
def test_packages_of_the_driver_are_refused(name: str) -> None:
    with pytest.raises(ResolveError, match=f"{name} 550.1 is of the driver"):
        refuse_driver((), (deb(name),), {})


def test_packages_of_the_toolkit_are_not() -> None:
    refuse_driver((), (deb("libcudart12"), deb("nvidia-cuda-toolkit"), deb("nvidia-modprobe"), deb("libcudnn9")), {})


def tree(path: str, size: int = 10) -> BaseTree:
    return BaseTree({path: BaseEntry(kind="file", mode=0o644, target="", layer=0, size=size)}, ())


def test_a_base_with_the_driver_is_refused_and_compatibility_packages_are_told_of() -> None:
    for path in ("usr/lib/x86_64-linux-gnu/libcuda.so.1", "usr/lib64/libcuda.so.550.54.14"):
        with pytest.raises(ImageError, match="the base has"):
            refuse_driver((), (), {}, tree(path))
    notes = Notes()
    refuse_driver((), (), {}, tree("usr/local/cuda-12.6/compat/libcuda.so.560.35.03"), notes)
    assert len(notes.said) == 1 and "compat" in notes.said[0]


def test_an_empty_file_that_a_mount_left_behind_is_nothing() -> None:
    refuse_driver((), (), {}, tree("usr/lib/x86_64-linux-gnu/libcuda.so.1", 0))
