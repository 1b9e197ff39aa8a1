"""Targets in files: what a person says, what doctor found, and every mistake with its line."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import profiles
from launcher.cli import invoke
from launcher.errors import TargetError, UsageError
from launcher.profiles import Kind, Partition, Profile, Qos, Warned, writing
from launcher.profiles.files import file_of, found_file_of
from launcher.profiles.keys import BOX, FIELDS, PARTITION, TAKEN, TARGET
from launcher.profiles.model import from_json

NASTY = "a 'b' \"c\" $HOME `d` \\ ü #e ; f"
FOUND = Profile(
    name="lab",
    slurm="22.05.8",
    cluster="lab",
    max_array=51,
    max_submit=100,
    outbound=False,
    accounts=("a", "b"),
    default_account="a",
    qoses=(Qos(name="short", max_time_s=60),),
    enforced=("limits",),
    scratches=("/scratch",),
    seen="2026-01-31T12:00:00Z",
    warnings=(Warned(says=NASTY, hint="x"),),
    partitions=(
        Partition(name="cpu", default=True, nodes=2, kinds=(Kind(count=2, cpus=4),)),
        Partition(name="gpu", gres=("gpu:h100:8",), kinds=(Kind(gres=("gpu:h100:8",)), Kind(cpus=2))),
    ),
)


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "launcher" / "targets"


def said(text: str, name: str = "lab") -> Profile:
    profiles.save(name, text, replace=True)
    return profiles.load(name)


def test_json_brings_a_profile_back() -> None:
    assert from_json(json.loads(json.dumps(FOUND.to_json()))) == FOUND


def test_what_doctor_found_survives_its_file() -> None:
    said('[target]\nkind = "slurm"\n')
    profiles.save_found(FOUND)
    assert profiles.load("lab") == FOUND == profiles.load_found("lab")


def test_a_persons_word_counts() -> None:
    profiles.save_found(FOUND)
    one = said(
        '[target]\nmax_array = 7\noutbound = true\n[partition.gpu]\ndriver = "550.54"\n[partition.new]\nnodes = 3\n'
    )
    assert (one.max_array, one.max_submit, one.outbound) == (7, 100, True)
    assert [partition.name for partition in one.partitions] == ["cpu", "gpu", "new"]
    assert [kind.driver for kind in one.partitions[1].kinds] == ["550.54", None], "nodes without GPUs have no driver"


def test_doctor_leaves_a_persons_file_alone() -> None:
    text = '# mine\n[target]\nkind = "slurm"  # too\n'
    said(text)
    profiles.save_found(FOUND)
    assert file_of("lab").read_text() == text


def test_a_newer_launchers_words_are_passed_over(config: Path) -> None:
    said("[target]\n")
    found_file_of("lab").write_text('[found]\nmoon = "full"\nmax_array = 9\n[[found.partition]]\nname = "a"\nsun = 1\n')
    assert profiles.load("lab").max_array == 9


def test_a_broken_found_file_says_who_writes_it(config: Path) -> None:
    said("[target]\n")
    found_file_of("lab").write_text("[[found.partition]]\nnodes = 1\n")
    with pytest.raises(TargetError, match="launcher doctor"):
        profiles.load("lab")


def test_all_mistakes_are_told_at_once_with_their_lines() -> None:
    text = (
        '# mine\n[target]\nkind = "moon"\nhots = "x"\nshared = "~/x"\nhost = "-oProxyCommand=x"\nruntime = "pyxis"\n'
        'max_array = "51"\nrequeue = "yes"\nsetup = "module load x"\ntime_s = 0\npartition = "a b"\nstore = "bucket"\n'
        '[target.options]\nmem = "4G"\n[partition.gpu]\ndriver = 550\ncolour = "red"\n[moon]\n'
    )
    with pytest.raises(TargetError) as caught:
        said(text)
    keys = {p.where.key: p.where.line for p in caught.value.problems if p.where}
    assert keys == {
        "target.kind": 3,
        "target.hots": 4,
        "target.shared": 5,
        "target.host": 6,
        "target.runtime": 7,
        "target.max_array": 8,
        "target.requeue": 9,
        "target.setup": 10,
        "target.time_s": 11,
        "target.partition": 12,
        "target.store": 13,
        "target.options": 14,
        "partition.gpu.driver": 17,
        "partition.gpu.colour": 18,
        "moon": 19,
    }
    assert all(problem.hint for problem in caught.value.problems)
    assert not file_of("lab").exists(), "what can't be read is not kept"


@pytest.mark.parametrize("text", ["", "x = 1\n", "[found]\n", "target = 3\n", "[target\n"])
def test_a_file_without_its_section(text: str) -> None:
    with pytest.raises(TargetError):
        said(text)


def test_every_key_is_one_of_a_profile() -> None:
    known = set(Profile.__dataclass_fields__)
    of_box = {FIELDS.get(key, key) for key in BOX}
    assert set(TARGET) < known and of_box < known and set(PARTITION) < set(Partition.__dataclass_fields__)
    left = {"name", "partitions", "qoses", "accounts", "default_account", "default_qos", "enforced", "scratches"}
    assert known - set(TARGET) - of_box == left | {"slurm", "cluster", "seen", "warnings", "box"}


def test_the_page_tells_every_key() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference" / "clusters.md").read_text()
    assert not [key for key in (*TARGET, *PARTITION) if f"`{key}`" not in page]


def test_files_and_submitting_refuse_the_same_options() -> None:
    from launcher.slurm.options import OURS

    assert set(TAKEN) == OURS


def test_every_found_key_is_written() -> None:
    lists = {"partitions", "qoses", "warnings"}
    said = {FIELDS.get(key, key) for key in (*TARGET, *BOX)}
    found = {*writing.FOUND, *writing.FOUND_BOX}
    assert found | said | lists | {"name"} == set(Profile.__dataclass_fields__)


@pytest.mark.parametrize("name", ["", "local", "../x", "a b", "-x", ".x", "a/b", "a.found"])
def test_names_that_no_target_has(name: str) -> None:
    with pytest.raises(UsageError):
        profiles.save(name, "[target]\n")
    with pytest.raises(UsageError):
        profiles.load(name)


def test_an_unknown_target_names_the_nearest() -> None:
    said("[target]\n", "cluster")
    with pytest.raises(UsageError, match=r"did you mean `cluster`\?"):
        profiles.load("clutser")


def test_words_fill_a_template() -> None:
    template = '# x\n[target]\nkind = "slurm"\n# host = "y"  # why\n\n[partition.gpu]\n# host = "z"\n'
    text = writing.filled(template, {"host": NASTY, "setup": [NASTY, "b"], "options": {"mail-type": "END"}})
    lines = text.splitlines()
    assert lines[3].startswith("host = ") and lines[3].endswith("  # why"), "a line that is off is switched on"
    assert lines[4].startswith("setup = [") and lines[6:8] == ["[partition.gpu]", '# host = "z"']
    assert said(text.replace(lines[3], "")).setup == (NASTY, "b")


@pytest.mark.parametrize("name", writing.templates())
def test_templates_are_targets(name: str) -> None:
    text = writing.template(name)
    assert said(text).kind == "slurm"
    with_all = "\n".join(
        line.removeprefix("# ") if " = " in line or "# [" in line else line for line in text.splitlines()
    )
    assert said(with_all).host == "login.example.org", "what is switched on by removing the sign is right too"


def test_the_verbs(capfd: pytest.CaptureFixture[str], config: Path) -> None:
    words = [
        "--slurm",
        "--shared",
        "/x",
        "--partition",
        "gpu",
        "--set",
        "warn_s=60",
        "--set",
        "requeue=no",
        "--no-doctor",
    ]
    assert invoke(["target", "add", "lab", *words, "--set", "setup=a 'b'", "--set", "setup=c"]) == 0
    one = profiles.load("lab")
    assert (one.shared, one.partition, one.warn_s, one.requeue) == ("/x", "gpu", 60, False)
    assert one.setup == ("a 'b'", "c")
    profiles.save_found(replace(FOUND, warnings=(Warned(says="no apptainer"),)))
    capfd.readouterr()
    assert invoke(["target", "list"]) == invoke(["target", "show", "lab"]) == 0
    told = capfd.readouterr().out
    assert "looked at 2026-01-31" in told and "partition `gpu`" in told and "warning: no apptainer" in told
    assert invoke(["target", "show", "lab", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["max_array"] == 51
    assert invoke(["target", "remove", "lab"]) == 0
    assert profiles.names() == () and not list(config.iterdir())


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["add", "lab"], "what kind of target", 2),
        (["add", "lab", "--slurm", "--set", "moon=1", "--set", "x"], "no key=value", 2),
        (["add", "lab", "--slurm", "--template", "gpu-aptainer"], "did you mean gpu-apptainer", 2),
        (["add", "lab", "--slurm", "--set", "max_array=many"], "no whole number", 69),
        (["add", "old", "--slurm"], "--replace", 2),
        (["remove", "moon"], "there is no target", 2),
        (["show", "moon"], "there is no target", 2),
    ],
)
def test_what_the_verbs_refuse(words: list[str], said: str, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    profiles.save("old", "[target]\n")
    assert invoke(["target", *words]) == code
    assert said in capfd.readouterr().err
    assert profiles.names() == ("old",)


def test_files_are_written_whole(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said("[target]\n")
    config.chmod(0o500)
    if (config.stat().st_mode & stat.S_IWUSR) == 0 and not _is_root():
        with pytest.raises(TargetError, match="can't be written"):
            profiles.save_found(FOUND)
    config.chmod(0o700)
    monkeypatch.setattr(Path, "replace", _fails)
    with pytest.raises(TargetError, match="can't be written"):
        profiles.save_found(FOUND)
    assert [path.name for path in config.iterdir()] == ["lab.toml"], "no part is left behind"


def _is_root() -> bool:
    import os

    return os.getuid() == 0


def _fails(self: Path, target: object) -> None:
    raise OSError(28, "No space left on device")
