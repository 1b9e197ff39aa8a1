"""What sbatch is asked for: a job's needs and a site's facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.errors import TargetError
from launcher.profiles.model import Partition, Profile
from launcher.slurm.options import Asked, model_name, options, partition
from launcher.spec.model import Gpus, Resources
from tests.submissions import job

MAIN = Partition(name="main", default=True, default_time_s=600, max_time_s=7200, cpus=8, memory_mb=16000)
GPU = Partition(name="gpu", cpus=64, memory_mb=512000, gres=("gpu:nvidia_h100_80gb_hbm3:8(S:0-1)",), max_time_s=86400)
SITE = Profile(name="lab", partitions=(MAIN, GPU))


def found(site: Profile = SITE, asked: Asked | None = None, pack: int = 1, **needs: Any) -> dict[str, Any]:
    return options(job(resources=Resources(**needs)), site, asked or Asked(), pack=pack)


def test_what_a_job_needs_is_asked_for() -> None:
    told = found(cpus=4, memory_bytes=3 * 2**30 + 1, time_s=5400, nodes=2)
    assert (told["cpus_per_task"], told["mem"], told["time"], told["nodes"]) == (4, "3073M", 90, 2)
    assert told["signal_delay_s"] == SITE.warn_s
    assert told["additional_parameters"] == {"requeue": True}
    assert "partition" not in told and "account" not in told, "the site's own default counts"


@pytest.mark.parametrize(
    ("site", "asked", "spec", "minutes"),
    [
        (SITE, None, None, 10),  # the partition's default
        (SITE, None, 61, 2),  # Slurm counts in minutes: rounded up
        (SITE, 1800, 5400, 30),
        (Profile(name="lab", warn_s=10), None, None, 60),  # the profile's
        (
            Profile(name="lab", warn_s=10, partitions=(Partition(name="m", default=True, max_time_s=900),)),
            None,
            None,
            15,
        ),
    ],
)
def test_the_time_limit(site: Profile, asked: int | None, spec: int | None, minutes: int) -> None:
    from dataclasses import replace

    assert found(replace(site, warn_s=10), Asked(time_s=asked), time_s=spec)["time"] == minutes


def test_every_reason_why_it_can_not_be_asked_for_is_told() -> None:
    site = Profile(name="lab", partitions=(MAIN,), options={"output": "x", "Mail": "END", "licenses": "a\nb"})
    with pytest.raises(TargetError) as caught:
        found(site, time_s=7260, nodes=2, pack=3)
    told = [problem.message for problem in caught.value.problems]
    assert told == [
        "the job wants 7260 s, and the partition main gives 7200 s at most",
        "sbatch's option --output is set by launcher",
        "`Mail` with the value 'END' is no long option of sbatch",
        "`licenses` with the value 'a\\nb' is no long option of sbatch",
        "`pack: 3` packs points on one node, and a point wants 2",
    ]
    with pytest.raises(TargetError, match="not longer than the 120 s"):
        found(time_s=100)


@pytest.mark.parametrize(
    ("site", "asked", "needs", "name"),
    [
        (SITE, Asked(), {}, "main"),
        (SITE, Asked(partition="gpu"), {}, "gpu"),
        (Profile(name="lab", partition="gpu", partitions=(MAIN, GPU)), Asked(), {}, "gpu"),
        (Profile(name="lab", partitions=(GPU, Partition(name="other"))), Asked(), {"cpus": 100}, "other"),
        (Profile(name="lab", partitions=(Partition(name="down", up=False), GPU)), Asked(), {}, "gpu"),
        (Profile(name="lab"), Asked(), {}, None),
        (Profile(name="lab", partitions=(MAIN,)), Asked(partition="unknown"), {}, None),
    ],
)
def test_the_partition(site: Profile, asked: Asked, needs: dict[str, Any], name: str | None) -> None:
    place = partition(site, asked, job(resources=Resources(**needs)))
    assert (place.name if place else None) == name


def test_a_partition_that_is_not_the_default_is_named() -> None:
    assert found(Profile(name="lab", partitions=(GPU,)))["partition"] == "gpu"


@pytest.mark.parametrize(
    ("gres", "wants", "pack", "expected"),
    [
        ("gpu", Gpus(count=2), 1, {"gres": "gpu:2"}),
        ("gpu", Gpus(count=2, model="H100"), 1, {"gres": "gpu:nvidia_h100_80gb_hbm3:2"}),
        ("gpu", Gpus(count=1, model="A100"), 3, {"gres": "gpu:a100:3"}),
        ("", Gpus(count=2), 1, {"gpus_per_node": "2"}),
        ("", Gpus(count=2, model="H100"), 2, {"gpus_per_node": "nvidia_h100_80gb_hbm3:4"}),
        ("gpu", Gpus(), 1, {}),
    ],
)
def test_gpus_are_asked_for_as_the_site_calls_them(gres: str, wants: Gpus, pack: int, expected: dict[str, str]) -> None:
    told = found(Profile(name="lab", gres=gres, partition="gpu", partitions=(MAIN, GPU)), gpus=wants, pack=pack)
    assert {name: value for name, value in told.items() if name in ("gres", "gpus_per_node")} == expected


def test_the_model_that_is_called_so_counts_before_one_that_only_contains_it() -> None:
    gres = ("gpu:a100-sxm4-80gb:4", "gpu:A100:2")
    assert model_name("a100", gres) == "A100"
    assert model_name("A100-SXM4", gres) == "a100-sxm4-80gb"
    assert model_name("V100", ("gpu:8",)) == "v100"


def test_packed_points_get_room_for_all_of_them() -> None:
    told = found(cpus=2, memory_bytes=2**30, pack=4)
    assert (told["ntasks_per_node"], told["cpus_per_task"], told["mem"]) == (4, 2, "4096M")


def test_the_command_line_counts_more_than_the_profile() -> None:
    site = Profile(name="lab", partition="a", account="b", qos="c", constraint="d", options={"mail-type": "END"})
    told = found(site, Asked(partition="e", account="f", qos="g", options={"exclusive": ""}), time_s=600)
    assert [told[name] for name in ("partition", "account", "qos", "constraint")] == ["e", "f", "g", "d"]
    assert told["additional_parameters"] == {"requeue": True, "mail-type": "END", "exclusive": True}


def test_a_site_without_requeue_is_not_asked_for_it() -> None:
    assert found(Profile(name="lab", requeue=False))["additional_parameters"] == {"no-requeue": True}


def test_a_run_that_must_not_restart_is_not_requeued() -> None:
    asked = options(replace(job(), restart=False), SITE, Asked(), pack=1)
    assert asked["additional_parameters"] == {"no-requeue": True}
