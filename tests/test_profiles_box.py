"""Boxes as targets: what several kinds of them answer, made into a profile; what is refused; the scripts themselves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from launcher import profiles
from launcher.cli import invoke
from launcher.errors import TargetError
from launcher.findings import Finding
from launcher.gpu.model import Code, Gpu
from launcher.profiles import Profile, box_asking, box_facts, box_fit
from launcher.profiles.answers import Answer, answers
from launcher.profiles.asking import MARK
from launcher.profiles.box_doctor import examine, glance, look
from launcher.profiles.doctor import Report
from launcher.profiles.files import file_of, found_file_of
from launcher.profiles.fit import refusals
from launcher.profiles.keys import BOX
from launcher.remote.here import Here
from tests.patience import LONG_S

Said = dict[str, "str | tuple[str, int]"]
GIB = 1 << 20  # in KiB
H100 = "0, GPU-1, NVIDIA H100 80GB HBM3, 81559, 9.0, 550.54.15"
PLAIN: Said = {  # a rented virtual machine with Docker and one GPU
    "user": "ada\n1000\n/home/ada",
    "groups": "ada docker\nada docker",
    "host": "box7\n6.8.0-45-generic\nx86_64",
    "limits": "16\n131072000\n9223372036854771712",
    "system": "Ubuntu 24.04.1 LTS",
    "libc": "glibc 2.39",
    "python": "3.12.3",
    "pythons": "python3.12\t/usr/bin/python3.12",
    "programs": "dockerd\t/usr/bin/dockerd\nnvidia-ctk\t/usr/bin/nvidia-ctk\ncrontab\t/usr/bin/crontab",
    "folder": f"/home/ada\text2/ext3\t{200 * GIB}\t999999\tyes\t1\tyes",
    "podman": ("", 127),
    "apptainer": ("", 127),
    "namespaces": "yes",
    "settings": "user/max_user_namespaces:96365",
    "smi": H100,
    "driver": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024",
    "nvml": ("", 1),
    "cards": ("cat: no such file", 1),
    "routes": "default\n",
    "boot": "systemd\ndocker=enabled\ncron",
}
ENGINE = {
    "place": "unix:///var/run/docker.sock",
    "others": "",
    "version": "28.2.2",
    "storage": "overlay2",
    "rootless": False,
    "runtimes": ["nvidia", "runc"],
    "cdi": [],
    "root": "/var/lib/docker",
    "free_mb": 100_000,
}


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "launcher" / "targets"


@dataclass
class Far:
    """A box that answers what it is told to."""

    said: Said = field(default_factory=dict)
    engine: Mapping[str, Any] | None = field(default_factory=lambda: dict(ENGINE))
    forwards: bool = True
    ahead_s: float = 0
    where: str = "box.example.org"
    scripts: list[str] = field(default_factory=list)
    ended: int = 0

    def run(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] | None = None, timeout_s: float | None = None
    ) -> done:
        if argv == ["true"]:
            return done("")
        assert isinstance(stdin, bytes) and timeout_s
        self.scripts.append(stdin.decode())
        clocks = {name: f"{time.time() + self.ahead_s:.6f}" for name in ("began", "ended")}
        engine = (json.dumps(self.engine), 0) if self.engine is not None else ("", 1)
        every: Said = {**PLAIN, "docker": engine, **self.said}
        asked = {name: text for name, text in every.items() if f"keep {name} " in self.scripts[-1]}
        return done("Welcome!\n" + printed({**asked, **clocks}))

    @contextmanager
    def forward(self, port: int) -> Iterator[int]:
        if not self.forwards:
            raise TargetError("it leads no port back here")
        yield 40000

    def end(self) -> None:
        self.ended += 1


@dataclass
class done:  # noqa: N801 - what a shell's run returns
    text: str
    code: int = 0
    stderr: bytes = b""

    @property
    def stdout(self) -> bytes:
        return self.text.encode()


@dataclass(frozen=True, kw_only=True)
class Gpus:
    count: int = 0
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Asks:
    nodes: int = 1
    gpus: Gpus = Gpus()
    cpus: int | None = None
    memory_bytes: int | None = None
    time_s: int | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    resources: Asks = Asks()


def printed(said: Mapping[str, str | tuple[str, int]]) -> str:
    pairs = ((name, (text, 0) if isinstance(text, str) else text) for name, text in said.items())
    return "".join(f"\n{MARK} begin {name}\n{text}\n\n{MARK} end {name} {code}\n" for name, (text, code) in pairs)


def named(text: str = "", name: str = "box") -> Profile:
    profiles.save(name, f'[target]\nkind = "ssh"\nhost = "box"\n{text}', replace=True)
    return profiles.load(name)


def reported(far: Far | None = None, text: str = "") -> Report:
    return examine(far or Far(), named(text))


def told(report: Report, subject: str) -> list[Finding]:
    return [one for one in report.findings if one.subject == subject]


def refused(profile: Profile, gpu: Gpu | None = None, **asks: Any) -> str:
    """Return what is refused, and why; every refusal says what to do."""
    found = refusals(Job(resources=Asks(**asks)), gpu, profile, architecture="amd64")
    assert all(one.hint for one in found)
    return "\n".join(map(str, found))


def test_a_box_is_known_after_one_script() -> None:
    far = Far()
    report = reported(far)
    one = report.profile
    box = one.box
    assert box is not None and len(far.scripts) == 1
    assert (box.user, box.uid, box.home, box.node) == ("ada", 1000, "/home/ada", "box7")
    assert (box.system, box.architecture, box.kernel) == ("Ubuntu 24.04.1 LTS", "amd64", "6.8.0-45-generic")
    assert (box.cpus, box.memory_mb, box.python, box.libc) == (16, 128000, "3.12.3", "glibc 2.39")
    assert (box.driver, box.gpus[0]["capability"], box.gpus[0]["memory_bytes"]) == ("550.54.15", "9.0", 81559 << 20)
    assert (one.runtime, one.shared, box.free_mb, box.boot) == ("docker", "/home/ada/.launcher", 200 << 10, "docker")
    assert [(engine.name, engine.usable, engine.toolkit) for engine in box.engines] == [
        ("docker", True, True),
        ("sandbox", True, None),
    ]
    assert box.forwarding is True and box.skew_s == 0 and not one.warnings
    assert {finding.verdict for finding in report.findings} == {"ok"}


def test_what_was_found_survives_its_file_and_a_persons_word_counts() -> None:
    found = reported().profile
    profiles.save_found(found)
    assert profiles.load("box") == found
    again = named('runtime = "sandbox"\nfolder = "/data/ada"\noutbound = true\n')
    assert (again.runtime, again.shared, again.outbound, again.box) == ("sandbox", "/data/ada", True, found.box)
    assert look(Far(), again).runtime == "sandbox", "looking changes nothing that a person said"
    assert "folder = " not in found_file_of("box").read_text() and "shared" in found_file_of("box").read_text()


def test_keys_of_clusters_and_of_boxes_are_told_apart_all_at_once() -> None:
    with pytest.raises(TargetError) as caught:
        profiles.save("box", '[target]\nkind = "ssh"\npartition = "a"\nfoldr = "/x"\nship = "air"\n[partition.a]\n')
    messages = {one.where.key: one.message for one in caught.value.problems if one.where}
    assert messages.keys() == {"target.partition", "target.foldr", "target.ship", "target.host", "partition"}
    assert messages["target.partition"] == "is for a Slurm cluster, and this is a box"
    with pytest.raises(TargetError, match="is for a box, and this is a Slurm cluster"):
        profiles.save("lab", '[target]\nfolder = "/x"\n')
    assert all(one.hint for one in caught.value.problems) and not file_of("box").exists()


@pytest.mark.parametrize(
    ("value", "right"), [('["aws", "/x", "http://a/b"]', True), ('["moon"]', False), ('"aws"', False)]
)
def test_notices(value: str, right: bool) -> None:
    if right:
        assert named(f"notice = {value}\n").notice == ("aws", "/x", "http://a/b")
    else:
        with pytest.raises(TargetError, match="notice"):
            named(f"notice = {value}\n")


def test_the_page_tells_every_key() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference" / "boxes.md").read_text()
    assert not [key for key in BOX if f"`{key}`" not in page]


ROOT: Said = {"user": "root\n0\n/root", "groups": "root\nroot"}
ROWS = {
    "a home with room": (
        [("/home/ada", "ext2/ext3", 60, 1), ("/workspace", "ext2/ext3", 900, 2)],
        "/home/ada/.launcher",
    ),
    "a small home": ([("/home/ada", "ext2/ext3", 10, 1), ("/data", "xfs", 900, 2)], "/data/.launcher-ada"),
    "one disk for all": ([("/home/ada", "ext2/ext3", 10, 1), ("/data", "ext2/ext3", 10, 1)], "/home/ada/.launcher"),
    "a network's": ([("/home/ada", "ext2/ext3", 10, 1), ("/data", "nfs", 900, 2)], "/home/ada/.launcher"),
    "in memory": ([("/home/ada", "ext2/ext3", 10, 1), ("/data", "tmpfs", 900, 2)], "/home/ada/.launcher"),
    "a container's own": (
        [("/home/ada", "overlayfs", 60, 1), ("/workspace", "xfs", 90, 2)],
        "/workspace/.launcher-ada",
    ),
    "a container's alone": ([("/home/ada", "overlayfs", 60, 1)], "/home/ada/.launcher"),
}


@pytest.mark.parametrize("name", ROWS)
def test_launchers_folder_is_where_room_is(name: str) -> None:
    rows, chosen = ROWS[name]
    lines = [f"{path}\t{kind}\t{free * GIB}\t99\tyes\t{number}\tyes" for path, kind, free, number in rows]
    assert reported(Far({"folder": "\n".join(lines)})).profile.shared == chosen


def test_the_folder_stays_where_it_is_once_it_was_chosen() -> None:
    profiles.save_found(reported().profile)
    far = Far({"folder": f"/home/ada/.launcher\text2/ext3\t{GIB}\t9\tyes\t1\tyes"})
    assert look(far, profiles.load("box")).shared == "/home/ada/.launcher"
    assert "mkdir -p -m 700 /home/ada/.launcher" in far.scripts[0]


def test_a_user_without_rights_to_the_engine() -> None:
    far = Far(engine={"place": "x", "error": "EACCES", "says": "[Errno 13] Permission denied"})
    one = reported(far).profile
    assert one.runtime == "sandbox", "what works is taken"
    [docker] = [engine for engine in one.box.engines if engine.name == "docker"] if one.box else []
    assert not docker.usable and "sudo usermod -aG docker ada" in docker.hint
    report = reported(far, 'runtime = "docker"\n')
    [finding] = [one for one in told(report, "runtime") if one.verdict == "refused"]
    assert finding.hint and "group docker" in finding.hint and "apptainer" in finding.hint
    assert "may not use the Docker engine" in refused(report.profile) and report.profile.warnings


def test_groups_that_are_newer_than_the_connection() -> None:
    far = Far({"groups": "ada\nada docker"}, engine={"place": "x", "error": "EACCES", "says": "no"})
    reported(far)
    assert far.ended == 1 and len(far.scripts) == 2


ENGINES: dict[str, tuple[Said, Mapping[str, Any] | None, str, str]] = {
    "nothing but namespaces": ({"programs": ""}, {"place": "x", "error": "ENOENT"}, "sandbox", ""),
    "an engine that is off": ({}, {"place": "x", "error": "ENOENT", "says": "no"}, "sandbox", "no Docker engine"),
    "one that hangs": ({}, {"place": "x", "error": "timeout", "says": "timed out"}, "sandbox", "timed out"),
    "an old engine": ({}, {**ENGINE, "version": "19.03.8"}, "sandbox", "19.03.8 is too old"),
    "no toolkit": ({"programs": ""}, {**ENGINE, "runtimes": ["runc"]}, "sandbox", ""),
    "no toolkit and no GPU": ({"smi": ("", 127), "driver": ("", 1)}, {**ENGINE, "runtimes": []}, "docker", ""),
    "devices by CDI": ({}, {**ENGINE, "runtimes": [], "cdi": ["nvidia.com/gpu=0"]}, "docker", ""),
    "one's own engine": ({}, {"place": "x", "error": "ENOENT", "others": "unix:///run/x"}, "sandbox", "yours is"),
    "no namespaces": ({"namespaces": ("x", 1), "programs": ""}, {"place": "x", "error": "ENOENT"}, "apptainer", ""),
    "Apptainer": (
        {"namespaces": ("x", 1), "apptainer": "apptainer version 1.4.5\nsetuid", "programs": ""}, None, "apptainer", "",
    ),
    "Podman": ({"namespaces": ("x", 1), "podman": "4.3.1 overlay true", "programs": ""}, None, "podman", ""),
    "one that nobody can ask": ({}, None, "sandbox", "asked by Python"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENGINES)
def test_the_best_engine_is_taken(name: str) -> None:
    said, engine, runtime, why = ENGINES[name]
    one = reported(Far(said, engine=engine)).profile
    assert one.box is not None and one.runtime == runtime
    whys = [engine.why for engine in one.box.engines if not engine.usable]
    assert any(why in text for text in whys) if why else all("Docker" not in text for text in whys)


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ("user/max_user_namespaces:0", "user.max_user_namespaces=15000"),
        ("kernel/unprivileged_userns_clone:0", "unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns:1", "apparmor_restrict_unprivileged_userns=0"),
        ("user/max_user_namespaces:1", "with Docker"),
    ],
)
def test_a_box_without_anything(settings: str, hint: str) -> None:
    said: Said = {"namespaces": ("unshare failed: Operation not permitted", 1), "settings": settings, "programs": ""}
    report = reported(Far(said, engine={"place": "x", "error": "ENOENT"}), 'runtime = "sandbox"\n')
    [finding] = [one for one in told(report, "runtime") if one.verdict == "refused"]
    assert finding.hint and hint in finding.hint


BOOTS = {
    "docker=enabled": ("docker", "docker"),
    "systemd\ndocker=disabled\ncron": ("docker", "cron"),
    "systemd\nlinger\ncron": ("sandbox", "systemd"),
    "systemd\ncron": ("sandbox", "cron"),
    "": ("sandbox", None),
}


@pytest.mark.parametrize("lines", BOOTS)
def test_what_starts_runs_again(lines: str) -> None:
    runtime, boot = BOOTS[lines]
    report = reported(Far({"boot": lines}), f'runtime = "{runtime}"\n')
    assert report.profile.box and report.profile.box.boot == boot
    assert ("cron there would do it" in told(report, "reboot")[0].says) == (boot is None)


def test_old_programs_and_the_drivers_own_files_tell_of_gpus_too() -> None:
    old = reported(Far({"smi": "0, GPU-1, Tesla K80, 11441, 470.57.02\n1, GPU-2, Tesla K80, 11441, 470.57.02"})).profile
    assert old.box and old.box.driver == "470.57.02" and [one["index"] for one in old.box.gpus] == [0, 1]
    cards = (
        "Model: \t\t NVIDIA A100\nGPU UUID: \t GPU-5\nDevice Minor: \t 3\nModel: \t\t NVIDIA A100\nGPU UUID: \t GPU-??"
    )
    proc = reported(Far({"smi": ("", 127), "cards": cards})).profile
    assert proc.box and proc.box.gpus == (
        {"index": 3, "uuid": "GPU-5", "model": "NVIDIA A100"},
        {"index": 1, "model": "NVIDIA A100"},
    )
    nvml = {"driver": "570.1", "cuda": "12.8", "devices": [{"index": 0, "model": "NVIDIA B200", "capability": "10.0"}]}
    best = reported(Far({"nvml": json.dumps(nvml)})).profile
    assert best.box and best.box.driver == "570.1" and best.box.gpus[0]["model"] == "NVIDIA B200"


def test_limits_of_a_container_around_the_box_count() -> None:
    one = reported(Far({"limits": f"4\n131072000\nmax\n{8 << 30}"})).profile
    assert one.box and (one.box.cpus, one.box.memory_mb) == (4, 8192)


@pytest.mark.parametrize("ahead_s", [-3600.0, 30.0])
def test_a_clock_that_is_off_is_told(ahead_s: float) -> None:
    report = reported(Far(ahead_s=ahead_s))
    assert report.profile.box and abs((report.profile.box.skew_s or 0) - ahead_s) < 5
    [finding] = told(report, "clock")
    assert finding.verdict == "warning" and ("ahead of" if ahead_s > 0 else "behind") in finding.says


def test_the_way_there_and_back_is_no_skew() -> None:
    said = {"began": Answer(text="100.5", code=0), "ended": Answer(text="101.0", code=0)}
    assert box_facts.skew_s(said, 100.0, 101.5) == 0
    assert box_facts.skew_s(said, 98.0, 101.0) == 0, "one way may be slower than the other"
    assert box_facts.skew_s(said, 90.0, 91.5) == 10.0
    whole = {"began": Answer(text="100.%N", code=0), "ended": Answer(text="101.%N", code=0)}
    assert box_facts.skew_s(whole, 100.9, 101.9) == 0, "busybox tells whole seconds"


def test_network_and_forwarding() -> None:
    closed = reported(Far({"routes": ""}, forwards=False))
    assert closed.profile.outbound is False and closed.profile.box and closed.profile.box.forwarding is False
    assert [one.verdict for one in told(closed, "tunnel")] == ["warning"]
    assert "through this connection" in told(closed, "network")[0].says
    assert told(reported(Far({"routes": ""}), 'ship = "direct"\n'), "network")[0].verdict == "refused"
    profile = named()
    assert examine(Far(), profile).profile.outbound is None, "a route is no answer"
    far = Far({"network": "yes", "routes": ""})
    assert examine(far, profile, endpoint=("s3.example.org", 443)).profile.outbound is True
    assert examine(Far({"network": ("refused", 1)}), profile, endpoint=("a b", 1)).profile.outbound is False


GPU = Gpu(
    cuda="12.6", driver="525.60.13", code=(Code(name="torch", version="2.6", cubins=("8.0", "9.0"), source="elf"),)
)
UNFIT: dict[str, tuple[Said, Mapping[str, Any], dict[str, Any], str]] = {
    "python": ({"python": ("sh: python3: not found", 127)}, ENGINE, {}, "is not there"),
    "an old python": ({"python": "3.8.10"}, ENGINE, {}, "3.8.10, and 3.10 is wanted"),
    "nodes": ({}, ENGINE, {"nodes": 2}, "2 nodes wanted"),
    "cpus": ({}, ENGINE, {"cpus": 17}, "17 CPUs wanted, and the box has 16"),
    "memory": ({}, ENGINE, {"memory_bytes": 1 << 40}, "MiB wanted"),
    "architecture": ({"host": "b\n6.1\naarch64"}, ENGINE, {}, "the box is linux/arm64"),
    "full disk": ({"folder": "/home/ada\text2/ext3\t0\t9\tno\t1\tno"}, ENGINE, {}, "can't be written, and it is full"),
    "little room": ({"folder": "/home/ada\text2/ext3\t9999\t9\tyes\t1\tyes"}, ENGINE, {}, "1.0 GiB at least"),
    "noexec": ({"folder": f"/home/ada\text2/ext3\t{GIB * 60}\t9\tyes\t1\tno"}, ENGINE, {}, "noexec"),
    "no room for images": ({}, {**ENGINE, "free_mb": 5}, {}, "0.0 GiB left for images"),
    "more GPUs": ({}, ENGINE, {"gpus": Gpus(count=2)}, "2 GPUs wanted"),
    "other GPUs": ({}, ENGINE, {"gpus": Gpus(count=1, model="A100")}, "1 x A100 wanted"),
    "no GPU": ({"smi": ("", 127), "driver": ("", 1)}, ENGINE, {"gpus": Gpus(count=1)}, "and there is none"),
    "old driver": (
        {"smi": H100.replace("550.54.15", "520.61.05")}, ENGINE, {"gpus": Gpus(count=1)}, "520.61.05 is too old",
    ),
    "new GPU": ({"smi": H100.replace("9.0,", "12.0,")}, ENGINE, {"gpus": Gpus(count=1)}, "12.0"),
    "toolkit": ({"programs": ""}, {**ENGINE, "runtimes": []}, {"gpus": Gpus(count=1)}, "toolkit is not set up"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_is_refused_alone_and_with_a_way_out(name: str) -> None:
    said, engine, asks, why = UNFIT[name]
    profile = reported(Far(said, engine=engine), 'runtime = "docker"\n').profile
    told_ = refused(profile, GPU, **asks)
    assert why in told_ and told_.count("hint:") == 1, told_
    assert not refused(reported().profile, GPU, gpus=Gpus(count=1), cpus=16, memory_bytes=1 << 30)


def test_everything_that_does_not_fit_is_told_at_once() -> None:
    profile = reported(Far({"python": "3.8.10", "folder": ("mkdir: Permission denied", 1)})).profile
    lines = refused(profile, nodes=2, cpus=99, gpus=Gpus(count=8)).splitlines()
    assert len([line for line in lines if "hint:" in line]) == 5


def test_what_nobody_has_looked_at_refuses_nothing() -> None:
    assert refusals(Job(), GPU, named()) == ()
    assert [one.verdict for one in box_fit.compare(Job(), GPU, named())] == ["unknown"]


def test_a_glance_sees_what_has_changed_and_keeps_the_rest() -> None:
    profile = reported().profile
    assert profile.box is not None
    far = Far({"smi": H100.replace("550.54.15", "470.1"), "folder": "/home/ada/.launcher\txfs\t5\t9\tyes\t1\tyes"})
    far.engine = {"place": "x", "error": "ECONNREFUSED", "says": "Connection refused"}
    seen = glance(far, profile)
    assert seen.box is not None and len(far.scripts) == 1
    assert len(far.scripts[0]) < 8192, "it is sent at each launch"
    assert (seen.box.driver, seen.box.free_mb, seen.box.engines[0].usable) == ("470.1", 0, False)
    assert seen.box.engines[1:] == profile.box.engines[1:] and seen.box.system == profile.box.system
    assert "Connection refused" in refused(seen) and "470.1 is too old" in refused(seen, GPU, gpus=Gpus(count=1))
    assert not refused(glance(Far(), profile), GPU, gpus=Gpus(count=1))


def test_a_glance_at_a_box_that_nobody_knows_is_a_look() -> None:
    far = Far()
    found = glance(far, named())
    assert found.runtime == "docker" and "keep nvml" in far.scripts[0]
    assert profiles.load("box") == found, "its folder has to be the same the next time"
    found_file_of("box").unlink()
    other = glance(far, replace(named(), runtime="sandbox"))
    assert other.runtime == "sandbox" and other.box and other.box.boot == "cron"
    assert profiles.load("box").runtime == "docker", "what one command asked for is not kept"


def test_a_driver_that_hangs_leaves_what_is_known_of_gpus() -> None:
    profile = reported().profile
    seen = glance(Far({"smi": ("", 124)}), profile)
    assert seen.box and profile.box and (seen.box.gpus, seen.box.driver) == (profile.box.gpus, "550.54.15")


def test_a_box_that_answers_nothing() -> None:
    far = Far()
    far.run = lambda *_, **__: done("", 1, b"This account is currently not available.")  # type: ignore[method-assign]
    with pytest.raises(TargetError, match="not available"):
        look(far, named())


@pytest.mark.parametrize("shell", ["sh", "bash", "busybox sh"])
def test_the_script_answers_in_any_shell(shell: str, tmp_path: Path) -> None:
    """It is POSIX sh: it runs here, and words that it is given arrive whole."""
    if not shutil.which(shell.split()[0]):
        pytest.skip(f"there is no {shell} here")
    place = tmp_path / "a 'b' $HOME ü"
    script = box_asking.everything(Profile(name="x", kind="ssh", shared=str(place), setup=("false", "export A=1")))
    ended = subprocess.run(shell.split(), input=script.encode(), capture_output=True, timeout=LONG_S)
    found = answers(ended.stdout.decode())
    assert found["folder"].text.split("\t")[0] == str(place) and found["folder"].text.split("\t")[4] == "yes"
    assert found["user"].lines[0] and found["setup"].lines == ["false"] and place.stat().st_mode & 0o777 == 0o700
    assert {"began", "ended", "docker", "python", "limits", "smi", "boot"} <= found.keys()
    assert not list(place.iterdir()), "nothing is left behind"


def test_a_look_at_this_machine() -> None:
    one = examine(Here(), named(f'python = "{sys.executable}"\n')).profile
    assert one.box is not None and one.box.python and one.box.skew_s == 0 and one.box.cpus
    assert replace(glance(Here(), one), box=None) == replace(one, box=None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["box", "--ssh", "h", "--partition", "p", "--scratch", "/x"], ["--partition is not for a box", "--scratch"]),
        (["box", "--slurm", "--folder", "/x", "--ship", "relay"], ["--folder is not for a Slurm cluster", "--ship"]),
        (["box", "--ssh", "h", "--slurm"], ["either a cluster or a box"]),
        (["box", "--ssh", "h", "--set", "account=3", "--set", "moon=4"], ["is for a Slurm cluster", "no such key"]),
    ],
)
def test_options_of_the_other_kind_are_refused(
    words: list[str], said: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["target", "add", *words]) == 2
    told_ = capfd.readouterr().err
    assert all(text in told_ for text in said) and profiles.names() == ()


def test_the_verbs(capfd: pytest.CaptureFixture[str]) -> None:
    words = [
        "--ssh",
        "root@box.example.org:2222",
        "--folder",
        "/data/l",
        "--notice",
        "aws",
        "--notice",
        "/x",
        "--no-doctor",
    ]
    assert invoke(["target", "add", "box", *words, "--set", "setup=a 'b'"]) == 0
    one = profiles.load("box")
    assert (one.kind, one.host, one.shared, one.notice) == (
        "ssh",
        "root@box.example.org:2222",
        "/data/l",
        ("aws", "/x"),
    )
    assert one.setup == ("a 'b'",)
    profiles.save_found(look(Far({"folder": f"/data/l\txfs\t{GIB}\t9\tyes\t1\tyes"}), one))
    capfd.readouterr()
    assert invoke(["target", "list"]) == invoke(["target", "show", "box"]) == 0
    out = capfd.readouterr().out
    assert "1 x NVIDIA H100 80GB HBM3, by docker" in out and "folder = /data/l" in out and "engine docker 28.2.2" in out
    assert invoke(["target", "show", "box", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["box"]["gpus"][0]["uuid"] == "GPU-1"
