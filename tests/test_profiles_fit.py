"""Whether a job fits a site: pure comparisons, each refusal with the way out, and nothing unknown refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from launcher.findings import Finding
from launcher.gpu.model import Code, Gpu
from launcher.lock.toolkits import toolkits
from launcher.profiles import Kind, Partition, Profile, Qos
from launcher.profiles.fit import compare, refusals
from launcher.profiles.gres import Gpus as Told
from launcher.profiles.gres import gpus, split
from launcher.spec.model import Gpus, Resources

CPU = Kind(count=10, cpus=64, memory_mb=250_000, architecture="amd64")
H100 = Kind(
    count=4,
    cpus=32,
    memory_mb=500_000,
    gres=("gpu:h100:8",),
    architecture="amd64",
    gpu="NVIDIA H100 80GB HBM3",
    driver="550.54.15",
    capability="9.0",
    gpu_memory_mb=81_559,
)
V100 = replace(H100, count=2, gres=("gpu:v100:4",), gpu="Tesla V100-SXM2-32GB", capability="7.0")
ARM = Kind(count=1, cpus=72, architecture="arm64")
SITE = Profile(
    name="lab",
    partitions=(
        Partition(name="cpu", default=True, nodes=10, max_time_s=172_800, max_nodes=4, kinds=(CPU,)),
        Partition(name="gpu", nodes=6, max_time_s=86_400, kinds=(H100, V100), allow_accounts=("ml",), qos="part"),
        Partition(name="arm", nodes=1, kinds=(ARM,), allow_qos=("long",)),
    ),
    accounts=("ml", "bio"),
    default_account="ml",
    qoses=(
        Qos(name="short", max_time_s=3600, max_nodes=2, max_cpus=64, max_gpus=4, max_memory_mb=100_000),
        Qos(name="part", max_gpus=16),
        Qos(name="long"),
    ),
    enforced=("associations", "limits", "qos"),
)
GPU_SITE = replace(SITE, partition="gpu")
CUDA = Gpu(
    cuda="12.6",
    driver="525.60.13",
    driver_exact="560.28.03",
    code=(Code(name="torch", version="2.7.1", cubins=("7.0", "9.0"), source="elf"),),
)


@dataclass(frozen=True)
class Job:
    resources: Resources = field(default_factory=Resources)


def job(gpus: str | int = 0, **asked: Any) -> Job:
    model, _, count = str(gpus).rpartition(":")
    return Job(Resources(gpus=Gpus(count=int(count), model=model or None), **asked))


def found(one: Job, site: Profile = SITE, gpu: Gpu | None = None, architecture: str | None = None) -> list[Finding]:
    told = compare(one, gpu, site, architecture=architecture, toolkits=toolkits())
    assert all(each.hint for each in told if each.verdict == "refused"), "what to do?"
    return told


def refused(one: Job, site: Profile = SITE, **more: Any) -> list[str]:
    return [each.says for each in found(one, site, **more) if each.verdict == "refused"]


@pytest.mark.parametrize(
    ("one", "site"),
    [
        (job(), SITE),
        (job(nodes=4, cpus=64, memory_bytes=250_000 << 20, time_s=172_800), SITE),
        (job("8", cpus=32), GPU_SITE),
        (job("H100:8", nodes=1), GPU_SITE),
        (job("h100:1"), GPU_SITE),
        (job("V100:4"), GPU_SITE),
        (job(), replace(SITE, partition="cpu,gpu")),
        (job("8"), replace(SITE, partition="cpu,gpu")),
        (job(), replace(SITE, account="bio", qos="short")),
        (job(cpus=64, time_s=3600), replace(SITE, qos="short")),
        (job(), replace(SITE, partition="arm", qos="long")),
    ],
)
def test_what_fits(one: Job, site: Profile) -> None:
    assert refused(one, site) == []


@pytest.mark.parametrize(
    ("one", "site", "says"),
    [
        (job(), replace(SITE, partition="gpus"), "there is no partition `gpus` on lab"),
        (job(), replace(SITE, partitions=SITE.partitions[1:]), "no partition is named"),
        (job(nodes=11), SITE, "11 nodes wanted, and `cpu` has 10"),
        (job(nodes=5), SITE, "lets one job have 4"),
        (job(cpus=65), SITE, "65 CPUs wanted on each node, and the largest node of `cpu` has 64"),
        (job(memory_bytes=1 << 40), SITE, "1048576 MiB wanted on each node"),
        (job(memory_bytes=(250_000 << 20) + 1), SITE, "250001 MiB wanted"),
        (job(time_s=172_801), SITE, "2-00:00:01 wanted, and `cpu` ends jobs after 2-00:00:00"),
        (job(1), SITE, "1 GPU wanted on each node, and the nodes of `cpu` have none"),
        (job(9), GPU_SITE, "9 GPUs wanted on each node, and the nodes of `gpu` have 8 x h100 or 4 x v100"),
        (job("A100:1"), GPU_SITE, "1 x A100 wanted"),
        (job("V100:5"), GPU_SITE, "5 x V100 wanted"),
        (job("H100:8", nodes=5), GPU_SITE, "5 nodes wanted, and 4 of `gpu` will do"),
        (job("V100:4", cpus=33), GPU_SITE, "33 CPUs wanted"),
        (job(), replace(SITE, account="physics"), "`physics` is no account of yours"),
        (job(), replace(SITE, default_account=None), "the site wants an account"),
        (job(), replace(GPU_SITE, account="bio"), "partition `gpu` doesn't take the account `bio`"),
        (job(), replace(SITE, qos="shrt"), "`shrt` is no QOS of yours"),
        (job(), replace(SITE, partition="arm", qos="short"), "partition `arm` doesn't take the QOS `short`"),
        (job(time_s=3601), replace(SITE, qos="short"), "the QOS `short` ends jobs after 01:00:00"),
        (job(nodes=3), replace(SITE, qos="short"), "3 nodes wanted in all, and the QOS `short` lets you have 2"),
        (job(cpus=33, nodes=2), replace(SITE, qos="short"), "66 CPUs wanted in all"),
        (job(5), replace(GPU_SITE, qos="short"), "5 GPUs wanted in all"),
        (job(8, nodes=3), GPU_SITE, "24 GPUs wanted in all, and the QOS `part` lets you have 16"),
        (job(memory_bytes=150_000 << 20), replace(SITE, qos="short"), "150000 MiB wanted in all"),
        (job(time_s=7200), replace(SITE, default_qos="short"), "the QOS `short`"),
    ],
)
def test_what_does_not(one: Job, site: Profile, says: str) -> None:
    assert any(says in told for told in refused(one, site)), refused(one, site)


def test_nothing_at_once_has_it_all() -> None:
    site = replace(SITE, partitions=(replace(SITE.partitions[0], kinds=(CPU, H100)),))
    [says] = refused(job(1, cpus=64), site)
    assert says.startswith("no node of `cpu` has all of it at once: 64 CPUs")


def test_every_reason_is_told_at_once() -> None:
    problems = refusals(job(9, cpus=99, time_s=10**6, nodes=99), None, replace(GPU_SITE, account="bio"))
    assert len(problems) == 6 and all(problem.hint for problem in problems)


def test_hints_lead_out() -> None:
    hints = {one.subject: one.hint for one in found(job(1, time_s=10**6)) if one.verdict == "refused"}
    assert 'partition = "gpu"' in (hints["gpus"] or "")
    assert "2-00:00:00" in (hints["time"] or "") and "checkpoints" in (hints["time"] or "")
    [problem] = refusals(job(), None, replace(SITE, partition="gp"))
    assert problem.hint == "did you mean `gpu`?"


@pytest.mark.parametrize("enforced", [(), ("wckeys",)])
def test_what_slurm_does_not_enforce_refuses_nothing(enforced: tuple[str, ...]) -> None:
    site = replace(SITE, enforced=enforced, account="physics", qos="shrt", default_account=None)
    expected = ["`physics` is no account of yours", "`shrt` is no QOS of yours"] if enforced else []
    assert sorted(refused(job(nodes=3, time_s=4000), site)) == expected


def test_what_is_unknown_refuses_nothing() -> None:
    bare = Profile(name="lab", partitions=(Partition(name="all", default=True),))
    everything = job("H100:8", nodes=9, cpus=999, memory_bytes=1 << 50, time_s=10**7)
    assert refused(everything, Profile(name="lab")) == []
    told = found(everything, replace(bare, partitions=(Partition(name="all", default=True, kinds=(Kind(count=9),)),)))
    assert [one.says for one in told if one.verdict == "refused"] == [
        "8 x H100 wanted on each node, and the nodes of `all` have none"
    ], "nodes that were seen have the GPUs that they said, and no others"
    unknown = {one.subject for one in told if one.verdict == "unknown"}
    assert {"cpus", "memory"} <= unknown


def test_a_partition_that_is_down_today_refuses_nothing() -> None:
    site = replace(SITE, partitions=tuple(replace(one, up=False) for one in SITE.partitions))
    assert refused(job(), site) == []


@pytest.mark.parametrize(
    ("gres", "seen", "verdict"),
    [
        (("gpu:8",), None, "unknown"),
        (("gpu:8",), "NVIDIA H100 80GB HBM3", "ok"),
        (("gpu:8",), "NVIDIA A100-SXM4-80GB", "refused"),
        (("gpu:nvidia_h100_80gb_hbm3:8",), None, "ok"),
        (("gpu:hopper:8",), "NVIDIA H100 80GB HBM3", "ok"),
        (("gpu:a100:8", "gpu:h100:1"), None, "refused"),
        (("shard:h100:8",), None, "refused"),
    ],
)
def test_models_are_known_by_slurms_word_or_the_drivers(gres: tuple[str, ...], seen: str | None, verdict: str) -> None:
    kind = Kind(gres=gres, gpu=seen)
    site = replace(SITE, partition="gpu", partitions=(Partition(name="gpu", nodes=1, kinds=(kind,)),))
    assert {one.verdict for one in found(job("H100:8"), site) if one.subject == "gpus"} == {verdict}


def test_another_architecture() -> None:
    assert refused(job(), replace(SITE, partition="arm", qos="long"), architecture="amd64") == [
        "the image is for linux/amd64, and the nodes of `arm` are arm64"
    ]
    assert refused(job(), architecture="amd64") == []


def driver(version: str | None, **more: str | None) -> Profile:
    kinds = (replace(H100, driver=version, **more),)  # type: ignore[arg-type]
    return replace(SITE, partition="gpu", partitions=(Partition(name="gpu", nodes=4, kinds=kinds),))


def test_a_driver_that_is_too_old_is_refused_before_sbatch() -> None:
    [problem] = refusals(job(1), CUDA, driver("520.61.05"), toolkits=toolkits())
    assert "driver 520.61.05 is too old: CUDA 12.6 needs 525.60.13" in problem.message
    assert "CUDA 11" in (problem.hint or "")
    assert refusals(job(1), CUDA, driver("525.60.13")) == ()
    assert refusals(job(1), CUDA, driver(None)) == ()
    assert refusals(job(0), CUDA, driver("450.1")) == (), "a job that asks for no GPU gets none"


def test_code_that_no_gpu_there_runs_is_refused() -> None:
    [problem] = refusals(job(1), CUDA, driver("570.10", capability="8.0"))
    assert "torch 2.7.1 has no code for" in problem.message


def test_a_persons_word_for_a_whole_partition_counts() -> None:
    partition = Partition(name="gpu", gres=("gpu:8",), driver="520.1", capability="9.0", nodes=2)
    site = replace(SITE, partition="gpu", partitions=(partition,))
    assert "driver 520.1 is too old" in refusals(job(1), CUDA, site)[0].message


def test_some_nodes_with_an_old_driver_are_warned_of() -> None:
    kinds = (H100, replace(H100, driver="520.61.05", count=1))
    site = replace(SITE, partition="gpu", partitions=(Partition(name="gpu", nodes=5, kinds=kinds),))
    told = found(job(1), site, CUDA)
    assert [one.subject for one in told if one.verdict == "warning"] == ["driver"]
    assert all(one.verdict != "refused" for one in told)


def test_a_time_limit_that_leaves_no_time_to_save_is_warned_of() -> None:
    told = found(job(time_s=100), SITE)
    assert [one.subject for one in told if one.verdict == "warning"] == ["time"]


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("(null)", []),
        ("gpu:2", [(None, 2)]),
        ("gpu:h100:8(S:0-1)", [("h100", 8)]),
        ("gpu:a100:4(S:0,1),gpu:1g.5gb:7,nvme:2", [("a100", 4), ("1g.5gb", 7)]),
        ("gpu", [(None, 1)]),
        ("", []),
    ],
)
def test_gres_is_read_as_slurm_writes_it(text: str, known: list[tuple[str | None, int]]) -> None:
    assert gpus(split(text)) == tuple(Told(type=name, count=count) for name, count in known)
