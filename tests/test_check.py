"""Whether a target can serve a lock: the comparison as values, this machine's own facts, and the verb."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher import profiles
from launcher.cache import Cache
from launcher.cli import check as verb
from launcher.cli import invoke
from launcher.cli.pipeline import locked
from launcher.errors import TargetError
from launcher.gpu import has_driver
from launcher.gpu.model import Code, Device, Gpu, Node
from launcher.gpu.table import Toolkits
from launcher.lock import Lock, load
from launcher.profiles import Kind, Partition, Profile, Warned
from launcher.progress import SILENT
from launcher.spec.model import Gpus, Resources
from launcher.target import facts as facting
from launcher.target.check import compare, refusal
from launcher.target.facts import Facts, RuntimeFact
from launcher.target.survey import offset_s, survey
from tests.object_stores import ObjectStore

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
CUDA = Gpu(
    cuda="12.6",
    driver="525.60.13",
    driver_exact="560.28.03",
    code=(Code(name="torch", version="2.7.1", cubins=("8.0", "9.0"), source="elf"),),
)
H100 = Device(index=0, uuid="GPU-a", model="NVIDIA H100 80GB HBM3", capability="9.0", memory_bytes=80 << 30)
GOOD = Facts(
    target="local",
    architecture="amd64",
    node=Node(driver="570.26", cuda="12.8", devices=(H100,), source="nvml"),
    cpus=8,
    memory_bytes=64 << 30,
    place="/cache",
    disk_free_bytes=100_000,
    absent_bytes=1000,
    runtimes=(RuntimeFact(name="sandbox"), RuntimeFact(name="docker", refusal="no engine answers")),
    user_namespaces="",
    store="/store",
    clock_offset_s=0.2,
    data={"images": ""},
)
ASKED = Resources(gpus=Gpus(count=1), cpus=8, memory_bytes=64 << 30)


@pytest.fixture(scope="module")
def lock() -> Lock:
    return replace(load(DIGITS / "experiment.lock"), gpu=CUDA)


def verdicts(lock: Lock, asked: Resources, facts: Facts) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for finding in compare(lock, asked, facts, Toolkits()):
        found.setdefault(finding.subject, set()).add(finding.verdict)
        assert finding.hint or finding.verdict != "refused", f"what to do? {finding}"
    return found


def test_a_target_that_fits(lock: Lock) -> None:
    found = verdicts(lock, ASKED, GOOD)
    assert set(found) == {
        *("architecture", "gpus", "driver", "code", "cpus", "memory", "user namespaces", "disk", "store", "clock"),
        *("runtime", "data"),
    }
    assert {verdict for verdicts in found.values() for verdict in verdicts} == {"ok"}


@pytest.mark.parametrize(
    ("subject", "changed"),
    [
        ("architecture", {"architecture": "arm64"}),
        ("gpus", {"node": Node(source="proc")}),
        ("driver", {"node": replace(GOOD.node, driver="520.61.05")}),
        ("code", {"node": replace(GOOD.node, devices=(replace(H100, capability="12.0"),))}),
        ("cpus", {"cpus": 7}),
        ("memory", {"memory_bytes": (64 << 30) - 1}),
        ("runtime", {"runtimes": (RuntimeFact(name="docker", refusal="no engine answers"),)}),
        ("disk", {"absent_bytes": 100_001}),
        ("store", {"store_problem": "Permission denied"}),
        ("data", {"data": {"images": "there is no /x"}}),
    ],
)
def test_what_refuses(lock: Lock, subject: str, changed: dict[str, Any]) -> None:
    found = verdicts(lock, ASKED, replace(GOOD, **changed))
    assert [name for name, told in found.items() if "refused" in told] == [subject]


@pytest.mark.parametrize(
    ("subject", "verdict", "changed"),
    [
        ("clock", "warning", {"clock_offset_s": -60.0}),
        ("disk", "warning", {"absent_bytes": 95_000}),
        ("user namespaces", "warning", {"user_namespaces": "AppArmor restricts user namespaces here"}),
        ("architecture", "unknown", {"architecture": None}),
        ("gpus", "unknown", {"node": Node(driver="570.26")}),
        ("cpus", "unknown", {"cpus": None}),
        ("disk", "unknown", {"absent_bytes": None}),
        ("clock", "unknown", {"clock_offset_s": None}),
        ("store", "unknown", {"store": None}),
        ("runtime", "unknown", {"runtimes": ()}),
    ],
)
def test_what_is_unknown_or_odd_refuses_nothing(
    lock: Lock, subject: str, verdict: str, changed: dict[str, Any]
) -> None:
    found = compare(lock, ASKED, replace(GOOD, **changed), Toolkits())
    assert verdict in {finding.verdict for finding in found if finding.subject == subject}
    assert refusal(found) is None


def test_an_image_with_cuda_runs_without_a_gpu_when_none_is_asked_for(lock: Lock) -> None:
    found = verdicts(lock, Resources(), replace(GOOD, node=Node(source="proc")))
    assert found["gpus"] == {"ok"} and "driver" not in found


def test_a_refusal_tells_every_reason(lock: Lock) -> None:
    poor = replace(GOOD, cpus=1, memory_bytes=1, node=Node(source="proc"))
    error = refusal(compare(lock, ASKED, poor, Toolkits()))
    assert isinstance(error, TargetError) and len(error.problems) == 3
    assert error.exit_code == 69


def test_facts_travel_as_json() -> None:
    assert facting.from_json(json.loads(json.dumps(asdict(GOOD)))) == GOOD


def runtime(name: str, reason: str | None) -> Any:
    return SimpleNamespace(name=name, refusal=lambda: reason)


def test_this_machine_is_asked_and_left_as_it_was(lock: Lock, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    places = {"here": tmp_path, "gone": tmp_path / "gone"}
    found = survey(
        lock,
        Cache(tmp_path / "cache"),
        [runtime("no-such", "not here"), runtime("sandbox", None), runtime("podman", None)],
        store=f"file://{tmp_path}/store",
        data=places,
        whole=False,
    )
    assert [fact.name for fact in found.runtimes] == ["no-such", "sandbox"], "the first that works is enough"
    assert found.data == {"here": "", "gone": f"there is no {tmp_path}/gone"}
    assert found.clock_offset_s is not None and abs(found.clock_offset_s) < 5
    assert lock.image is not None and found.absent_bytes is not None
    assert found.absent_bytes > 2 * sum(layer.size for layer in lock.image.layers)
    assert (found.cpus, found.store_problem) == (len(os.sched_getaffinity(0)), None)
    assert not list((tmp_path / "store").iterdir())


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("ftp://x/y", "`ftp://` is no kind of store that launcher knows"),
        ("/dev/null/store", "/dev/null can't be written"),
    ],
)
def test_a_store_that_can_not_be_written(lock: Lock, tmp_path: Path, place: str, problem: str) -> None:
    assert survey(lock, Cache(tmp_path), [], store=place).store_problem == problem


def test_a_store_that_is_still_to_be_made_is_not_made(lock: Lock, tmp_path: Path) -> None:
    place = tmp_path / "a" / "store"
    found = survey(lock, Cache(tmp_path), [], store=str(place))
    assert (found.store_problem, found.clock_offset_s, place.parent.exists()) == (None, None, False)


def test_a_bucket_is_asked_before_anything_is_built(
    lock: Lock, tmp_path: Path, s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.use(monkeypatch)
    found = survey(lock, Cache(tmp_path), [], store=f"{s3.url}/deep/below")
    assert found.store_problem is None
    assert found.clock_offset_s is not None and abs(found.clock_offset_s) < 3
    left = s3.client().list_objects_v2(Bucket=s3.bucket).get("Contents", [])
    assert [entry["Key"] for entry in left] == ["deep/below/clock"]
    missing = survey(lock, Cache(tmp_path), [], store="s3://nobody-made-this", whole=False)
    assert missing.store_problem is not None and "there is no such bucket" in missing.store_problem
    [told] = [finding for finding in compare(lock, ASKED, missing, Toolkits()) if finding.subject == "store"]
    assert (told.verdict, told.hint) == ("refused", missing.store_hint)


@pytest.mark.parametrize(("there", "expected"), [(100.0, 0), (99.5, 0), (90.0, 9.2), (130.0, -29.5)])
def test_a_clock_of_whole_seconds_is_given_its_second(there: float, expected: float) -> None:
    assert offset_s(there, 100.2, 100.5) == pytest.approx(expected)


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The digits example with its lock; a cache and a store of its own, and nothing to ask but the sandbox."""
    for name in ("experiment.yaml", "experiment.lock", "train.py"):
        (tmp_path / name).write_bytes((DIGITS / name).read_bytes())
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LAUNCHER_STORE", str(tmp_path / "store"))
    monkeypatch.setattr("launcher.target.runtimes.RUNTIMES", {"sandbox": lambda cache: runtime("sandbox", None)})
    return tmp_path / "experiment.yaml"


