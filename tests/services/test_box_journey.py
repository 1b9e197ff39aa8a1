"""One spec on a rented box, as a person goes through it: from nothing to the record, away and back, home with it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from launcher import records
from launcher.cache import Cache
from tests.box_trials import Client, Renter, judge, on_it
from tests.boxes import Box, Boxes
from tests.clusters import wait_until
from tests.object_stores import ObjectStore, moto, new_bucket
from tests.trials import ROOT

pytestmark = [pytest.mark.services, pytest.mark.slow]

NUMBERS = itertools.count(1)
ODD = 'it\'s a "$HOME"; `x` \u00fc'
ODD_SPEC = """\
name: odd
image: {base: debian:bookworm, python: "3.11"}
run: [python, odd.py, "{text}"]
params: {text: plain}
"""
ODD_SCRIPT = """\
import os, sys
print(ascii(sys.argv[1]))
open(os.path.join(os.environ["LAUNCHER_OUTPUT_DIR"], "it's $x \\u00fc"), "w").write(sys.argv[1])
"""


@dataclass(kw_only=True)
class Odd(Renter):
    """Somebody whose own name has all that a shell trips over."""

    @property
    def surroundings(self) -> Mapping[str, str]:
        return {**super().surroundings, "LOGNAME": ODD}


@pytest.fixture(scope="module")
def box(boxes: Boxes) -> Box:
    """A bare box: nothing was ever installed there."""
    return boxes.new()


@pytest.fixture(scope="module")
def bucket(boxes: Boxes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with moto(tmp_path_factory.mktemp("moto"), boxes.site.host_address) as server:
        yield new_bucket(server)


@pytest.fixture(scope="module")
def known(box: Box, shared_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Renter:
    """Somebody who knows the box."""
    home = tmp_path_factory.mktemp("known")
    one = Renter(home=home, cache=shared_cache.root, place=str(home / "store"), ssh_config=box.ssh_config)
    one.add(box)
    return one


@pytest.fixture
def renter(known: Renter, tmp_path: Path) -> Renter:
    """Somebody with a laptop whose store is a folder, which no box reaches."""
    home = tmp_path / "laptop"
    shutil.copytree(known.home / "config", home / "config")
    return replace(known, home=home, place=str(home / "store"))


def chain(renter: Renter, name: str, **more: Any) -> tuple[Path, int]:
    """Write a spec of a training that comes to one end; return it with its start."""
    start = next(NUMBERS)
    return renter.experiment(f"{name}-{start}", start, **more), start


def test_from_nothing_to_the_trained_record_by_one_command(renter: Renter, box: Box) -> None:
    """And once more after one line of the code has changed."""
    folder = renter.home / "digits"
    folder.mkdir()
    for name in ("train.py", "experiment.yaml", "experiment.lock"):
        shutil.copy(ROOT / "examples" / "digits" / name, folder)
    for line in ("right: ", "RIGHT: "):
        with on_it(renter, box, folder / "experiment.yaml", "-p", "epochs=10") as client:
            assert client.ended() == 0, client.said
        assert client.lines[-1].startswith(line), client.said
        (folder / "train.py").write_text((folder / "train.py").read_text().replace("right: ", "RIGHT: "))
    first, second = sorted(renter.runs())
    found, again = records.load(renter.store, first), records.load(renter.store, second)
    assert (found.state, found.complete, again.state) == ("succeeded", True, "succeeded")
    assert found.image == again.image and found.code != again.code
    assert found.metrics["names"]["accuracy"]["count"] == 10
    assert found.host is not None and found.host["node"] == box.name
    assert str(found.host["engine"]).startswith("docker ")
    shown = renter.call("show", first)
    assert f"{box.name} ({box.name}, docker" in shown
    renter.call("get", first, "-o", str(renter.home / "got"))
    assert {path.name for path in (renter.home / "got").iterdir()} == {"model.npz", "confusion.csv"}
    assert renter.call("logs", first).splitlines()[-1].startswith("right: ")


def test_a_run_of_this_machine_is_run_again_on_a_box_from_its_record(renter: Renter, box: Box) -> None:
    """Its spec is gone; a target that has a queue is refused."""
    spec, start = chain(renter, "here-first", steps=4, pause=0.1)
    here = renter.json("run", str(spec))["run"]
    shutil.rmtree(spec.parent)
    client = Client(renter, "rerun", here, "--on", box.name)
    assert client.ended() == 0, client.said
    [there] = set(renter.runs()) - {here}
    found = judge(renter, there, start, 4)
    assert found.host["node"] == box.name and found.attempts[0].attempt == 1
    first = records.load(renter.store, here)
    assert (found.image, found.code, found.params, found.seed) == (first.image, first.code, first.params, first.seed)
    told = renter.json("rerun", here, "--on", box.name, "--detach")
    renter.end(told["run"])
    judge(renter, told["run"], start, 4)
    queue = renter.home / "config" / "launcher" / "targets" / "queue.toml"
    queue.write_text('[target]\nkind = "slurm"\nshared = "/x"\n')
    client = Client(renter, "rerun", here, "--on", "queue")
    assert client.ended() == 2 and "queue is a Slurm cluster" in client.said


def test_letting_go_leaves_it_alone_and_attach_comes_back(renter: Renter, box: Box) -> None:
    spec, start = chain(renter, "letting-go", steps=14)
    with on_it(renter, box, spec) as client:
        run = client.run()
        client.wait_for("step 2")
        client.interrupt()
        client.interrupt()
        assert client.ended(60) == 130, client.said
    assert f"{run} goes on on {box.name}; `launcher attach {run}" in client.said
    [there] = renter.json("status", "--on", box.name, run)
    assert there["phase"] == "running" or there["code"] == 0, there  # who looks may be late, and it is over
    back = Client(renter, "attach", run)
    assert back.ended() == 0, back.said
    assert [line for line in back.lines if line.startswith("step ")] == [f"step {k}" for k in range(1, 15)]
    judge(renter, run, start, 14)


def test_what_gathers_on_the_box_is_brought_home_by_pull(renter: Renter, box: Box) -> None:
    spec, start = chain(renter, "pulled", steps=4, pause=0.1)
    run = renter.detached(box, spec)

    def on_the_box() -> dict[str, Any]:
        [found] = renter.json("status", "--on", box.name, run)
        return dict(found)

    wait_until(lambda: on_the_box()["phase"] == "ended", 120, "the run has ended on the box")
    assert (on_the_box()["code"], renter.state(run)) == (0, "queued")
    [told] = renter.json("status", run, codes=(3,))
    assert told["state"] == "unknown" and "launcher pull" in told["reason"]
    assert "all of it is in the store" in renter.call("pull", run)
    judge(renter, run, start, 4)
    assert renter.json("status", run)[0]["state"] == "succeeded"
    renter.call("wait", run)
    renter.call("attach", run)


def test_the_exit_code_is_the_command_s_and_nobody_else_s(renter: Renter, box: Box) -> None:
    spec = renter.experiment("failing", command="sh -c 'exit 7'")
    with on_it(renter, box, spec) as client:
        assert client.ended() == 7, client.said
    [run] = renter.runs()
    assert renter.state(run) == "failed"
    renter.call("wait", run, codes=(1,))
    renter.call("status", run, codes=(1,))


def test_a_run_is_found_again_from_another_machine(
    renter: Renter, box: Box, boxes: Boxes, bucket: ObjectStore, tmp_path: Path
) -> None:
    """One that has nothing but the store and a way to the box; logs -f and wait need not even that."""
    laptop = replace(renter, place=bucket.url, bucket=bucket)
    spec, start = chain(renter, "elsewhere", steps=12)
    told = laptop.json("run", str(spec), "--on", box.name, "--detach")
    run = told["run"]
    assert (told["ship"], told["target"]) == ("direct", box.name)
    home = tmp_path / "desk"
    home.mkdir()
    desk = replace(laptop, home=home, cache=tmp_path / "cache", targets={})
    following, back = Client(desk, "logs", "-f", run), Client(desk, "attach", run)
    assert (back.ended(), following.ended()) == (0, 0), f"{back.said}\n{following.said}"
    for client in (back, following):
        assert [line for line in client.lines if line.startswith("step ")] == [f"step {k}" for k in range(1, 13)]
    desk.call("wait", run)
    judge(laptop, run, start, 12)


def test_a_box_that_does_not_answer_is_unknown_and_nothing_is_ended(renter: Renter, box: Box) -> None:
    spec, start = chain(renter, "unheard", steps=20, pause=0.7)
    run = renter.detached(box, spec)
    box.stop_sshd()
    try:
        [told] = renter.json("status", run, codes=(3,))
        assert told["state"] == "unknown"
        renter.call("status", "--on", box.name, codes=(69,))
        renter.call("cancel", run, codes=(69,))
        renter.call("attach", run, codes=(75,))
        renter.call("wait", run, "--timeout", "2s", codes=(3,))
    finally:
        box.start_sshd()
    renter.end(run)
    judge(renter, run, start, 20)


def test_cancel_ends_it_and_resume_takes_it_up(renter: Renter, box: Box) -> None:
    spec, start = chain(renter, "cancelled", steps=40)
    with on_it(renter, box, spec) as client:
        run = client.run()
        client.wait_for("step 3")
        renter.call("cancel", run)
        assert client.ended(60) == 143, client.said
    assert renter.state(run) == "killed"
    assert not box.engine.docker("ps", "-q").split()
    renter.call("resume", run)
    found = judge(renter, run, start, 40)
    assert len(found.attempts) == 2 and found.attempts[1].restored


def test_names_that_shells_trip_over(boxes: Boxes, box: Box, shared_cache: Cache, tmp_path: Path) -> None:
    """Spaces, quotes, $, newline and unicode in the folder on the box, the spec's path, parameters and the user."""
    home = tmp_path / "home"
    folder = home / f"{ODD}\nfolder"
    folder.mkdir(parents=True)
    odd = Odd(home=home, cache=shared_cache.root, place=str(home / f"{ODD} store"), ssh_config=box.ssh_config)
    odd.call("target", "add", "odd", "--ssh", box.name, "--folder", f"/root/{ODD}\nfolder")
    (folder / f"{ODD}.yaml").write_text(ODD_SPEC)
    (folder / "odd.py").write_text(ODD_SCRIPT)
    odd.targets["odd"] = box
    text = f"{ODD}\nline"
    said = odd.call("run", str(folder / f"{ODD}.yaml"), "--on", "odd", "-p", f"text={text}")
    assert said == ascii(text) + "\n"
    [run] = odd.runs()
    found = records.load(odd.store, run)
    assert (found.state, found.params, found.who) == ("succeeded", {"text": text}, ODD)
    odd.call("get", run, "-o", str(home / "got"))
    assert (home / "got" / "it's $x \u00fc").read_text() == text
    assert box.root.joinpath("root", f"{ODD}\nfolder", "jobs", run, "order.json").exists()


def test_an_ordinary_user_without_an_engine_needs_none(boxes: Boxes, shared_cache: Cache, tmp_path: Path) -> None:
    """User namespaces are enough, and the run outlives the connection there, too."""
    box = boxes.new(docker=False)
    home = tmp_path / "home"
    home.mkdir()
    ada = Renter(home=home, cache=shared_cache.root, place=str(home / "store"), ssh_config=box.ssh_config)
    ada.call("target", "add", box.name, "--ssh", f"{box.name}-ada")
    ada.targets[box.name] = box
    spec, start = chain(ada, "namespaces", steps=10)
    with on_it(ada, box, spec) as client:
        run = client.run()
        client.wait_for("step 2")
        client.kill()
    ada.end(run)
    found = judge(ada, run, start, 10)
    assert found.host is not None and str(found.host["engine"]).startswith("sandbox")
    assert (box.root / "home/ada").stat().st_uid != 0  # and nothing of it is root's
