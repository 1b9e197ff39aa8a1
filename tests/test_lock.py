"""The lock file: an exact round trip, bytes that depend on values only, and every mistake told at once.

UPDATE_GOLDEN=1 writes the messages anew; read the difference before it is committed.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.digest import sha256_bytes
from launcher.errors import LockError
from launcher.lock import Inputs, Lock, Wheel, digest, dumps, load, loads
from launcher.lock.places import key_lines, line_of

GOLDEN = Path(__file__).parent / "golden" / "lock"
BAD = sorted(path.stem for path in GOLDEN.glob("*.lock") if path.stem != "good")


@pytest.fixture
def good(monkeypatch: pytest.MonkeyPatch) -> Lock:
    monkeypatch.chdir(GOLDEN)
    return load(Path("good.lock"))


@pytest.mark.parametrize("name", BAD)
def test_bad_lock_is_told_in_full(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    with pytest.raises(LockError) as caught:
        load(Path(f"{name}.lock"))
    expected = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(f"{caught.value}\n")
    assert f"{caught.value}\n" == expected.read_text()


def test_there_are_many_and_none_is_left_over() -> None:
    assert len(BAD) >= 20
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == BAD


def test_round_trip_is_exact(good: Lock) -> None:
    text = (GOLDEN / "good.lock").read_text()
    assert dumps(good) == text
    assert loads(dumps(good)) == good
    assert digest(good) == sha256_bytes(text.encode())


def test_bytes_do_not_depend_on_order(good: Lock) -> None:
    wheels = tuple(
        replace(good.wheels[0], name=name, filename=f"{name}-1-py3-none-any.whl", version="1") for name in "abcdef"
    )
    lock = replace(good, wheels=wheels, env={"B": "1", "A": "2"})
    shuffled = list(wheels)
    random.Random(1).shuffle(shuffled)
    assert dumps(replace(lock, wheels=tuple(shuffled), env={"A": "2", "B": "1"})) == dumps(lock)
    backwards = dumps(lock).replace('"a-1', '"A-1')
    assert [wheel.name for wheel in loads(dumps(lock)).wheels] == list("abcdef")
    assert backwards != dumps(lock)


def test_layers_keep_their_order(good: Lock) -> None:
    assert good.image is not None
    assert [layer.name for layer in good.image.layers] == ["base", "apt"]


@pytest.mark.parametrize(
    "value",
    ["", "plain", 'quo"te', "back\\slash", "new\nline", "tab\t", "\x7f\x00\x1b", "ünï ✓", "#no comment", "'''", "[x]"],
)
def test_any_text_survives(good: Lock, value: str) -> None:
    lock = replace(good, env={"KEY": value, "odd key.": value})
    assert loads(dumps(lock)).env == lock.env


def test_what_is_not_there_is_not_written() -> None:
    inputs = Inputs(base="debian:bookworm", platform="linux/amd64", python=None)
    lock = Lock(inputs=inputs, suite="bookworm", architecture="amd64", python=None, libc="glibc 2.36")
    assert loads(dumps(lock)) == lock
    assert "python" not in dumps(lock).split("\n\n", 1)[1]


def test_a_lock_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="there is no lock"):
        load(tmp_path / "x.lock")
    (tmp_path / "bytes.lock").write_bytes(b"\xff\xfe")
    with pytest.raises(LockError, match="can't read the lock"):
        load(tmp_path / "bytes.lock")


def test_lines_of_keys() -> None:
    lines = key_lines('a = 1\n[t]\nlist = [\n  "x = y",\n]\n[[w]]\nk = 1\n[[w]]\n"q k" = 2\n[[i.layer]]\nz = 1\n')
    assert lines == {
        "a": 1, "t": 2, "t.list": 3, "w[0]": 6, "w[0].k": 7, "w[1]": 8, "w[1].q k": 9, "i.layer[0]": 10,
        "i.layer[0].z": 11,
    }  # fmt: skip
    assert line_of("t.list[0]", lines) == 3
    assert line_of("w[1].missing", lines) == 8
    assert line_of("nowhere", lines) is None


def test_version_forms_of_one_release_are_the_same(good: Lock) -> None:
    wheel = Wheel(name="a", version="1.0", filename="a-1.0.0-py3-none-any.whl", size=1, sha256="0" * 64)
    assert loads(dumps(replace(good, wheels=(wheel,)))).wheels == (wheel,)
