"""The verbs that list: ls, table, status, and get, show and logs where a run is named."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher import records
from launcher import store as stores
from launcher.cli import invoke
from launcher.cli.listing import aligned, cells, cut, widths_of
from launcher.cli.runs import moment
from launcher.digest import sha256_bytes
from launcher.errors import UsageError
from launcher.runner.clock import stamp
from launcher.store import keys
from launcher.store.objects import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LAUNCHER_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return stores.open(str(tmp_path / "store"))


def event(store: Store, run: str, seq: int, kind: str, **facts: Any) -> None:
    told = {"kind": kind, "time": stamp(), "attempt": 1, "seq": seq, **facts}
    store.create(keys.event(run, 1, seq), json.dumps(told).encode())


def run(
    store: Store, run: str, code: int | None = 0, name: str = "trial", losses: tuple[float, ...] = (), **params: Any
) -> None:
    """Write a run: `code` is its end, None for one that goes on."""
    records.submit(store, {"version": 1, "run": run, "name": name, "argv": ["true"], "params": params})
    event(store, run, 1, "started", runner="0.1.0", heartbeat_s=20)
    rows = [json.dumps({"step": 10 * step, "loss": loss}).encode() for step, loss in enumerate(losses)]
    if rows:
        store.create(keys.metric(run, 1, 0), b"\n".join(rows))
    if code is not None:
        event(store, run, 2, "ended", code=code, signal=None, reason=None)
        event(store, run, 3, "closed", missing=[], log_bytes_lost=0)
        record = records.load(store, run)
        store.create(keys.record(run), json.dumps(record, default=vars).encode())


def told(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    assert invoke(list(args)) == code, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.fixture
def sweep(store: Store) -> Store:
    run(store, "r-1", lr=0.1, layers=2, losses=(3.0, 1.0, 2.0))
    run(store, "r-2", 1, lr=0.2, layers=2, losses=(3.0, 0.5))
    run(store, "r-3", None, lr=0.3, layers=2)
    run(store, "s-1", name="other", lr=0.1, words=["a", "b"])
    return store


def test_ls_filters_and_sorts(sweep: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def runs(*args: str) -> list[str]:
        return [line.split()[0] for line in told(capsys, "ls", *args).splitlines()[1:]]

    assert runs() == ["s-1", "r-3", "r-2", "r-1"]
    assert runs("--name", "other") == ["s-1"]
    assert runs("--state", "failed", "--state", "running") == ["r-3", "r-2"]
    assert runs("--since", "1h", "--limit", "2") == ["s-1", "r-3"]
    assert runs("--since", "2099-01-01") == []
    assert runs("--sort", "name")[0] == "s-1" and runs("--sort", "took")[-1] == "r-3"
    whole = json.loads(told(capsys, "ls", "--json"))
    assert whole[2]["metrics"] == {"loss": 0.5} and whole[2]["exit"]["code"] == 1
    assert {"run", "name", "state", "params", "complete", "attempts", "who", "step"} <= whole[0].keys()


@pytest.mark.parametrize(("text", "seconds"), [("2d", 2 * 86400), ("90m", 5400)])
def test_a_time_span_is_read(text: str, seconds: float) -> None:
    import time

    assert moment(None, None, text) == pytest.approx(time.time() - seconds, abs=5)


def test_a_moment_is_read_in_utc() -> None:
    assert moment(None, None, "2026-01-31") == moment(None, None, "2026-01-31T00:00:00Z") == 1769817600
    assert moment(None, None, "2026-01-31T01:00:00+01:00") == 1769817600
    for wrong in ("", "yesterday", "3", "2026-13-01"):
        with pytest.raises(UsageError, match="is no time"):
            moment(None, None, wrong)


def test_a_table_shows_what_differs(sweep: Store, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "table", "--name", "trial").splitlines()
    assert lines[0].split() == ["RUN", "STATE", "TOOK", "lr", "loss"]
    assert [line.split()[-2:] for line in lines[1:]] == [["0.3", "-"], ["0.2", "0.5"], ["0.1", "2"]]


def test_a_table_of_the_best(sweep: Store, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "table", "--metric", "loss", "--best", "min", "--param", "layers").splitlines()
    assert lines[0].split()[3:] == ["layers", "min", "loss", "at", "step"]
    assert [line.split()[0] for line in lines[1:]] == ["r-2", "r-1", "s-1", "r-3"]
    assert lines[2].split()[-3:] == ["2", "1", "10"], "the best value and the step at which it was"
    assert told(capsys, "table", "--metric", "loss", "--best", "max", "--limit", "1").splitlines()[1].startswith("r-2")


def test_a_table_for_programs(sweep: Store, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(told(capsys, "table", "--csv"))))
    assert list(rows[0])[7:] == ["seed", "params.layers", "params.lr", "params.words", "metrics.loss"]
    assert [row["params.lr"] for row in rows] == ["0.1", "0.3", "0.2", "0.1"]
    assert rows[0]["params.words"] == '["a", "b"]' and rows[0]["metrics.loss"] == ""
    [row] = json.loads(told(capsys, "table", "--json", "--metric", "loss", "--best", "min", "--limit", "1"))
    assert row["metrics"] == {"loss": {"min": 0.5, "min_step": 10}} and row["params"]["lr"] == 0.2
    assert json.loads(told(capsys, "table", "--json", "--name", "nothing")) == []


def test_a_table_refuses_what_no_run_has(sweep: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["table", "--param", "lrr", "--metric", "los"]) == 2
    said = capsys.readouterr().err
    assert "has a parameter `lrr`" in said and "they have layers, lr, words" in said and "a metric `los`" in said
    assert invoke(["table", "--best", "min"]) == 2
    assert "of which metric?" in capsys.readouterr().err


def test_status_counts_and_tells_of_failures(sweep: Store, capsys: pytest.CaptureFixture[str]) -> None:
    said = told(capsys, "status")
    assert f"{sweep.url}: 4 runs\n  1 running, 2 succeeded, 1 failed\n" in said
    assert "\ngoing on\n" in said and "the command ended with code 1" in said
    whole = json.loads(told(capsys, "status", "--json"))
    assert whole["counts"] == {"running": 1, "succeeded": 2, "failed": 1}
    assert [one["run"] for one in whole["going_on"]] == ["r-3"] and [one["run"] for one in whole["failures"]] == ["r-2"]


def test_the_code_of_status_says_how_named_runs_fare(sweep: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for named, code in ((["r-1"], 0), (["r-1", "s-1"], 0), (["r-1", "r-3"], 3), (["r-3", "r-2"], 1)):
        said = told(capsys, "status", *named, code=code)
        assert [line.split()[0] for line in said.splitlines()[1:]] == named
    assert [one["run"] for one in json.loads(told(capsys, "status", "r-1", "--json"))] == ["r-1"]
    assert invoke(["status", "r"]) == 2, "more than one begins so"
    assert invoke(["status", "--watch"]) == 2, "no terminal"


def test_offline_and_a_store_that_is_gone(sweep: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["ls", "--offline"]) == 2
    assert "nothing is known here" in capsys.readouterr().err
    told(capsys, "ls")
    (tmp_path / "store").rename(tmp_path / "away")
    for args in (["ls"], ["ls", "--store", sweep.url], ["ls", "--offline"]):
        assert invoke(args) == 0
        said = capsys.readouterr()
        assert [line.split()[2] for line in said.out.splitlines()[1:]] == [
            "succeeded",
            "unknown",
            "failed",
            "succeeded",
        ]
        assert "as of 20" in said.err and "ago; what had not ended then is told as unknown" in said.err
    assert invoke(["ls", "--store", sweep.url]) == 0
    assert "warning: there is no store at" in capsys.readouterr().err
    assert invoke(["status", "--offline", "r-3"]) == 3
    assert "it was running when the store was last asked" in told(capsys, "status", "--offline")
    told(capsys, "ls", "--refresh")
    assert told(capsys, "ls").splitlines()[1:] == [], "who says --refresh means it"


def test_wide_tables_are_cut_on_a_terminal_and_whole_in_a_pipe(sweep: Store) -> None:
    env = {**os.environ, "COLUMNS": "30", "TERM": "xterm"}
    env.pop("NO_COLOR", None)
    head, tail = pty.openpty()
    done = subprocess.run([sys.executable, "-m", "launcher", "table"], stdout=tail, env=env, check=True)
    os.close(tail)
    said = os.read(head, 65536).decode()
    os.close(head)
    assert done.returncode == 0 and "\x1b[32msucceeded" in said
    plain = said.replace("\x1b[0m", "").replace("\x1b[32m", "").replace("\x1b[1m", "")
    lines = plain.split("\r\n")
    assert lines[0].endswith("…") and all(len(line) <= 30 for line in lines if "\x1b" not in line)
    piped = subprocess.run([sys.executable, "-m", "launcher", "table"], capture_output=True, text=True, env=env)
    assert "…" not in piped.stdout and "loss" in piped.stdout


def test_lines_are_as_wide_as_a_terminal_shows_them() -> None:
    rows = [["ünï", "x"], ["漢字", "y"], ["abc", "z"]]
    assert [cells(line) for line in aligned(rows, widths_of(rows))] == [6 + 1] * 3
    assert cut("漢字漢字", 5) == "漢字…" and cut("abc", 3) == "abc" and cut("e\u0301e\u0301", 2) == "e\u0301e\u0301"


def checkpoint(store: Store, run: str, number: int, files: dict[str, bytes], kind: str = "tree") -> None:
    name = f"step-{number}" if kind == "tree" else next(iter(files))
    lines = []
    for path, data in files.items():
        digest = sha256_bytes(data)
        store.put(keys.blob(run, digest), data)
        lines.append({"path": path, "mode": "0644", "size": len(data), "sha256": digest})
    told = {"version": 1, "name": name, "kind": kind, "attempt": 1, "seq": number, "time": stamp()}
    whole = {**told, "bytes": sum(map(len, files.values())), "files": lines}
    store.create(keys.checkpoint(run, 1, number), json.dumps(whole).encode())


def with_outputs(store: Store, run_id: str, files: dict[str, bytes]) -> None:
    """Write a run that has ended with outputs; a name that ends in `@` becomes a link to its content."""
    records.submit(
        store, {"version": 1, "run": run_id, "name": "n", "argv": [], "params": {}, "keep": {"best": "loss"}}
    )
    event(store, run_id, 1, "started", runner="0.1.0", heartbeat_s=20)
    lines: list[dict[str, Any]] = []
    for path, data in files.items():
        if path.endswith("@"):
            lines.append({"path": path[:-1], "link": data.decode()})
            continue
        store.put(keys.output(run_id, 1, path), data)
        lines.append({"path": path, "mode": "0755", "size": len(data), "sha256": sha256_bytes(data)})
    key = keys.output_manifest(run_id, 1)
    store.create(key, json.dumps({"version": 1, "attempt": 1, "files": lines}).encode())
    event(store, run_id, 2, "ended", code=0, signal=None, reason=None)
    event(store, run_id, 3, "outputs", key=key, files=len(lines), digest="d", bytes=1, missing=[])
    event(store, run_id, 4, "closed", missing=[], log_bytes_lost=0)


FILES = {
    "model.pt": b"weights" * 1000,
    "plots/a.png": b"a",
    "plots/b.png": b"b",
    "odd #%ü.txt": b"odd",
    "latest@": b"model.pt",
}


def test_get_fetches_outputs(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_outputs(store, "r-1", FILES)
    assert told(capsys, "get", "r-1").strip() == "r-1"
    assert {p.relative_to("r-1").as_posix(): p.read_bytes() for p in Path("r-1").rglob("*") if p.is_file()} == {
        **{path: data for path, data in FILES.items() if not path.endswith("@")},
        "latest": FILES["model.pt"],
    }
    assert Path("r-1/latest").readlink() == Path("model.pt") and os.access("r-1/model.pt", os.X_OK)
    told(capsys, "get", "r-1", "plots", "-o", "some")
    assert sorted(path.name for path in Path("some").rglob("*.*")) == ["a.png", "b.png"]
    assert invoke(["get", "r-1", "*.csv"]) == 2
    assert "no output fits `*.csv`" in capsys.readouterr().err


def test_get_goes_on_where_it_was_cut_off_and_spares_what_differs(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with_outputs(store, "r-1", FILES)
    told(capsys, "get", "r-1", "-o", "out")
    Path("out/plots/a.png").unlink()
    before = Path("out/model.pt").stat().st_mtime_ns
    whole = json.loads(told(capsys, "get", "r-1", "-o", "out", "--json"))
    assert (whole["fetched"], whole["kept"]) == (1, 3) and Path("out/model.pt").stat().st_mtime_ns == before
    Path("out/model.pt").write_bytes(b"mine")
    Path("out/plots/b.png").write_bytes(b"c")
    assert invoke(["get", "r-1", "-o", "out"]) == 2
    said = capsys.readouterr().err
    assert "out/model.pt is there and is another file" in said and "b.png" in said and "--force" in said
    assert Path("out/model.pt").read_bytes() == b"mine"
    told(capsys, "get", "r-1", "-o", "out", "--force")
    assert Path("out/model.pt").read_bytes() == FILES["model.pt"]
    assert not list(Path("out").glob(".launcher*"))


def test_get_never_leaves_half_a_file_or_a_wrong_one(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with_outputs(store, "r-1", FILES)
    store.put(keys.output("r-1", 1, "model.pt"), FILES["model.pt"][:-1] + b"X")
    store.delete(keys.output("r-1", 1, "plots/b.png"))
    assert invoke(["get", "r-1", "model.pt", "-o", "out"]) == 76
    assert "model.pt is not what its manifest says" in capsys.readouterr().err
    assert invoke(["get", "r-1", "plots/b.png", "-o", "out"]) == 74
    assert "is not there any more" in capsys.readouterr().err
    assert not list(Path("out").rglob("*.p*")) and not list(Path("out").glob(".launcher*"))


def test_get_says_what_is_in_the_way(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with_outputs(store, "r-1", {"plots/a.png": b"a", "model.pt": b"m"})
    Path("out/model.pt").mkdir(parents=True)
    Path("out/plots").write_text("a file")
    for force in ([], ["--force"]):
        assert invoke(["get", "r-1", "model.pt", "-o", "out", *force]) == 2
        assert "out/model.pt is there and is another file" in capsys.readouterr().err
    assert invoke(["get", "r-1", "plots", "-o", "out"]) == 2
    assert "out/plots is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["../evil", "/evil", "a/../../evil", "a//b", ""])
def test_get_refuses_paths_that_lead_out(store: Store, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with_outputs(store, "r-1", {"x": b"x"})
    manifest = {"attempt": 1, "files": [{"path": path, "mode": "0644", "size": 1, "sha256": sha256_bytes(b"x")}]}
    store.put(keys.output_manifest("r-1", 1), json.dumps(manifest).encode())
    assert invoke(["get", "r-1", "-o", "out"]) == 74
    assert "leads out of its folder" in capsys.readouterr().err


def test_get_writes_through_no_link(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "elsewhere").mkdir()
    with_outputs(store, "r-1", {"door@": str(tmp_path / "elsewhere").encode(), "safe": b"s"})
    told(capsys, "get", "r-1", "-o", "out")
    with_outputs(store, "r-2", {"door/evil": b"x"})
    assert invoke(["get", "r-2", "-o", "out"]) == 74
    assert "by a link" in capsys.readouterr().err and not list((tmp_path / "elsewhere").iterdir())


@pytest.fixture
def trained(store: Store) -> Store:
    with_outputs(store, "r-1", {"x": b"x"})
    for number, loss in enumerate((3.0, 1.0, 2.0)):
        checkpoint(store, "r-1", number, {"a.bin": b"a%d" % number, "deep/b.bin": b"b"})
        store.put(keys.metric("r-1", 1, number), json.dumps({"step": number, "loss": loss}).encode())
    checkpoint(store, "r-1", 9, {"last.pt": b"last"}, kind="file")
    event(store, "r-1", 5, "forgotten", key="k", name="step-0.old", number=0, of_attempt=1, bytes=7)
    return store


def test_get_fetches_checkpoints(trained: Store, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "get", "r-1", "--checkpoint", "-o", "out")
    assert Path("out/checkpoints/last.pt").read_bytes() == b"last"
    told(capsys, "get", "r-1", "--checkpoint=step-0", "-o", "out")
    assert Path("out/checkpoints/step-0/deep/b.bin").read_bytes() == b"b"
    told(capsys, "get", "r-1", "--checkpoint", "best", "-o", "out")
    assert Path("out/checkpoints/step-1/a.bin").read_bytes() == b"a1"
    told(capsys, "get", "r-1", "--checkpoint", "newest", "--outputs", "-o", "both")
    assert Path("both/x").read_bytes() == b"x" and Path("both/checkpoints/last.pt").exists()


def test_get_says_which_checkpoints_there_are_and_which_keep_removed(
    trained: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["get", "r-1", "--checkpoint", "step-7"]) == 2
    assert "has no checkpoint `step-7`\n  hint: there are step-0, step-1, step-2, last.pt" in capsys.readouterr().err
    assert invoke(["get", "r-1", "--checkpoint", "step-0.old"]) == 2
    assert "was removed at 20" in capsys.readouterr().err
    run(trained, "r-2")
    assert invoke(["get", "r-2", "--checkpoint"]) == 2
    assert "r-2 has no checkpoint" in capsys.readouterr().err
    assert invoke(["get", "r-2", "--checkpoint", "best"]) == 2
    assert invoke(["get", "r-2"]) == 2
    assert "r-2 (succeeded) has no outputs in the store" in capsys.readouterr().err


def test_show_lists_checkpoints_by_step_and_what_keep_removed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run(store, "r-1", None)
    for number in range(4):
        key = keys.checkpoint("r-1", 1, number)
        event(
            store,
            "r-1",
            2 + number,
            "checkpoint",
            name=f"step-{number}00.pt",
            number=number,
            key=key,
            bytes=10**9,
            files=1,
        )
    for number in range(2):
        key = keys.checkpoint("r-1", 1, number)
        told_of = {"name": f"step-{number}00.pt", "number": number, "of_attempt": 1, "bytes": 10**9}
        event(store, "r-1", 6 + number, "forgotten", key=key, **told_of)
    lines = told(capsys, "show", "r-1").partition("\ncheckpoints\n")[2].splitlines()
    assert [line.split()[:5] for line in lines[:2]] == [
        ["step-200.pt", "step", "200", "1.0", "GB"],
        ["step-300.pt", "step", "300", "1.0", "GB"],
    ]
    assert lines[2] == "  2 more removed by `keep`, 2.0 GB: the last step-100.pt"


def test_get_writes_logs(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run(store, "r-1")
    for number in range(150):
        line = f"{stamp()} stdout F line {number}\n".encode()
        store.create(keys.log("r-1", 1, number), line)
    told(capsys, "get", "r-1", "--logs", "-o", "out")
    assert Path("out/logs.txt").read_text().splitlines() == [f"line {number}" for number in range(150)]
    assert invoke(["get", "r-1", "x", "--logs"]) == 2


def test_a_run_is_found_in_a_bucket_too(sweep: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(told(capsys, "show", "r-1", "--json"))["run"] == "r-1"
    assert told(capsys, "logs", "s") == ""
    assert invoke(["show", "r"]) == 2
    assert "3 runs begin with `r`" in capsys.readouterr().err


def test_watching_ends_when_all_is_over(store: Store) -> None:
    run(store, "r-1", None, losses=(1.0,))
    head, tail = pty.openpty()
    watch = [sys.executable, "-m", "launcher", "status", "--watch", "r-1"]
    with subprocess.Popen(watch, stdout=tail, stderr=subprocess.PIPE) as watching:
        os.close(tail)
        said = b""
        while b"running" not in said:
            said += os.read(head, 4096)
        event(store, "r-1", 2, "ended", code=1, signal=None, reason=None)
        event(store, "r-1", 3, "closed", missing=[], log_bytes_lost=0)
        assert watching.wait(30) == 1, "the code says that it failed"
        assert watching.stderr and watching.stderr.read() == b""
    said += os.read(head, 65536)
    os.close(head)
    assert b"failed" in said and said.count(b"\x1b[H") >= 2


def test_of_a_store_that_nobody_made_yet_its_place_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LAUNCHER_STORE", str(tmp_path / "later"))
    for verb in ("show", "logs", "get"):
        assert invoke([verb]) == 2
        assert f"error: there is no run in {tmp_path / 'later'}\n" in capsys.readouterr().err
    assert invoke(["ls"]) == 0