def ask(spec: Path, **resources: object) -> None:
    text = spec.read_text().replace("  cpus: 1\n", "".join(f"  {name}: {value}\n" for name, value in resources.items()))
    spec.write_text(text)


def test_the_verb_prints_findings_and_exits_with_0(spec: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["check", str(spec), "--frozen"]) == 0
    out = capfd.readouterr().out.splitlines()
    assert out[0] == "ok       architecture     image and machine are linux/amd64"
    assert out[-1] == "local can serve it, as far as can be told; unknown: clock"
    (spec.parent / "store").mkdir()
    assert invoke(["check", str(spec), "--frozen"]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "local can serve it"


def test_the_verb_exits_with_69_and_says_why(spec: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask(spec, cpus=4096, memory="999TiB")
    assert invoke(["check", str(spec), "--frozen"]) == 69
    out = capfd.readouterr().out
    assert out.count("refused  ") == 2 and "hint: ask for less" in out
    assert out.endswith("local can't serve it: 2 refused\n")


def test_json_has_findings_and_facts(spec: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask(spec, cpus=4096)
    assert invoke(["check", str(spec), "--json", "--frozen"]) == 69
    told = json.loads(capfd.readouterr().out)
    assert (told["target"], told["fits"]) == ("local", False)
    [refused] = [finding for finding in told["findings"] if finding["verdict"] == "refused"]
    assert refused["subject"] == "cpus"
    assert facting.from_json(told["facts"]).target == "local"


def test_another_target_is_refused_with_what_there_is(spec: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["check", str(spec), "--on", "cluster"]) == 2
    said = capfd.readouterr().err
    assert (
        "there is no target `cluster`\n  hint: `launcher target add cluster --slurm` or `--ssh HOST` makes one" in said
    )


def test_a_cluster_is_compared_by_what_doctor_found(
    spec: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    words = ["--slurm", "--shared", str(tmp_path / "shared"), "--store", str(tmp_path / "shared" / "store")]
    assert invoke(["target", "add", "lab", *words, "--no-doctor"]) == 0
    assert invoke(["check", str(spec), "--frozen", "--on", "lab"]) == 0
    assert "nobody has looked at lab yet" in capfd.readouterr().out
    small = Kind(count=2, cpus=4, memory_mb=4000, architecture="amd64")
    found = Profile(name="lab", partitions=(Partition(name="main", default=True, nodes=2, kinds=(small,)),))
    profiles.save_found(replace(found, warnings=(Warned(says="no apptainer", hint="x"),)))
    assert invoke(["check", str(spec), "--frozen", "--on", "lab"]) == 0
    out = capfd.readouterr().out
    assert "the largest node of `main` has 4" in out and "warning  site" in out and out.endswith("lab can serve it\n")
    ask(spec, cpus=5, gpus="H100:1")
    assert invoke(["check", str(spec), "--frozen", "--on", "lab", "--json", "--store", str(tmp_path / "x")]) == 69
    told = json.loads(capfd.readouterr().out)
    refused = {one["subject"] for one in told["findings"] if one["verdict"] == "refused"}
    assert refused == {"cpus", "gpus"}
    assert told["facts"]["partitions"][0]["name"] == "main"


@pytest.mark.skipif(has_driver(), reason="this machine has a GPU")
def test_run_refuses_before_anything_is_built(spec: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask(spec, cpus=4096, gpus=1)
    assert invoke(["run", str(spec), "--frozen"]) == 69
    err = capfd.readouterr().err
    assert "error: 1 GPU wanted, and there is none" in err and "error: 4096 CPUs wanted" in err
    assert not (spec.parent / "cache" / "blobs").exists() or not list((spec.parent / "cache" / "blobs").iterdir())
    assert not list((spec.parent / "store").glob("runs/*"))


@pytest.mark.alone
def test_before_a_run_it_costs_next_to_nothing(spec: Path) -> None:
    cache = Cache()
    loaded, lock = locked(spec, cache, SILENT, frozen=True)
    words: Any = (lock, loaded.resources, cache, None, str(spec.parent / "store"), {})
    verb.refuse_unfit(*words)
    begun = time.perf_counter()
    verb.refuse_unfit(*words)
    assert time.perf_counter() - begun < 0.05
