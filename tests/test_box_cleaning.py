"""`launcher target clean`: what may go from a box or a cluster goes, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.box import agent, cleaning, credentials, engine_images, state
from launcher.box.model import Order, State
from launcher.cli import clean, invoke
from launcher.errors import TargetError
from launcher.node import order as orders
from launcher.node.clearing import needs_of, size_of
from launcher.profiles.model import Profile
from launcher.profiles.places import Places
from launcher.runner.clock import stamp
from launcher.slurm import cleaning as slurm_cleaning
from launcher.slurm import queue
from launcher.store.access import Access

OLD_S = 30 * 86400.0
WEEK_S = 7 * 86400.0


class Folder:
    """Launcher's folder on another machine, with things of one letter each: image a, code a ..."""

    def __init__(self, shared: Path) -> None:
        self.shared, self.places = shared, Places(str(shared))
        shared.mkdir()

    def write(self, path: str, text: str = "x" * 5000, old: bool = True) -> Path:
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return self.aged(file) if old else file

    def aged(self, path: Path) -> Path:
        when = time.time() - OLD_S
        for place in (path, *path.rglob("*")):
            os.utime(place, (when, when), follow_symlinks=False)
        return path

    def things(self, letter: str, *layers: str, old: bool = True) -> None:
        """Make all that a run needs: its image has a layer of its own and `layers`."""
        own = [letter * 64, *layers]
        for diff_id in own:
            self.write(self.places.blob(diff_id), old=old)
            self.write(self.places.at("cache", "trees", diff_id, "file"), old=old)
        image = Path(self.places.image(letter * 64, "image.json"))
        self.write(str(image), json.dumps({"layers": [{"diff_id": one} for one in own]}), old)
        self.write(self.places.artifact(letter * 64), old=old)
        self.write(self.places.input(letter * 64) + "/data", old=old)
        self.write(self.places.tools(letter * 32) + "/bin/python", old=old)
        self.write(self.places.at("cache", "pycache", letter * 64, "file"), old=old)
        if old:
            for folder in ("images", "inputs", "tools", "cache/trees", "cache/pycache"):
                for path in (self.shared / folder).glob(f"{letter}*"):
                    self.aged(path)

    def told(self, letter: str) -> dict[str, Any]:
        """Return what an order says that needs the things of a letter."""
        return {
            "tools": self.places.tools(letter * 32),
            "image": letter * 64,
            "code": self.places.artifact(letter * 64),
            "data": {"d": self.places.input(letter * 64)},
        }

    def run(self, name: str, letter: str, phase: str = "ended", *, old: bool = True, relay: bool = False) -> Order:
        profile = Profile(name="box", kind="ssh", shared=str(self.shared), runtime="sandbox")
        store = Access(self.places.store()) if relay else Access("s3://bucket")
        order = Order(
            run=name, job={}, attempt=1, profile=profile, store=store, ship="relay" if relay else "direct",
            **self.told(letter),
        )  # fmt: skip
        folder = state.folder(str(self.shared), name)
        folder.mkdir(parents=True)
        (folder / state.ORDER).write_text(json.dumps(order.to_json()))
        when = "2026-01-01T00:00:00Z" if old else stamp()
        state.write(folder, State(run=name, phase=phase, when=when))  # type: ignore[arg-type]
        return order

    def names(self) -> set[str]:
        """Return the letters, or names, of all that is there."""
        kinds = {"images": "images", "inputs": "inputs", "tools": "tools", "jobs": "jobs", "cache/trees": "trees"}
        found = {f"{kind} {path.name[:4]}" for top, kind in kinds.items() for path in self.shared.glob(f"{top}/*")}
        found |= {f"layers {path.name[:4]}" for path in self.shared.glob("blobs/sha256/*/*")}
        return found | {f"code {path.name[:4]}" for path in self.shared.glob("artifacts/sha256/*/*")}

    def clean(self, delete: bool = True, older_s: float = WEEK_S, **more: Any) -> dict[str, Any]:
        asked = {"shared": str(self.shared), "runtime": "sandbox", "older_s": older_s, "delete": delete, **more}
        return agent.clean(asked)


KINDS = ("images", "inputs", "tools", "layers", "code", "trees")


def every(letter: str) -> set[str]:
    return {f"{kind} {letter * 4}" for kind in KINDS}


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(credentials, "MEMORY", tmp_path)
    return Folder(tmp_path / "box of 'Ada' $HOME")


def test_what_runs_need_stays_and_the_rest_goes(box: Folder) -> None:
    for letter in "abcd":
        box.things(letter, "e" * 64 if letter in "ab" else letter * 64)
    box.run("going", "a", "running")
    box.run("done", "b")
    box.run("just", "c", old=False)
    there = box.names()
    answer = box.clean(delete=False)
    assert box.names() == there and answer["removed"] == [] and answer["unsure"] == []
    answer = box.clean()
    gone = there - box.names()
    assert gone == every("b") | every("d") | {"jobs done"}
    assert {"layers eeee", "trees eeee"} <= box.names(), "the image of the run that goes on has it too"
    assert answer["removed"] == answer["found"]
    assert sum(one["bytes"] for one in answer["removed"]) >= 12 * 5000
    assert not list((box.shared / "tmp").iterdir())
    assert box.clean()["found"] == []


