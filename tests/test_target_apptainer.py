"""What Apptainer is told: pure values, and what is said of a program that won't do."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import TargetError
from launcher.image.oci import Image
from launcher.target import apptainer
from launcher.target.model import Container, Mount, Unusable
from tests.test_target_engines import NASTY

VALUES = {"A": "it's $HOME", "B": 'two\nlines "q" `x` \\', "C": "", "D": "a,b=c", "not a name": "x"}


def container(folder: Path, **more: object) -> Container:
    image = Image(id="a" * 64, config=b"{}", manifest=b"{}", layers=())
    mounts = tuple(Mount(source=folder / name, target=f"/data/{name}") for name in NASTY)
    values = {"env": VALUES, "mounts": (*mounts, Mount(source=folder, target="/out", writable=True)), **more}
    return Container(run="r", image=image, argv=("sh", "$x y"), user=1, group=1, **values)  # type: ignore[arg-type]


def test_arguments(tmp_path: Path) -> None:
    words = apptainer.arguments(container(tmp_path), Path("/x.sif"))
    assert words[-3:] == ["/x.sif", "sh", "$x y"]
    assert {"--containall", "--cleanenv", "--no-home", "--no-eval"} <= set(words)
    assert "--net" not in words
    mounts = [next(csv.reader([words[at + 1]])) for at, word in enumerate(words) if word == "--mount"]
    assert mounts[0] == ["type=bind", f"source={tmp_path}", "destination=/out"]  # outer ones first
    assert [fields[1:] for fields in mounts[1:]] == [
        [f"source={tmp_path / name}", f"destination=/data/{name}", "ro"] for name in NASTY
    ]
    assert "--net" in apptainer.arguments(container(tmp_path, network=False), Path("/x.sif"))


def test_the_script_gives_every_value_as_it_is(tmp_path: Path) -> None:
    text = apptainer.script(container(tmp_path)).replace(apptainer.ENVIRONMENT, str(tmp_path))
    (tmp_path / "script").write_text(text)
    shown = 'printf "%s\\0" "$A" "$B" "$C" "$D"'
    done = subprocess.run(["sh", "-euc", f". {tmp_path}/script; {shown}"], capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == [VALUES[name] for name in "ABCD"]
    assert (tmp_path / "started").read_text() == "started\n"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("apptainer version 1.4.5", None),
        ("apptainer version 1.1.0-rc.1", None),
        ("apptainer version 1.0.3", "too old: 1.1"),
        ("singularity-ce version 4.1.0", None),
        ("singularity version 3.8.7", "too old: 3.11"),
        ("what?", "names no version"),
    ],
)
def test_versions(said: str, reason: str | None) -> None:
    found = apptainer.too_old(said)
    assert found is None if reason is None else reason in str(found)


def program(folder: Path, text: str) -> None:
    (folder / "apptainer").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "apptainer").chmod(0o755)


def test_refusals(tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no program `apptainer`" in (apptainer.Apptainer(cache).refusal() or "")
    program(tmp_path, "echo apptainer version 1.0.1")
    assert "too old" in (apptainer.Apptainer(cache).refusal() or "")
    with pytest.raises(Unusable, match="too old"):
        apptainer.Apptainer(cache).start(container(tmp_path))


def test_a_failure_before_the_start_is_no_exit_code(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", 'case "$1" in --version) echo apptainer version 1.4.5;; *) exit 255;; esac')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("LAUNCHER_APPTAINER_IMAGE", "folder")
    with pytest.raises(TargetError, match=r"could not start `sh` \(code 255\)"):
        apptainer.Apptainer(cache).start(container(tmp_path))
    assert list((cache.root / "tmp").iterdir()) == []
