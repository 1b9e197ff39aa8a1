"""Retention: the rule of `keep` over many cases, and that nothing is deleted which somebody may still need."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from launcher import store as stores
from launcher.errors import UnreachableError
from launcher.runner import claims
from launcher.runner.attempt import Attempt
from launcher.runner.claims import Claim, Superseded, counting
from launcher.runner.contents import Contents
from launcher.runner.keeping import Checkpoint, retained, step_of
from launcher.runner.retention import Retention
from launcher.store import keys
from launcher.store.objects import Store
from tests.attempts import Bench, wait_for
from tests.patience import LONG_S

RUN = "run-1"


def made(steps: Iterable[int], values: dict[int, float] | None = None, attempt: int = 1) -> list[Checkpoint]:
    """Return checkpoints of some steps, in the order in which they were made; each step is its key."""
    values = values or {}
    return [Checkpoint(str(step), (attempt, seq), step, values.get(step)) for seq, step in enumerate(steps)]


def kept(found: list[Checkpoint], **keep: Any) -> list[int]:
    return sorted(int(key) for key in retained(found, keep))


@pytest.mark.parametrize(
    ("name", "seq", "step"),
    [
        ("step-0040", 3, 40),
        ("epoch=3-step=1200.ckpt", 0, 1200),
        ("0099", 0, 99),
        ("last.pt", 7, 7),
        ("model_10.v2.pt", 0, 2),
        ("²", 5, 5),
        ("schritt-٣", 5, 5),
    ],
)
def test_a_step_is_the_last_number_in_a_name(name: str, seq: int, step: int) -> None:
    assert step_of(name, seq) == step


def test_without_a_rule_everything_stays() -> None:
    assert kept(made(range(5))) == [0, 1, 2, 3, 4]
    assert kept(made(range(5)), last=None, every=None, best=None, mode="min") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("steps", "keep", "stay"),
    [
        (range(10), {"last": 3}, [7, 8, 9]),
        (range(2), {"last": 3}, [0, 1]),
        ([], {"last": 3}, []),
        (range(100, 1000, 100), {"last": 1, "every": 300}, [300, 600, 900]),
        (range(0, 1000, 100), {"every": 500}, [0, 500, 900]),  # the newest always stays
        (range(70, 1000, 70), {"last": 1, "every": 300}, [350, 630, 910, 980]),  # the first at or after a multiple
        ([5, 10, 15], {"every": 100}, [15]),
        ([10, 20, 10, 20], {"every": 10}, [10, 20]),
    ],
)
def test_the_newest_and_one_in_every_so_many_steps(steps: Any, keep: dict[str, Any], stay: list[int]) -> None:
    assert kept(made(steps), **keep) == stay


def test_of_a_step_that_was_done_twice_the_newer_is_the_milestone() -> None:
    found = [*made([100, 200]), *(Checkpoint(f"again-{n}", (2, seq), n) for seq, n in enumerate((200, 300, 350)))]
    assert retained(found, {"every": 100}) == {"100", "again-200", "again-300", "again-350"}


def test_a_milestone_stays_one_when_more_come() -> None:
    """What the rule keeps at one time and not later would be a checkpoint that nobody can count on."""
    steps = [7 * n for n in range(1, 60)]
    before: set[str] = set()
    for end in range(1, len(steps)):
        now = retained(made(steps[:end]), {"every": 50})
        assert before - {str(steps[end - 2])} <= now
        before = now


@pytest.mark.parametrize(
    ("values", "mode", "stay"),
    [
        ({0: 0.9, 1: 0.3, 2: 0.5, 3: 0.7}, "min", [1, 3]),
        ({0: 0.9, 1: 0.3, 2: 0.5, 3: 0.7}, "max", [0, 3]),
        ({0: 0.3, 1: 0.3, 2: 0.9, 3: 0.9}, "min", [1, 3]),  # of equals the newest
        ({2: -0.0, 1: 0.0}, "min", [2, 3]),
        ({1: -5.0}, "max", [1, 3]),  # the others have no value
        ({}, "min", [0, 1, 2, 3]),  # nobody knows which is best, so none is lost
    ],
)
def test_the_best_by_a_metric(values: dict[int, float], mode: str, stay: list[int]) -> None:
    assert kept(made(range(4), values), last=1, best="loss", mode=mode) == stay


def test_rules_add_up() -> None:
    values = {step: float(abs(step - 37)) for step in range(0, 100, 5)}
    assert kept(made(range(0, 100, 5), values), last=2, every=50, best="loss") == [0, 35, 50, 90, 95]


# in a store -----------------------------------------------------------------------------------------------------


class Run:
    """A run whose attempts store checkpoints, each made of some contents."""

    def __init__(self, folder: Path, **keep: Any) -> None:
        self.folder, self.keep = folder, keep
        self.store: Any = stores.open("memory://")
        self.told: list[tuple[str, dict[str, Any]]] = []

    def begin(self, number: int, relied: Iterable[dict[str, Any]] = (), damaged: Iterable[str] = ()) -> Begun:
        (self.folder / str(number)).mkdir(parents=True, exist_ok=True)
        job = {"run": RUN, "argv": ["true"], "keep": self.keep}
        told = {"version": 1, "job": job, "attempt": number, "store": "memory://"}
        attempt = Attempt(told, str(self.folder / str(number)))
        claim = claims.take(self.store, attempt, True, owner=f"o{number}")
        contents = Contents(RUN, claim.epoch, relied)
        tell = lambda kind, **facts: self.told.append((kind, facts))  # noqa: E731
        return Begun(self, attempt, claim, contents, Retention(attempt, claim, contents, tell, list(damaged)))

    def blobs(self) -> list[str]:
        return [entry.key.rpartition("/")[2][0] for entry in self.store.list(keys.blobs(RUN))]

    def names(self) -> list[str]:
        return [json.loads(self.store.get(key))["name"] for key in counting(self.store, RUN)]


class Begun:
    """An attempt that has its claim."""

    def __init__(self, run: Run, attempt: Attempt, claim: Claim, contents: Contents, retention: Retention) -> None:
        self.run, self.attempt, self.claim = run, attempt, claim
        self.contents, self.retention = contents, retention
        self.seq = 0

    def save(self, name: str, made_of: str) -> str:
        """Store a checkpoint of some contents, each a letter; forget others."""
        files = [self.put(letter * 64) for letter in made_of]
        manifest = {"name": name, "attempt": self.attempt.number, "seq": self.seq, "bytes": 0, "files": files}
        manifest["rows"] = self.retention.rows()
        key = keys.checkpoint(RUN, self.attempt.number, self.seq)
        self.seq += 1
        self.run.store.create(key, json.dumps(manifest).encode())
        self.retention.apply(self.run.store, key, manifest)
        return key

    def put(self, sha256: str) -> dict[str, Any]:
        if self.contents.find(sha256) is None:
            self.run.store.put(self.contents.key(sha256), b"content")
            self.contents.stored(sha256, self.contents.mark(sha256))
        return {"path": sha256[0], "sha256": sha256, "mark": self.contents.find(sha256)}

    def log(self, *rows: dict[str, Any]) -> None:
        with open(self.attempt.path("metrics.jsonl"), "a") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)


def test_superseded_ones_go_and_shared_blobs_stay(tmp_path: Path) -> None:
    run = Run(tmp_path, last=2)
    begun = run.begin(1)
    for name, made_of in (("a", "xs"), ("b", "ys"), ("c", "zs")):
        begun.save(name, made_of)
    assert run.names() == ["b", "c"]
    assert sorted(run.blobs()) == ["s", "y", "z"]
    [(kind, facts)] = run.told
    assert (kind, facts["name"], facts["number"], facts["of_attempt"]) == ("forgotten", "a", 0, 1)
    assert facts["key"] == keys.checkpoint(RUN, 1, 0)


def test_content_that_comes_again_gets_another_key(tmp_path: Path) -> None:
    """The deletion of the first one may still be on its way."""
    run = Run(tmp_path, last=1)
    begun = run.begin(1)
    begun.save("a", "x")
    first = begun.contents.key("x" * 64)
    begun.save("b", "y")
    begun.save("c", "x")
    assert begun.contents.key("x" * 64) != first
    run.store.delete(first)  # the late one
    [manifest] = [json.loads(run.store.get(key)) for key in counting(run.store, RUN)]
    assert all(run.store.exists(keys.blob_of(RUN, line)) for line in manifest["files"])


def test_what_was_inherited_is_forgotten_too_but_not_before_a_newer_one_is_there(tmp_path: Path) -> None:
    run = Run(tmp_path, last=1)
    first = run.begin(1)
    first.retention.wanted = False
    for name in "abc":
        first.save(name, name)
    second = run.begin(2)
    assert run.names() == ["a", "b", "c"], "a claim alone deletes nothing"
    second.save("d", "d")
    assert run.names() == ["d"] and run.blobs() == ["d"]
    assert [facts["name"] for _, facts in run.told] == ["a", "b", "c"]


def test_what_the_record_names_stays(tmp_path: Path) -> None:
    """A run that had ended has a record; when it goes on, the record still is what people look at."""
    run = Run(tmp_path, last=1)
    first = run.begin(1)
    first.retention.wanted = False
    named = [first.save(name, name) for name in "ab"]
    run.store.create(keys.record(RUN), json.dumps({"checkpoints": [{"key": named[0]}, {"name": "old"}]}).encode())
    run.begin(2).save("c", "c")
    assert run.names() == ["a", "c"] and sorted(run.blobs()) == ["a", "c"]


def test_who_lost_the_run_deletes_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, last=1)
    first = run.begin(1)
    first.save("a", "x")
    run.begin(2)
    with pytest.raises(Superseded):
        first.save("b", "y")
    assert run.names() == ["a"] and "x" in run.blobs()
    assert not run.told


def test_a_damaged_one_is_no_reason_to_forget_a_whole_one(tmp_path: Path) -> None:
    run = Run(tmp_path, last=2)
    first = run.begin(1)
    first.save("a", "a")
    damaged = first.save("b", "b")
    run.begin(2, damaged=[damaged]).save("c", "c")
    assert run.names() == ["a", "c"]


def test_one_that_cannot_be_read_keeps_its_place(tmp_path: Path) -> None:
    run = Run(tmp_path, last=1)
    first = run.begin(1)
    key = first.save("a", "a")
    run.store.put(key, b"no manifest")
    run.begin(2).save("b", "b")
    assert run.store.exists(key) and sorted(run.blobs()) == ["a", "b"]


class Refusing:
    """A store that refuses some requests."""

    def __init__(self, store: Store, refuses: Callable[[str], bool]) -> None:
        self.store, self.refuses = store, refuses

    def delete_many(self, wanted: list[str]) -> None:
        if self.refuses("delete_many"):
            raise UnreachableError("no answer")
        self.store.delete_many(wanted)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def test_blobs_that_could_not_be_deleted_are_tried_again_at_the_next_one(tmp_path: Path) -> None:
    run = Run(tmp_path, last=1)
    refused = iter([True, False])
    run.store = Refusing(run.store, lambda _: next(refused, False))
    begun = run.begin(1)
    begun.save("a", "a")
    with pytest.raises(UnreachableError):
        begun.save("b", "b")
    assert run.names() == ["b"] and sorted(run.blobs()) == ["a", "b"], "a checkpoint is gone or whole, never in between"
    begun.save("c", "c")
    assert run.names() == ["c"] and run.blobs() == ["c"]


@pytest.mark.parametrize("rows", ["with a step", "in order"])
def test_the_best_is_known_across_attempts(tmp_path: Path, rows: str) -> None:
    run = Run(tmp_path, last=1, best="loss")
    losses = {1: [0.5, 0.1, 0.9], 2: [0.4, 0.3, 0.8]}
    step = 0
    for number, values in losses.items():
        begun = run.begin(number)
        for value in values:
            step += 1
            row = {"loss": value, **({"step": step} if rows == "with a step" else {})}
            begun.log({"other": 1}, row)
            begun.save(f"step-{step}" if rows == "with a step" else "last.pt", "abcdef"[step - 1])
        chunk = Path(begun.attempt.path("metrics.jsonl")).read_bytes()
        run.store.create(keys.metric(RUN, number, 0), chunk)
    assert sorted(run.blobs()) == ["b", "f"], "the one with 0.1, and the newest"


def test_a_metric_that_nobody_logs_deletes_nothing_and_is_told_once(tmp_path: Path) -> None:
    run = Run(tmp_path, last=1, best="lost")
    begun = run.begin(1)
    for name in "abc":
        begun.log({"loss": 0.1})
        begun.save(name, name)
    assert run.names() == ["a", "b", "c"]
    [(kind, facts)] = run.told
    assert kind == "problem" and "no checkpoint has a value of the metric `lost`" in facts["text"]


# with a runner --------------------------------------------------------------------------------------------------

SAVES = """
f = os.environ['LAUNCHER_CHECKPOINT_DIR']
for step in range(6):
  row = json.dumps({'step': step, 'loss': abs(step - 2)})
  with open(os.environ['LAUNCHER_METRICS'], 'a') as out: print(row, file=out)
  open(f + '/new.tmp', 'w').write(str(step)); os.rename(f + '/new.tmp', f + f'/step-{step}')
  while not os.path.exists(f'go-{step}'): time.sleep(0.02)
"""


def test_a_run_keeps_what_its_job_says_and_its_record_names_no_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "run", RUN)
    keep = {"last": 2, "every": None, "best": "loss", "mode": "min"}
    with bench.start(bench.script(SAVES), job={"keep": keep}) as process:
        for step in range(6):
            wait_for(lambda: len(bench.events("checkpoint")) == step + 1)  # noqa: B023
            (bench.cwd / f"go-{step}").touch()
        process.communicate(timeout=LONG_S)
    record = bench.record()
    assert [told["name"] for told in record.checkpoints] == ["step-2", "step-4", "step-5"]
    assert [told["name"] for told in bench.events("forgotten")] == ["step-0", "step-1", "step-3"]
    assert counting(bench.store, RUN) == [told["key"] for told in record.checkpoints]
    written = json.loads(bench.store.get(keys.record(RUN)))
    assert [told["name"] for told in written["checkpoints"]] == ["step-2", "step-4", "step-5"]
    assert len(bench.store.list(keys.blobs(RUN))) == 3
    assert record.attempts[0].claim is not None and record.attempts[0].claim["epoch"] == 1