def test_what_came_lately_stays_but_for_those_who_want_all(box: Folder) -> None:
    box.things("a", old=False)
    box.run("done", "a", old=False)
    there = box.names()
    assert box.clean()["found"] == [] and box.names() == there
    box.clean(older_s=0.0)
    assert box.names() == set()


def test_a_run_whose_results_are_here_alone_stays_with_all_that_it_needs(box: Folder) -> None:
    box.things("a")
    box.run("relayed", "a", relay=True)
    own = box.write(box.places.at("store", "runs", "relayed", "events", "0001", "00000000.json"))
    box.run("unshipped", "a")
    rest = box.write(box.places.at("cache", "runs", "unshipped", "inside", "spool"))
    there = box.names()
    answer = box.clean(complete=["relayed"])
    assert sorted(answer["unsure"]) == ["relayed", "unshipped"] and answer["found"] == []
    assert box.names() == there and own.exists() and rest.exists()
    (state.folder(str(box.shared), "relayed") / state.RELAYED).touch()
    answer = box.clean(complete=["unshipped"])
    assert answer["unsure"] == [] and box.names() == set() and not own.exists() and not rest.exists()


def test_what_an_attempt_could_not_ship_stays_though_the_rest_was_relayed(box: Folder) -> None:
    """The box's disk was full: its outputs are nowhere else."""
    box.run("full", "a", relay=True)
    box.run("other", "a", relay=True)
    box.write(box.places.at("cache", "runs", "other", "inside", "attempt.json"))
    Path(box.places.at("cache", "runs", "other", "inside", "outputs", "empty")).mkdir(parents=True)
    for run in ("full", "other"):
        (state.folder(str(box.shared), run) / state.RELAYED).touch()
    rest = box.write(box.places.at("cache", "runs", "full", "inside", "outputs", "big"))
    assert box.clean()["unsure"] == ["full"]
    assert rest.exists() and not state.folder(str(box.shared), "other").exists()
    assert box.clean(complete=["full"])["unsure"] == [] and not rest.exists()


def test_a_run_that_can_t_be_read_keeps_what_is_unpacked(box: Folder) -> None:
    box.things("a")
    box.run("odd", "b")
    (state.folder(str(box.shared), "odd") / state.STATE).write_text("{")
    box.write(box.places.at("cache", "trees", "f" * 64, "file"))
    box.aged(box.shared / "cache" / "trees")
    box.clean()
    assert box.names() == {"jobs odd", "trees ffff"}


