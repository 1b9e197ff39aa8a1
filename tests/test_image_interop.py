"""The topmost layer: what shells, enroot's rules and Apptainer's file names make of an environment."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.image import build
from launcher.image.interop import FOLDERS, HOST_FILES, command, exports, runtime_plan
from launcher.image.oci import Settings, environment, settings
from launcher.image.tree import Bytes
from launcher.lock import Deb, Inputs, Lock
from tests.bases import tree

NASTY = {
    "APOSTROPHE": 'it\'s $HOME `id` "q" \\ back\\n $(id)',
    "BRACES": "${HOME}/x",
    "CARRIAGE": "a\rb",
    "DOUBLE": '"dq"',
    "EMPTY": "",
    "EQUALS": "a=b=c",
    "GLOB": "* ? [a] ~ #",
    "LINES": "one\ntwo\n",
    "QUOTED": "'quoted'",
    "SPACES": "  lead, trail  ",
    "TAB": "\t",
    "UNICODE": "ünï→",
}
LOCK = Lock(
    inputs=Inputs(base="debian:bookworm", platform="linux/amd64", python=None),
    suite="bookworm",
    architecture="amd64",
    python=None,
    libc="glibc 2.36",
    env=NASTY,
)


def texts(lock: Lock) -> dict[str, bytes]:
    found = {entry.path: entry.content for entry in runtime_plan(lock).entries()}
    return {path: content.data for path, content in found.items() if isinstance(content, Bytes)}


def environment_of(output: bytes) -> dict[str, str]:
    pairs = (line.decode().partition("=") for line in output.split(b"\0") if line)
    return {name: value for name, _, value in pairs}


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_every_value_survives_a_shell(shell: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    (tmp_path / "env.sh").write_bytes(texts(LOCK)[".singularity.d/env/90-environment.sh"])
    line = [str(shutil.which(shell)), "-c", f". {tmp_path}/env.sh; exec {shutil.which('env')} -0"]
    done = subprocess.run(line, env={}, capture_output=True, check=True)
    got = environment_of(done.stdout)
    assert {name: got.get(name) for name in environment(LOCK)} == environment(LOCK)


def read_as_enroot(file: bytes) -> dict[str, str]:
    """Do what enroot does to /etc/environment (src/common.sh envsubst and envfmt, bin/common.h load_environment)."""
    found = {}
    for line in file.decode().split("\n"):
        line = re.sub(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}", "", line.lstrip(" \t"))
        if not re.match(r"[A-Za-z_][A-Za-z0-9_]*=", line):
            continue
        line = re.sub(r"^([A-Za-z_]\w*)=[\"'](.*)[\"']\s*$", r"\1=\2", line)
        name, _, value = line.partition("=")
        found[name] = value
    return found


def test_every_value_survives_enroot(tmp_path: Path) -> None:
    """Its own reading of /etc/environment, then /etc/rc for what no line of that can carry."""
    found = texts(LOCK)
    carried = read_as_enroot(found["etc/environment"])
    assert set(environment(LOCK)) - set(carried) == {"BRACES", "DOUBLE", "LINES", "QUOTED"}
    (tmp_path / "rc").write_bytes(found["etc/rc"].replace(b"'/workspace'", b"/"))
    done = subprocess.run(
        ["sh", tmp_path / "rc", str(shutil.which("env")), "-0"], env=carried, capture_output=True, check=True
    )
    got = environment_of(done.stdout)
    assert {name: got.get(name) for name in environment(LOCK)} == environment(LOCK)
    assert found["etc/fstab"] == b""


@pytest.mark.parametrize("words", [["/bin/sh"], ["printf", "<%s>", "a b", "it's", "$x", ""]])
def test_commands_are_those_of_the_config_or_the_arguments(words: list[str]) -> None:
    config: Settings = {"Cmd": words, "Env": [], "WorkingDir": "/"}
    done = subprocess.run(["sh", "-c", command(config), "sh", "echo", "a  b"], capture_output=True, text=True)
    assert done.stdout == "a  b\n"
    if words[0] == "printf":
        done = subprocess.run(["sh", "-c", command(config)], capture_output=True, text=True)
        assert done.stdout == "<a b><it's><$x><>"


def test_names_that_no_shell_bears_are_left_out() -> None:
    assert exports(["A.B=1", "2C=1", "OK=1", "_x=", "NOTHING"]) == "export OK='1'\nexport _x=''\n"


def test_bytes_of_a_base_that_are_no_utf8_stay() -> None:
    entries = {entry.path: entry for entry in runtime_plan(replace(LOCK, env={"X": "\udcff"})).entries()}
    content = entries[".singularity.d/env/90-environment.sh"].content
    assert content and b"export X='\xff'\n" in b"".join(content.chunks())


def test_the_files_say_what_the_config_says() -> None:
    found = texts(LOCK)
    assert settings(LOCK)["WorkingDir"] == "/workspace"
    assert b"cd '/workspace' || exit 1\n" in found["etc/rc"]
    assert b"cd '/workspace' || exit 1\n" in found[".singularity.d/runscript"]
    assert ".singularity.d/env/99-base.sh" in found, "Apptainer reads --env behind this file"
    assert found[".singularity.d/labels.json"] == b"{}\n"


def test_places_for_mounts_are_there() -> None:
    found = {entry.path: entry for entry in runtime_plan(LOCK).entries()}
    assert {path: found[path].mode for path in FOLDERS} == FOLDERS
    assert set(HOST_FILES) <= set(found)
    deb = Deb(
        name="x", version="1", filename="x.deb", size=1, sha256="0" * 64, architecture="all", group="base", pool="x"
    )
    ruled = {entry.path for entry in runtime_plan(replace(LOCK, debs=(deb,))).entries()}
    assert not set(HOST_FILES) & ruled, "the rules for Debian packages write them"


def test_the_layer_lies_on_top_and_changes_with_the_environment_only(cache: Cache) -> None:
    one, other = build(LOCK, cache), build(replace(LOCK, env={}), cache)
    assert one.layers[-1].name == other.layers[-1].name == "runtime"
    assert one.layers[-1].diff_id != other.layers[-1].diff_id
    assert one.layers[:-1] == other.layers[:-1]
    assert build(replace(LOCK, env={}), cache) == other


def test_what_a_base_has_stays_as_it_is(tmp_path: Path) -> None:
    base = tree(tmp_path, {"etc": None, "etc/hosts": b"127.0.0.1 localhost\n", "data": "mnt", "mnt": None, "tmp": None})
    found = {entry.path for entry in runtime_plan(LOCK, base).entries()}
    assert not {"etc/hosts", "data", "tmp", "mnt"} & found
    assert {"etc/hostname", "etc/resolv.conf", "workspace", "etc/rc"} <= found
