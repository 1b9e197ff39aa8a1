"""Runs with inputs from a bucket: staged, mounted read-only, recorded; run again elsewhere by digest alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.cache import Cache
from tests.object_stores import ObjectStore

pytestmark = [pytest.mark.services, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
LOOK = """
import os, pathlib
for path in sorted(pathlib.Path("/data").rglob("*")):
    if path.is_file():
        print(path, oct(path.stat().st_mode)[-3:], path.read_text())
try:
    pathlib.Path("/data/set/a.txt").write_text("x")
    print("written")
except OSError as e:
    print("refused")
"""


def upload(store: ObjectStore, **files: bytes) -> None:
    client = store.client()
    for name, data in files.items():
        client.put_object(Bucket=store.bucket, Key=f"set/{name}.txt", Body=data)
    client.close()


def launcher(*args: str, env: Mapping[str, str], code: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "launcher", *args],
        env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def inputs_told(record: Any) -> Any:
    return record["attempts"][-1]["host"]["inputs"]


def test_inputs_from_a_bucket(s3: ObjectStore, tmp_path: Path, shared_cache: Cache) -> None:
    upload(s3, a=b"one", b=b"two")
    project = tmp_path / "project"
    project.mkdir()
    (project / "look.py").write_text(LOOK)
    spec = project / "experiment.yaml"
    spec.write_text(
        "name: look\nimage: {base: 'debian:bookworm', python: '3.11'}\nrun: python look.py\n"
        f"data:\n  set: {s3.url}/set/\n  one: {s3.url}/set/a.txt\n"
    )
    here = {
        **s3.environment,
        "LAUNCHER_CACHE": str(shared_cache.root),
        "LAUNCHER_INPUTS": str(tmp_path / "here"),
        "LAUNCHER_STORE": f"{s3.url}/lab",
    }
    there = {**here, "LAUNCHER_INPUTS": str(tmp_path / "there")}
    launcher("lock", "--no-image", str(spec), env=here)
    checked, _ = launcher("check", str(spec), env=there)
    assert "the input `set` is brought here first" in checked
    told, _ = launcher("run", str(spec), "--json", env=here)
    record = json.loads(told)
    assert record["state"] == "succeeded" and inputs_told(record) == {"set": "cache", "one": "cache"}
    lines, _ = launcher("logs", record["run"], env=here)
    for line in ("/data/one 444 one", "/data/set/a.txt 444 one", "/data/set/b.txt 444 two", "refused"):
        assert line in lines
    launcher("data", "add", str(spec), env=here)

    upload(s3, b=b"TWO")
    _, said = launcher("run", str(spec), env=here, code=65)
    assert "changed: b.txt" in said and "launcher lock" in said

    told, _ = launcher("rerun", record["run"], "--json", env=there)
    again = json.loads(told)
    assert again["state"] == "succeeded" and inputs_told(again) == {"set": "store", "one": "store"}
    assert "/data/set/b.txt 444 two" in launcher("logs", again["run"], env=there)[0], "what was locked, not what is new"
