"""Jobs: planned from values, named by us, carried as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from launcher.errors import SpecError, StoreError, UsageError
from launcher.job import again, from_json, overridden, plan, run_id, to_json
from launcher.spec.model import CodeSpec, Gpus, ImageSpec, Resources, Spec

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
NASTY = {"s": "a'b\"c$HOME\nü☃ -x", "i": 10**30, "f": 1e-3, "small": 5e-324, "b": True, "n": None, "e": "", "-": "-"}


def spec(**more: object) -> Spec:
    values = {"run": "python3 train.py --lr {lr}", "params": {"lr": 0.1}, **more}
    root = Path("/x")
    return Spec(name="digits", image=ImageSpec(), code=CodeSpec(root=root), file=root / "experiment.yaml", **values)  # type: ignore[arg-type]


def planned(spec: Spec, **more: object):  # type: ignore[no-untyped-def]
    values = {"lock": "1" * 64, "image": "2" * 64, "code": "3" * 64, "now": NOW, "entropy": b"\0\1\2\3", **more}
    [job] = plan(spec, **values)  # type: ignore[arg-type]
    return job


def test_plan_decides_everything() -> None:
    job = planned(spec(seed=7), data={"d": "4" * 64}, overrides={"lr": 0.2})
    assert job.run == "20260304-050607-digits-aaaqea"
    assert job.argv == ("/bin/sh", "-c", "python3 train.py --lr 0.2")
    assert job.command == "python3 train.py --lr {lr}"
    assert (job.params, job.data, job.seed) == ({"lr": 0.2}, {"d": "4" * 64}, 7)
    assert planned(spec(seed=7), data={"d": "4" * 64}, overrides={"lr": 0.2}) == job


@pytest.mark.parametrize("command", ["echo {s}", ("echo", "{s}", "x y")])
def test_json_round_trip_is_exact(command: object) -> None:
    resources = Resources(gpus=Gpus(count=8, model="H100"), cpus=3, memory_bytes=2**40, time_s=5)
    job = planned(spec(run=command, params=NASTY, resources=resources, outputs=("a/**", "*.pt")))
    back = from_json(to_json(job))
    assert back == job
    assert to_json(back) == to_json(job)
    assert {name: type(value) for name, value in back.params.items()} == {k: type(v) for k, v in NASTY.items()}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda told: told.pop("argv"), "this is no job"),
        (lambda told: told.update(version=2), "version 2"),
        (lambda told: told.update(strange=1), "strange"),
        (lambda told: told.update(resources=[]), "this is no job"),
    ],
)
def test_what_is_no_job(damage, message: str) -> None:  # type: ignore[no-untyped-def]
    told = json.loads(to_json(planned(spec())))
    damage(told)
    with pytest.raises(StoreError, match=message):
        from_json(json.dumps(told))
    with pytest.raises(StoreError, match="this is no job"):
        from_json("[]")


def test_run_ids_sort_by_time_whatever_the_zone() -> None:
    zone = timezone(timedelta(hours=9))
    ids = [run_id("x", (NOW + timedelta(seconds=n)).astimezone(zone), b"\xff\0\0\0") for n in range(3)]
    assert ids == sorted(ids)
    assert ids[0].startswith("20260304-050607-x-")
    assert again(planned(spec()), NOW, b"abcd").run != planned(spec()).run
    assert replace(again(planned(spec()), NOW, b"abcd"), run="") == replace(planned(spec()), run="")


def test_endless_parameters_are_refused() -> None:
    with pytest.raises(SpecError, match="the parameter `lr` is nan") as caught:
        planned(spec(), overrides={"lr": float("nan")})
    assert "finite" in str(caught.value)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("lr=1e-3", 0.001),
        ("lr=3", 3),
        ("lr=true", True),
        ("lr=", None),
        ("lr=null", None),
        ("lr=adam", "adam"),
        ("lr='3'", "3"),
        ('lr="a\\nb"', "a\nb"),
        ("lr=a=b c", "a=b c"),
        ("lr='tis", "'tis"),
        ("lr=[1]", "[1]"),
    ],
)
def test_overrides_are_typed_as_in_the_spec(word: str, value: object) -> None:
    found = overridden([word], {"lr": 0.1})
    assert found == {"lr": value}
    assert type(found["lr"]) is type(value)


def test_every_bad_override_is_told() -> None:
    with pytest.raises(UsageError) as caught:
        overridden(["lr", "lrr=1", "lr=yes", "lr=010", "lr=\udcff"], {"lr": 0.1})
    text = str(caught.value)
    assert "`-p lr` is no name=value" in text
    assert "did you mean `lr`?" in text
    assert "yes is true or false for some" in text
    assert "010 is octal" in text
    assert "-p lr: '\\udcff' is not UTF-8" in text