def test_an_image_stays_on_record_while_the_engine_has_it(box: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    box.things("a")
    held = {"a" * 64: 1234}
    monkeypatch.setattr(engine_images, "sizes", lambda runtime, images: held)
    monkeypatch.setattr(engine_images, "remove_image", lambda runtime, image: False)
    answer = box.clean()
    assert "images aaaa" in box.names() and len(answer["found"]) > len(answer["removed"])
    monkeypatch.setattr(engine_images, "sizes", lambda runtime, images: None)
    assert all(one["kind"] not in ("images", "engine") for one in box.clean()["found"]), "an engine that is silent"
    monkeypatch.setattr(engine_images, "sizes", lambda runtime, images: held)
    monkeypatch.setattr(engine_images, "remove_image", lambda runtime, image: True)
    kinds = {one["kind"]: one["bytes"] for one in box.clean()["removed"]}
    assert kinds["engine"] == 1234 and "images aaaa" not in box.names()


def test_a_run_that_is_begun_anew_meanwhile_stays_with_what_it_needs(
    box: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.run("again", "a", relay=True)
    box.things("a")
    folder = state.folder(str(box.shared), "again")
    (folder / state.RELAYED).touch()
    there = box.names()

    def begun(*orders: Any, **more: Any) -> Any:
        (folder / state.STATE).unlink()
        return needs_of(*orders, **more)

    monkeypatch.setattr("launcher.box.cleaning.needs_of", begun)
    assert box.clean(older_s=0.0)["removed"] == []
    assert box.names() == there


def test_what_is_not_ours_stays(box: Folder, tmp_path: Path) -> None:
    other = box.write(box.places.at("somebody", "file"))
    away = tmp_path / "away"
    away.mkdir()
    (away / "file").write_text("x")
    (box.shared / "inputs").mkdir()
    link = box.shared / "inputs" / ("a" * 64)
    link.symlink_to(away)
    box.clean(older_s=0.0)
    assert other.exists() and (away / "file").exists() and not link.is_symlink()


def test_sizes_count_a_file_with_two_names_once(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "one").write_bytes(bytes(range(256)) * 1000)
    one = size_of(tmp_path / "d")
    os.link(tmp_path / "d" / "one", tmp_path / "d" / "two")
    assert size_of(tmp_path / "d") == one >= 256000 // 512 * 512


@pytest.fixture
def site(box: Folder) -> Folder:
    """A cluster's shared folder: sweep `mine` needs the things of a, `done` those of b."""
    for letter, sweep in (("a", "mine"), ("b", "done")):
        box.things(letter)
        profile = Profile(name="cluster", shared=str(box.shared))
        store = Access("s3://bucket", {}, box.places.secrets(letter))
        order = orders.Order(
            sweep=sweep, token=letter, number=1, groups=((0,),), plan="p", profile=profile, store=store,
            **box.told(letter),
        )  # fmt: skip
        box.write(box.places.order(sweep, letter), json.dumps(order.to_json()))
        box.write(box.places.plan(sweep, "0"), "{}")
        box.write(box.places.secrets(letter), "{}")
        box.aged(box.shared / "sweeps" / sweep)
    return box


def in_queue(*names: str) -> queue.Answer:
    return queue.Answer(
        rows=tuple(queue.Row(job="1", indices=(0,), array=True, name=n, state="PENDING") for n in names)
    )


def test_a_cluster_keeps_what_is_in_the_queue(site: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def ask(names: list[str], **_: Any) -> queue.Answer:
        asked.append(sorted(names))
        return in_queue("launcher-a")

    monkeypatch.setattr(queue, "ask", ask)
    told = {"shared": str(site.shared), "older_s": WEEK_S, "delete": True}
    answer = slurm_cleaning.clean(told)
    assert asked == [["launcher-a", "launcher-b"]]
    assert site.names() == every("a")
    assert {path.name for path in (site.shared / "sweeps").iterdir()} == {"mine"}
    assert {path.name for path in (site.shared / "secrets").iterdir()} == {"a"}
    assert {one["kind"] for one in answer["removed"]} >= {"sweeps", "credentials", "images", "layers", "tools"}


def test_a_cluster_whose_slurm_is_silent_keeps_everything(site: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "ask", lambda names, **_: queue.Silence(why="no answer"))
    there = site.names()
    with pytest.raises(TargetError, match="doesn't say"):
        slurm_cleaning.clean({"shared": str(site.shared), "older_s": 0, "delete": True})
    assert site.names() == there


def test_what_waits_for_the_site_s_limit_keeps_its_things(site: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "ask", lambda names, **_: queue.Answer())
    (site.shared / "sweeps" / "mine" / "waiting").touch()
    slurm_cleaning.clean({"shared": str(site.shared), "older_s": WEEK_S, "delete": True})
    assert site.names() >= every("a") - {"trees aaaa"} and "images bbbb" not in site.names()


def test_a_living_run_keeps_what_it_has_unpacked(box: Folder) -> None:
    box.things("a")
    box.run("going", "a", "running")
    assert cleaning.look(state.folder(str(box.shared), "going")).busy
    box.clean(older_s=0.0)
    assert box.names() == every("a") | {"jobs goin"}


class Agent:
    """A box that has one run of which it can't tell whether all of it is in the store."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, argument: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(argument)
        found = [{"kind": "layers", "name": "a", "bytes": 3_000_000}, {"kind": "engine", "name": "b", "bytes": 1}]
        unsure = [] if argument.get("complete") else ["some-run"]
        return {"found": found, "removed": found[:1] if argument["delete"] else [], "unsure": unsure}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("LAUNCHER_STORE", str(tmp_path / "store"))
    assert invoke(["target", "add", "box", "--ssh", "box.example.org", "--no-doctor"]) == 0
    agent = Agent()
    monkeypatch.setattr(clean, "way", lambda profile: contextlib.nullcontext(agent))
    return agent


def test_a_dry_run_asks_once_and_removes_nothing(asked: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert invoke(["target", "clean", "box", "--dry-run", "--older", "12h"]) == 0
    said = capsys.readouterr().out
    [question] = asked.asked
    assert (question["older_s"], question["delete"]) == (43200.0, False)
    assert "layers" in said and "would free" in said and "some-run" in said and "launcher pull" in said


def test_runs_that_the_store_has_whole_are_told_to_the_box(
    asked: Agent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(clean, "whole", lambda place, runs: list(runs))
    capsys.readouterr()
    assert invoke(["target", "clean", "box", "--all", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one.get("complete") for one in asked.asked] == [None, ["some-run"]]
    assert asked.asked[-1]["delete"] and asked.asked[-1]["older_s"] == 0
    assert (told["bytes"], told["unsure"]) == (3_000_000, [])
    assert invoke(["target", "clean", "box"]) == 0
    assert "1 of them could not be removed" in capsys.readouterr().out


def test_a_span_that_is_none_is_refused(asked: Agent) -> None:
    assert invoke(["target", "clean", "box", "--older", "soon"]) == 2 and not asked.asked


def test_a_run_that_the_store_doesn_t_know_is_not_whole(tmp_path: Path) -> None:
    assert clean.whole(str(tmp_path / "nowhere"), ["some-run"]) == []
    (tmp_path / "store").mkdir()
    assert clean.whole(str(tmp_path / "store"), ["some-run"]) == []
