"""What Docker and Podman are asked for: pure values, with names that a careless command line would break."""

from __future__ import annotations

import csv
import gc
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.image.oci import Image
from launcher.target import docker, podman
from launcher.target.model import Container, Mount

NASTY = ["with space", "quote'\"", "$HOME", "-rf", "ü☃", "comma,equals=", "back\\slash"]


@pytest.fixture
def container(tmp_path: Path) -> Container:
    image = Image(id="a" * 64, config=b"{}", manifest=b"{}", layers=())
    mounts = [Mount(source=tmp_path / name, target=f"/data/{name}") for name in NASTY]
    return Container(
        run="20260304-050607-x-abcdef",
        image=image,
        argv=("python3", "-I", "$x y"),
        env={"A": "b c\nd", "E": ""},
        mounts=(*mounts, Mount(source=tmp_path, target="/out", writable=True)),
        user=1000,
        group=1001,
    )


def test_docker_options(container: Container, tmp_path: Path) -> None:
    asked = docker.options(container)
    assert asked["user"] == "1000:1001"
    assert (asked["read_only"], asked["cap_drop"]) == (True, ["ALL"])
    assert asked["security_opt"] == ["no-new-privileges"]
    assert asked["labels"] == {"launcher.run": container.run}
    assert asked["environment"] == {"A": "b c\nd", "E": ""}
    first, *rest = asked["mounts"]  # outer ones first
    assert (first["Target"], first["ReadOnly"]) == ("/out", False)
    assert [mount["Source"] for mount in rest] == [str(tmp_path / name) for name in NASTY]
    assert all(mount["ReadOnly"] for mount in rest)


def test_podman_arguments(container: Container, tmp_path: Path) -> None:
    words = podman.arguments(container)
    assert words[-3:] == ["launcher:aaaaaaaaaaaa", "-I", "$x y"]
    assert words[words.index("--entrypoint") + 1] == "python3"
    assert words[words.index("--userns") + 1] == "keep-id"
    assert [words[at + 1] for at, word in enumerate(words) if word == "--env"] == ["A=b c\nd", "E="]
    mounts = [next(csv.reader([words[at + 1]])) for at, word in enumerate(words) if word == "--mount"]
    assert mounts[0] == ["type=bind", f"source={tmp_path}", "target=/out", "ro=false"]
    assert [fields[1:3] for fields in mounts[1:]] == [
        [f"source={tmp_path / name}", f"target=/data/{name}"] for name in NASTY
    ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK forgets its socket
def test_missing_engines_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no engine answers" in (docker.Docker().refusal() or "")
    assert "no program `podman`" in (podman.Podman(Cache(tmp_path)).refusal() or "")
    gc.collect()
