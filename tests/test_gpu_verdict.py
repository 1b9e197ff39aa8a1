"""Whether a driver and a GPU serve an image: a table of cases, and what is said when they don't."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.findings import Finding
from launcher.gpu.model import Code, Device, Gpu, Node
from launcher.gpu.serves import listed
from launcher.gpu.table import Toolkits
from launcher.gpu.verdict import findings, same_model
from launcher.gpu.versions import at_least, fields, matches
from launcher.lock.toolkits import toolkits
from launcher.spec.model import Gpus

TABLE = Path(__file__).parent / "golden" / "gpu" / "verdicts.csv"
TORCH_12_6 = "5.0 6.0 7.0 7.5 8.0 8.6 9.0"
TORCH_12_8 = "7.0 7.5 8.0 8.6 9.0 10.0 12.0"
SETS = {  # a name in the table: CUDA, machine code, PTX
    "cu118": ("11.8", "3.7 5.0 6.0 7.0 7.5 8.0 8.6 9.0", ""),
    "cu126": ("12.6", TORCH_12_6, ""),
    "cu128": ("12.8", TORCH_12_8, ""),
    "cu129": ("12.9", TORCH_12_8, "12.0"),
    "cu130": ("13.0", "7.5 8.0 8.6 9.0 10.0 10.0a 10.3f 12.0", ""),
    "ptx80": ("12.4", "", "8.0"),
    "sm86": ("12.6", "8.6", ""),
    "sm89": ("12.6", "8.9", ""),
    "sm87": ("12.6", "8.7", ""),
    "sm90a": ("12.6", "9.0a", ""),
    "sm100a": ("12.8", "10.0a", ""),
    "family": ("12.9", "10.0f", ""),
    "ptx90a": ("12.6", "", "9.0a"),
    "future": ("14.0", "9.0", ""),
    "futureptx": ("14.0", "", "9.0"),
    "unread": ("12.6", "", ""),
    "nocode": ("12.6", None, ""),
}


def gpu_of(name: str) -> Gpu:
    cuda, cubins, ptx = SETS[name]
    table = toolkits()
    code = () if cubins is None else (coded(cubins, ptx),)
    return Gpu(cuda=cuda, driver=table.floor(cuda), driver_exact=table.exact(cuda), code=code)


def coded(cubins: str, ptx: str = "") -> Code:
    return Code(name="torch", version="2.0", cubins=tuple(cubins.split()), ptx=tuple(ptx.split()), source="elf")


def rows() -> Iterator[dict[str, str]]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def known(value: str) -> str | None:
    return None if value == "unknown" else value


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: f"{row['set']}-{row['driver']}-{row['gpu']}")
def test_the_table_of_cases(row: dict[str, str]) -> None:
    device = Device(index=0, model="a GPU of the table", capability=known(row["gpu"]))
    node = Node(driver=known(row["driver"]), devices=(device,), source="nvml")
    found = {one.subject: one.verdict for one in findings(gpu_of(row["set"]), node, wanted=Gpus(count=1))}
    assert found == {"gpus": "ok", "driver": row["expected driver"], "code": row["expected code"]}, row["why"]


def test_the_table_is_as_long_as_was_asked() -> None:
    told = [tuple(row[key] for key in ("set", "driver", "gpu")) for row in rows()]
    assert len(told) >= 60
    assert len(set(told)) == len(told), "a case is there twice"
    assert {name for name, _, _ in told} == set(SETS)


H100 = Device(index=0, model="NVIDIA H100 80GB HBM3", capability="9.0", memory_bytes=80 << 30)
L4 = Device(index=1, model="NVIDIA L4", capability="8.9", memory_bytes=24 << 30)
NODE = Node(driver="560.28.03", cuda="12.6", devices=(H100, L4), source="nvml")


def verdicts(gpu: Gpu | None, node: Node, **more: object) -> dict[str, str]:
    return {one.subject: one.verdict for one in findings(gpu, node, **more)}  # type: ignore[arg-type]


def one(gpu: Gpu | None, node: Node, subject: str, **more: object) -> Finding:
    [found] = [f for f in findings(gpu, node, **more) if f.subject == subject and f.verdict != "ok"]  # type: ignore[arg-type]
    return found


def test_a_run_without_gpus_is_compared_with_nothing() -> None:
    assert findings(gpu_of("cu130"), Node(), wanted=Gpus(count=0)) == []


def test_an_image_without_cuda_needs_the_count_alone() -> None:
    assert verdicts(None, NODE, wanted=Gpus(count=2)) == {"gpus": "ok"}


@pytest.mark.parametrize(
    ("wanted", "verdict"),
    [
        (Gpus(count=1), "ok"),
        (Gpus(count=2), "ok"),
        (Gpus(count=3), "refused"),
        (Gpus(count=1, model="H100"), "ok"),
        (Gpus(count=2, model="H100"), "refused"),
        (Gpus(count=1, model="A100"), "refused"),
    ],
)
def test_count_and_model(wanted: Gpus, verdict: str) -> None:
    assert verdicts(None, NODE, wanted=wanted)["gpus"] == verdict


def test_a_node_that_says_nothing_is_unknown_and_not_refused() -> None:
    assert verdicts(gpu_of("cu126"), Node(), wanted=Gpus(count=1)) == {"gpus": "unknown", "driver": "unknown"}


def test_a_node_that_has_none_is_refused() -> None:
    assert verdicts(None, Node(driver="560.28.03", source="nvml"), wanted=Gpus(count=1)) == {"gpus": "refused"}


def test_a_gpu_without_a_name_may_be_the_one() -> None:
    node = Node(driver="560.28.03", devices=(Device(index=0),), source="proc")
    assert verdicts(None, node, wanted=Gpus(count=1, model="H100")) == {"gpus": "unknown"}


def test_only_gpus_of_the_model_are_judged() -> None:
    gpu = Gpu(cuda="12.6", driver="525.60.13", driver_exact="560.28.03", code=(coded("9.0"),))
    assert verdicts(gpu, NODE, wanted=Gpus(count=1, model="H100"))["code"] == "ok"
    refused = one(gpu, NODE, "code", wanted=Gpus(count=2))
    assert refused.verdict == "refused"
    assert refused.says == "torch 2.0 has no code for NVIDIA L4 (8.9): machine code for 9.0 and no PTX"


def test_a_card_that_isnt_needed_is_only_warned_of() -> None:
    gpu = Gpu(cuda="12.6", driver="525.60.13", driver_exact="560.28.03", code=(coded("9.0"),))
    assert one(gpu, NODE, "code", wanted=Gpus(count=1)).verdict == "warning"
    assert one(gpu, NODE, "code").verdict == "refused"  # an image for all of the node's


@pytest.mark.parametrize(
    ("memory", "verdict"), [(20 << 30, "ok"), (24 << 30, "ok"), ((24 << 30) + 1, "refused"), (80 << 30, "refused")]
)
def test_memory_of_the_smallest_gpu(memory: int, verdict: str) -> None:
    assert verdicts(None, NODE, memory_bytes=memory) == {"gpu memory": verdict}


def test_memory_that_nobody_tells_is_unknown() -> None:
    node = Node(driver="1.2.3", devices=(H100, Device(index=1)), source="proc")
    assert verdicts(None, node, memory_bytes=1) == {"gpu memory": "unknown"}


@pytest.mark.parametrize(
    ("asked", "model", "same"),
    [
        ("H100", "NVIDIA H100 80GB HBM3", True),
        ("h100", "NVIDIA H100 PCIe", True),
        ("A100-80GB", "NVIDIA A100-SXM4-80GB", True),
        ("A100-40GB", "NVIDIA A100-SXM4-80GB", False),
        ("RTX4090", "NVIDIA GeForce RTX 4090", True),
        ("RTX 4090", "NVIDIA GeForce RTX 4090", True),
        ("NVIDIA L4", "NVIDIA L4", True),
        ("L4", "NVIDIA L40S", False),
        ("H100", "NVIDIA GH200 480GB", False),
        ("H100", None, None),
    ],
)
def test_a_model_by_its_short_name(asked: str, model: str | None, same: bool | None) -> None:
    assert same_model(asked, model) is same


def test_an_old_driver_is_told_what_it_would_serve() -> None:
    node = Node(driver="550.54.14", devices=(H100,), source="nvml")
    found = one(gpu_of("cu130"), node, "driver", toolkits=toolkits())
    assert found.says == "driver 550.54.14 is too old: CUDA 13.0 needs 580.65.06 or newer"
    assert found.hint and "serves CUDA 12.x, and was made for 12.4" in found.hint and "cuda-compat" in found.hint


@pytest.mark.parametrize(
    ("wheels", "capability", "way_out"),
    [
        ("cu126", "12.0", "CUDA 12.8 or newer"),
        ("cu126", "10.3", "CUDA 12.9 or newer"),
        ("cu130", "7.0", "CUDA 12.9 or older"),
        ("cu130", "6.1", "CUDA 12.9 or older"),
        ("cu128", "6.1", "another build"),
    ],
)
def test_missing_code_says_which_cuda_would_have_it(wheels: str, capability: str, way_out: str) -> None:
    node = Node(driver="610.43.02", devices=(Device(index=0, capability=capability),), source="nvml")
    hint = one(gpu_of(wheels), node, "code", toolkits=toolkits()).hint
    assert hint and way_out in hint


def test_every_artifact_is_judged_on_every_kind_of_gpu_once() -> None:
    codes = (coded("8.0 9.0"), Code(name="flash-attn", version="3", cubins=("9.0a",), source="elf"))
    gpu = Gpu(cuda="12.6", driver="525.60.13", driver_exact="560.28.03", code=codes)
    node = Node(driver="560.28.03", devices=(H100, H100, L4), source="nvml")
    found = [f for f in findings(gpu, node) if f.subject == "code"]
    assert [f.verdict for f in found] == ["ok", "ok", "ok", "refused"]
    assert "flash-attn 3" in found[3].says


def test_drivers_and_versions_compare_by_all_fields() -> None:
    assert at_least("525.60.13", "525.60.13") and not at_least("525.60.11", "525.60.13")
    assert at_least("570.26", "570.26") and at_least("570.26.1", "570.26") and not at_least("570.26", "570.26.1")
    assert matches("12.6.77", "12.6") and not matches("12.60", "12.6") and not matches(None, "12")
    assert listed(("10.0", "9.0a", "9.0")) == "9.0, 9.0a and 10.0"


def test_the_shipped_table_is_sound() -> None:
    table = toolkits()
    assert table.floors == {"11": "450.80.02", "12": "525.60.13", "13": "580.65.06"}
    for cuda, driver in table.drivers.items():
        floor, exact = table.floor(cuda), table.exact(cuda)
        assert floor and exact and at_least(exact, floor), cuda
        assert at_least(max(driver, floor, key=fields), exact), cuda
    assert "12.7" not in {".".join(cuda.split(".")[:2]) for cuda in table.drivers}
    assert (table.exact("12.6"), table.exact("12.7"), table.exact("13")) == ("560.28.03", None, None)
    assert (table.newest("560.35.03"), table.newest("400.1"), table.family("450.80.02")) == ("12.6", None, "11")


def test_without_a_table_hints_stay_general() -> None:
    node = Node(driver="525.60.11", devices=(H100,), source="nvml")
    hint = one(gpu_of("cu126"), node, "driver", toolkits=Toolkits()).hint
    assert hint and hint.startswith("update the driver")
