"""A spec file becomes a value."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.spec import load
from launcher.spec.loader import loads
from launcher.spec.model import CodeSpec, DataSpec, Gpus, ImageSpec, Pip, Resources, Spec
from launcher.spec.scalars import meaning, trap
from launcher.spec.units import MisreadError, gpus, size_bytes, time_seconds

GOOD = Path(__file__).parent / "golden" / "spec" / "good"


def test_smallest_spec_has_the_defaults() -> None:
    file = GOOD / "smallest.yaml"
    expected = Spec(name="smallest", image=ImageSpec(), code=CodeSpec(root=GOOD), run="echo hello", file=file)
    assert load(file) == expected


def test_every_key_arrives() -> None:
    spec = load(GOOD / "full.yaml")
    assert spec == Spec(
        name="full.example_1-a",
        image=ImageSpec(
            base="debian:bookworm",
            apt=("git", "g++", "libc6=2.36-9+deb12u10", "zlib1g=1:1.2.13.dfsg-1"),
            python="3.11",
            pip=Pip(
                requirements=("numpy>=2,<3", "scikit-learn ~= 1.5", "torch[opt]==2.13.0; python_version >= '3.10'")
            ),
            env={"OMP_NUM_THREADS": "4", "GREETING": "hello world", "EMPTY": ""},
        ),
        code=CodeSpec(
            root=GOOD,
            dirty="refuse",
            include=("*.pem",),
            exclude=("notes/", "!keep"),
            max_file_bytes=3 * 2**19,
            max_total_bytes=2 * 2**30,
        ),
        run="python train.py --lr {lr} --name={name} --flag {flag}",
        params={
            "lr": 0.001,
            "epochs": 10,
            "name": "a b",
            "flag": True,
            "nothing": None,
            "optimizer.beta": 0.5,
            "date": "2024-01-01",
            "axis": "y",
        },
        data=(
            DataSpec(name="train", path=GOOD / "data"),
            DataSpec(
                name="test",
                path=GOOD / "data/a.csv",
                sha256="4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865",
            ),
        ),
        resources=Resources(
            nodes=2, gpus=Gpus(count=8, model="H100"), cpus=16, memory_bytes=64 * 2**30, time_s=36 * 3600
        ),
        outputs=("model/*.pt", "metrics.json"),
        determinism="off",
        seed=42,
        store=str(GOOD / "runs"),
        file=GOOD / "full.yaml",
    )
    assert isinstance(spec.params["lr"], float)


def test_files_of_requirements() -> None:
    assert load(GOOD / "requirements-file.yaml").image.pip == Pip(file=GOOD / "requirements.txt")
    project = load(GOOD / "project-file.yaml").image.pip
    assert project == Pip(file=GOOD / "pyproject.toml", extras=("gpu",), groups=("train",))


def test_a_list_command_and_a_url_store() -> None:
    spec = load(GOOD / "requirements-file.yaml")
    assert spec.run == ("python", "-m", "train", "--lr={lr}", "3")
    assert (spec.store, spec.params["lr"], spec.resources.gpus) == ("file:///var/tmp/runs", 16, Gpus(count=2))


def test_a_bucket_with_one_slash_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nrun: python a.py\nstore: s3:/bucket\n")
    with pytest.raises(SpecError, match="names no bucket"):
        load(tmp_path / "a.yaml")


def test_keys_whose_values_are_commented_out_are_left_out() -> None:
    spec = load(GOOD / "commented-out.yaml")
    assert (spec.image, spec.params, spec.determinism) == (ImageSpec(), {}, "off")
    assert spec.outputs == ("**",)


def test_a_relative_spec_path_counts_from_the_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOOD.parent)
    assert load("good/full.yaml") == load(GOOD / "full.yaml")


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("16G", 16 * 2**30), ("16GiB", 16 * 2**30), ("16Gi", 16 * 2**30), ("512m", 2**29), ("1.5K", 1536), ("2T", 2**41)],
)
def test_sizes(text: str, bytes_: int) -> None:
    assert size_bytes(text) == bytes_


@pytest.mark.parametrize("text", ["16", "16GB", "16Q", "G", "-1G", "", "1e3G", "0K", "0.0001K", "\u0661G"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(MisreadError) as caught:
        size_bytes(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h30m", 9000),
        ("90m", 5400),
        ("45s", 45),
        ("1d12h", 129600),
        ("30:00", 1800),
        ("90:30", 5430),
        ("1:30:00", 5400),
        ("100:00:00", 360000),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("1-12:00:00", 129600),
    ],
)
def test_times(text: str, seconds: int) -> None:
    assert time_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["90", "", "1h2", "m30", "1:60", "1:60:00", "1-24", "0s", "2 h", "-5m", "1.5h", "UNLIMITED"]
)
def test_no_times(text: str) -> None:
    with pytest.raises(MisreadError):
        time_seconds(text)


def test_gpus() -> None:
    assert gpus("H100") == Gpus(count=1, model="H100")
    assert gpus("rtx_4090:2") == Gpus(count=2, model="rtx_4090")
    for text in ("8:H100", "8xH100", "H100:0", "H100:", ":8", "H100:8:1", "H100 8"):
        with pytest.raises(MisreadError):
            gpus(text)


def test_plain_scalars_mean_what_yaml_1_2_says() -> None:
    assert [meaning(text) for text in ("1e-3", "1.", ".5", "-0", "0o17", "0xff", "~", "True")] == [
        0.001, 1.0, 0.5, 0, 15, 255, None, True,
    ]  # fmt: skip
    assert all(meaning(text) == text for text in ("1e", "0x", "1.2.3", "tRUE", "nul", "2024-01-01", "--1", "."))


def test_traps_are_only_what_old_readers_change() -> None:
    assert all(trap(text) for text in ("yes", "No", "ON", "off", "010", "1:30", "190:20:30", "1_000"))
    assert not any(trap(text) for text in ("true", "10", "0", "0.5", "1:75", "a_b", "_1", "y", "1e-3", "00"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\x00\x01", "binary file"),
        (b"name: \xff\n", "byte 0xff is no UTF-8"),
        (b"", "the spec is empty"),
        (b"name: a\x07\n", "U+0007 is not allowed"),
        (b"a: " + b"[" * 5000, "levels deep"),
        (b"x" * (2 << 20), "larger than 128 KiB"),
    ],
)
def test_what_is_no_spec(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "e.yaml"
    file.write_bytes(content)
    with pytest.raises(SpecError, match=said.replace("+", r"\+")) as caught:
        load(file)
    assert caught.value.problems[0].where is not None


def test_a_byte_order_mark_and_crlf_are_fine(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_bytes(b"\xef\xbb\xbfname: a\r\nrun: 'true'\r\n")
    assert load(tmp_path / "e.yaml").name == "a"


def test_places_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="this is a folder"):
        load(tmp_path)
    with pytest.raises(SpecError, match="there is no such file"):
        load(tmp_path / "missing.yaml")
    (tmp_path / "experiment.yml").write_text("name: a")
    with pytest.raises(SpecError, match=r"did you mean .*experiment\.yml\?"):
        load(tmp_path / "experiment.yaml")
    with pytest.raises(SpecError):
        load("nul\0byte")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_out_of_reach(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text("name: a")
    file.chmod(0)
    with pytest.raises(SpecError, match="can't be read"):
        load(file)


def test_paths_with_a_home_or_a_loop_or_too_long_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "set").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    text = "name: a\nrun: 'true'\ndata: {x: %s}\n"
    assert loads(text % "~/set", tmp_path / "e.yaml").data[0].path == tmp_path / "set"
    for bad in ("loop", "~nobody-of-that-name/x", "n" * 300):
        with pytest.raises(SpecError, match="is not there"):
            loads(text % bad, tmp_path / "e.yaml")


def test_damaged_specs_are_refused_or_read_and_never_crash(tmp_path: Path) -> None:
    chance = random.Random(7)
    words = [
        "{",
        "}",
        "[",
        "]",
        ":",
        "- ",
        "\n",
        "  ",
        '"',
        "'",
        "&a ",
        "*a",
        "#",
        "null",
        "1e9",
        "~",
        "|",
        "{lr}",
        "!x ",
        "? ",
    ]
    texts = [path.read_text() for path in sorted(GOOD.glob("*.yaml"))]
    for _ in range(300):
        text = chance.choice(texts)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(text))
            text = text[:at] + chance.choice(words) + text[at + chance.choice((0, 0, 1, 8)) :]
        try:
            loads(text, GOOD / "damaged.yaml")
        except SpecError as e:
            assert all(problem.where for problem in e.problems)


def test_a_parameter_with_a_bad_value_is_not_called_unknown_too() -> None:
    with pytest.raises(SpecError) as caught:
        loads("name: a\nrun: echo {x}\nparams:\n  x: [1]\n", "e.yaml")
    assert len(caught.value.problems) == 1


def test_credentials_of_a_url_are_not_told() -> None:
    with pytest.raises(SpecError) as caught:
        loads("name: a\nrun: 'true'\nimage:\n  pip: ['x @ https://me:hunter2@example.org/x.whl']\n", "e.yaml")
    assert "hunter2" not in str(caught.value)
