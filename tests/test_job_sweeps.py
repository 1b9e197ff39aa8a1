"""Jobs of sweeps: what points are known by, and the plan that keeps all of them."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from launcher.digest import canonical_json
from launcher.errors import SpecError, StoreError, UsageError
from launcher.job import Job, again, from_json, plan, point_digest, point_group, sweeps, to_json
from launcher.job.sweeps import Plan
from launcher.spec.model import CodeSpec, Distribution, Gpus, ImageSpec, RandomPoints, Resources, Spec, Sweep
from launcher.sweep import expand

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
NASTY = ("a'b\"c$HOME\nü☃ -x", 10**30, 5e-324, True, None, "", 1, 1.0, "{lr}")


def spec(**more: Any) -> Spec:
    values = {
        "run": "python3 train.py --lr {lr} --name {name} {{lr}} # {lr}",
        "params": {"lr": 0.1, "name": "x", "epochs": 3},
        "sweep": Sweep(grid={"lr": (0.1, 0.2, 0.3), "name": NASTY}, max_parallel=5, pack=2),
        "retries": 2,
        **more,
    }
    return Spec(name="digits", image=ImageSpec(), code=CodeSpec(root=Path("/x")), file=Path("/x/e.yaml"), **values)


def planned(spec: Spec, **more: Any) -> list[Job]:
    values = {"lock": "1" * 64, "image": "2" * 64, "code": "3" * 64, "now": NOW, "entropy": b"\0\1\2\3"}
    return plan(spec, **{**values, "points": expand(spec), **more})


def made(spec: Spec, **more: Any) -> Plan:
    return Plan.of(planned(spec, **more), spec, when=NOW, who="ada", code_facts={"commit": "4" * 40})


def test_each_point_is_a_job_of_the_sweep() -> None:
    jobs = planned(spec(), data={"d": "5" * 64})
    assert len(jobs) == 27
    assert [job.run for job in jobs[:2]] == [f"20260304-050607-digits-aaaqea-{i:05d}" for i in range(2)]
    assert {job.sweep for job in jobs} == {jobs[0].sweep}
    assert [job.point for job in jobs] == list(range(27))
    assert jobs[0].argv[2] == "python3 train.py --lr 0.1 --name 'a'\"'\"'b\"c$HOME\nü☃ -x' {lr} # {lr}"
    assert [job.params["lr"] for job in jobs[::9]] == [0.1, 0.2, 0.3]
    assert all(from_json(to_json(job)) == job for job in jobs)


def test_each_argv_is_what_the_job_alone_would_have() -> None:
    for job in planned(spec()):
        [alone] = planned(spec(sweep=None, params=job.params), points=None)
        assert alone.argv == job.argv
        assert point_digest(alone) == point_digest(job)


def test_a_spec_without_a_sweep_is_a_sweep_of_one() -> None:
    one = made(spec(sweep=None))
    assert (len(one), one.names, one.pack, one.max_parallel) == (1, (), 1, None)
    assert one.job(0).params == {"lr": 0.1, "name": "x", "epochs": 3}
    [job] = planned(spec(sweep=None), points=None)
    assert (job.sweep, job.point, job.retries) == (None, None, 2)


def test_the_digest_is_of_what_decides_a_result() -> None:
    job = planned(spec())[4]
    same: dict[str, Any] = {
        "resources": Resources(nodes=2, gpus=Gpus(count=1), time_s=9), "run": "another", "lock": "9" * 64, "sweep": "s",
        "point": 7, "retries": 9, "bandwidth": 1, "name": "b", "params": dict(reversed(job.params.items())),
    }  # fmt: skip
    for name, value in same.items():
        assert point_digest(replace(job, **{name: value})) == point_digest(job), name
        assert name == "params" or point_group(replace(job, **{name: value})) == point_group(job)
    other: dict[str, Any] = {
        "image": "8" * 64, "code": "8" * 64, "argv": ("x",), "params": {"lr": 1}, "data": {"d": "8" * 64}, "seed": 5,
        "determinism": "strict", "outputs": ("*.pt",), "env": {"A": "b"},
    }  # fmt: skip
    for name, value in other.items():
        assert point_digest(replace(job, **{name: value})) != point_digest(job), name
    of_the_group = {"image", "code", "data"}
    for name, value in other.items():
        assert (point_group(replace(job, **{name: value})) != point_group(job)) == (name in of_the_group), name


def test_the_digest_is_over_canonical_json() -> None:
    for job in planned(spec(), data={"b": "5" * 64, "a": "6" * 64})[::5]:
        names = ("image", "code", "argv", "params", "data", "seed", "determinism", "outputs", "env")
        plain = canonical_json({name: getattr(job, name) for name in names})
        assert point_digest(job) == hashlib.sha256(plain).hexdigest()


def test_values_of_different_kinds_have_different_digests() -> None:
    kinds = spec(sweep=Sweep(list=tuple({"name": value} for value in (1, 1.0, True, "1", None, ""))), run=("x", "{lr}"))
    assert len({point_digest(job) for job in planned(kinds)}) == 6


def test_the_same_points_are_the_same_sweep_whenever_they_are_planned() -> None:
    later = planned(spec(), now=datetime(2027, 1, 1, tzinfo=timezone.utc), entropy=b"zzzz", lock="7" * 64)
    first = planned(spec())
    assert later[0].sweep == first[0].sweep
    assert later[0].run != first[0].run
    assert str(first[0].sweep).startswith("digits-") and len(str(first[0].sweep)) == len("digits-") + 12
    more = planned(spec(sweep=Sweep(grid={"lr": (0.1, 0.2, 0.3, 0.4), "name": NASTY})))
    assert more[0].sweep != first[0].sweep
    assert {point_digest(job) for job in first} < {point_digest(job) for job in more}


def test_a_plan_gives_every_job_back() -> None:
    wanted = spec(resources=Resources(gpus=Gpus(count=8, model="H100")), outputs=("a/**",))
    jobs = planned(wanted, data={"d": "5" * 64})
    kept = Plan.of(jobs, wanted, when=NOW, who="ada", code_facts={"commit": "4" * 40, "untracked": ["a"]})
    back = sweeps.from_json(sweeps.to_json(kept))
    assert back == kept
    assert sweeps.to_json(back) == sweeps.to_json(kept)
    assert [back.job(i) for i in range(len(back))] == jobs
    assert back.runs == tuple(job.run for job in jobs)
    assert back.digests == tuple(point_digest(job) for job in jobs)
    assert back.group == point_group(jobs[3])
    assert (back.max_parallel, back.pack, back.retries, back.who) == (5, 2, 2, "ada")
    assert back.when == "2026-03-04T05:06:07.000Z"
    assert back.names == ("lr", "name")
    assert back.params(8) == {"lr": 0.1, "name": "{lr}"}
    assert back.index(jobs[17].run) == 17
    assert [
        back.index(word) for word in ("", "x", jobs[1].run + "1", jobs[1].run[:-1], f"{back.shared.run}-00099")
    ] == [None] * 5


def test_seeds_of_points_come_back() -> None:
    seeds = spec(sweep=Sweep(grid={"seed": (5, 6)}), seed=1)
    back = sweeps.from_json(sweeps.to_json(made(seeds)))
    assert [back.job(i).seed for i in range(2)] == [5, 6]
    assert made(spec(seed=4)).job(3).seed == 4


def test_another_sweep_of_the_same_points_has_a_number() -> None:
    first = made(spec())
    second = first.numbered(2)
    assert (second.sweep, second.digests) == (f"{first.sweep}-2", first.digests)
    assert second.job(0).sweep == second.sweep


def test_a_plan_that_another_launcher_would_run_differently_is_refused() -> None:
    told = json.loads(sweeps.to_json(made(spec())))
    told["rows"][3][0] = 99
    with pytest.raises(StoreError, match=r"point 3 of digits-[0-9a-f]{12} is another than was planned"):
        sweeps.from_json(json.dumps(told)).job(3)


@pytest.mark.parametrize("damage", [{"version": 9}, {"rows": 3}, {"shared": {}}, {"strange": 1}, {"digests": None}])
def test_what_is_no_plan(damage: dict[str, Any]) -> None:
    told = json.loads(sweeps.to_json(made(spec()))) | damage
    with pytest.raises(StoreError, match="version 9" if "version" in damage else "this is no plan of a sweep"):
        sweeps.from_json(json.dumps(told))


def test_what_old_jobs_did_not_say_is_not_said_of_others() -> None:
    [job] = planned(spec(retries=0, sweep=None), points=None)
    assert not {"sweep", "point", "retries"} & json.loads(to_json(job)).keys()
    assert from_json(to_json(job)) == job


def test_a_new_run_of_a_point_is_no_part_of_the_sweep() -> None:
    job = planned(spec())[2]
    assert (again(job, NOW, b"abcd").sweep, again(job, NOW, b"abcd").point) == (None, None)
    assert again(job, NOW, b"abcd").run.count("-") == 3


def test_what_a_sweep_sets_is_neither_overridden_nor_endless() -> None:
    with pytest.raises(UsageError, match="the sweep sets `lr`"):
        planned(spec(), overrides={"lr": 1})
    assert {job.params["epochs"] for job in planned(spec(), overrides={"epochs": 1})} == {1}
    with pytest.raises(SpecError, match="the parameter `lr` is inf"):
        planned(spec(sweep=Sweep(grid={"lr": (1, float("inf"))})))


def test_ten_thousand_points_are_planned_at_once() -> None:
    """The goal is a second on an idle machine; this is the time that the process itself takes, and some patience."""
    drawn = RandomPoints(count=100, seed=1, draws={"name": Distribution(kind="uniform", numbers=(0, 1))})
    many = spec(sweep=Sweep(grid={"lr": tuple(i / 1000 for i in range(100))}, random=drawn))
    began = time.process_time()
    data = sweeps.to_json(made(many))
    took = time.process_time() - began
    assert took < 3
    assert len(data) < 4e6
    assert len(sweeps.from_json(data)) == 10_000
