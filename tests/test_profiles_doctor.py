"""Doctor: what Slurm 22.05 and 24.11 said, made into a profile; what is told of a site; the scripts themselves."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from launcher.errors import TargetError
from launcher.findings import Finding
from launcher.profiles import Kind, Partition, Profile, Qos, asking, cluster
from launcher.profiles.answers import Answer, answers, by_partition, megabytes, records, seconds
from launcher.profiles.doctor import Report, examine, look

GOLDEN = Path(__file__).parent / "golden"
ASKED = ("config", "partition", "node", "assoc", "default", "qos")
LAB = Profile(name="lab", shared="/shared")
NODE = {
    "host": "node1\n6.1.0-18-amd64\nx86_64",
    "clock": "1000",
    "python": "3.11.2",
    "programs": "scontrol\t/usr/bin/scontrol\tslurm 22.05.8\napptainer\t/usr/bin/apptainer\tapptainer version 1.4.5",
    "namespaces": "yes",
    "fuse": "yes",
    "scratch": "/scratch\text2/ext3\t104857600\t99999\tyes\n/tmp\ttmpfs\t1000\t99\tyes\n/lustre\tlustre\t9\t9\tyes",
    "shared": "abc\nwritten",
    "proxy": "",
}
LOGIN = {
    "clock": "1000",
    "sacct": "",
    "python": "3.11.2",
    "programs": "sbatch\t/usr/bin/sbatch\tslurm 22.05.8",
    "shared": "/shared\tnfs\t104857600\t999999\tyes",
}
SMI = "0, GPU-1, NVIDIA H100 80GB HBM3, 81559, 9.0, 550.54.15"


def golden(version: str) -> dict[str, Answer]:
    folder = GOLDEN / f"slurm-{version}"
    return {name: Answer(text=(folder / name).read_text(), code=0) for name in ASKED}


def printed(said: Mapping[str, str | tuple[str, int]]) -> str:
    """Return what a script prints that asks these questions."""
    pairs = ((name, (text, 0) if isinstance(text, str) else text) for name, text in said.items())
    return "".join(
        f"\n{asking.MARK} begin {name}\n{text}\n\n{asking.MARK} end {name} {code}\n" for name, (text, code) in pairs
    )


@dataclass
class Site:
    """A login node that answers what it is told to."""

    login: dict[str, str | tuple[str, int]] = field(default_factory=dict)
    probes: dict[str, dict[str, str | tuple[str, int]]] = field(default_factory=dict)
    queue: str = ""
    version: str = "22.05"
    where: str = "login.example.org"
    asked: list[str] = field(default_factory=list)

    def run(self, argv: Sequence[str], *, timeout_s: float | None = None) -> subprocess.CompletedProcess[bytes]:
        assert list(argv[:1]) == ["bash"] and timeout_s
        self.asked.append(argv[2])
        if "payload=" in argv[2]:
            parts = (f"\n{asking.MARK} partition {name}\n{printed(said)}" for name, said in self.probes.items())
            return done(f"{printed({'queue': self.queue})}{''.join(parts)}")
        told = {name: one.text for name, one in golden(self.version).items()}
        return done("Welcome!\n" + printed({**told, **LOGIN, **self.login}))


@dataclass
class done:  # noqa: N801 - what a shell's run returns
    text: str
    code: int = 0
    stderr: bytes = b"no such thing"

    @property
    def stdout(self) -> bytes:
        return self.text.encode()


def probed(*names: str, **more: str | tuple[str, int]) -> dict[str, dict[str, str | tuple[str, int]]]:
    return {name: {**NODE, **more} for name in names or ("main", "high")}


def said_of(report: Report, subject: str) -> list[Finding]:
    return [one for one in report.findings if one.subject == subject]


def refused(report: Report) -> set[str]:
    assert all(one.hint for one in report.findings if one.verdict == "refused"), "what to do?"
    return {one.subject for one in report.findings if one.verdict == "refused"}


def test_a_site_where_all_is_well() -> None:
    site = Site(probes=probed("main", "high", "gpu"))
    report = examine(site, LAB)
    assert refused(report) == set() and len(site.asked) == 2, "two round trips"
    found = report.profile
    assert (found.slurm, found.cluster, found.max_array, found.accounting) == ("22.05.8", "lab", 10001, True)
    assert found.scratches == ("/scratch",), "neither memory nor a network's file system"
    assert found.seen and look(site, LAB).slurm == "22.05.8"


def test_slurm_22_05() -> None:
    found = cluster.seen(LAB, golden("22.05"))
    main, high, gpu = found.partitions
    assert main == Partition(
        name="main",
        default=True,
        nodes=3,
        cpus=4,
        memory_mb=4000,
        gres=("gpu:2",),
        max_time_s=86400,
        default_time_s=600,
        preempt="REQUEUE",
        grace_s=20,
        priority=1,
        kinds=(
            Kind(count=1, cpus=4, memory_mb=4000, architecture="amd64"),
            Kind(count=2, cpus=4, memory_mb=4000, architecture="amd64", gres=("gpu:2",)),
        ),
    )
    assert (high.preempt, high.priority, high.default) == ("OFF", 10, False)
    assert (gpu.up, gpu.allow_accounts) == (False, ("lab", "other"))
    assert (found.accounts, found.default_account, found.enforced) == (("lab", "root"), "root", ())
    short = Qos(name="short", max_time_s=3600, max_submit=100, max_nodes=2, max_cpus=8, max_gpus=2, max_memory_mb=4096)
    assert found.qoses == (Qos(name="normal"), short)
    assert found.max_submit is None, "root's own account has no limit"
    charged = cluster.seen(replace(LAB, account="lab"), golden("22.05"))
    assert (charged.max_submit, charged.default_qos) == (100, "short"), "the QOS lets less in than the association"


def test_slurm_24_11() -> None:
    """A site that enforces limits, whose partition has a QOS and a cap of CPUs, and whose nodes never came up."""
    found = cluster.seen(replace(LAB, account="lab", partition="gpu"), golden("24.11"))
    cpu, gpu, old = found.partitions
    assert (found.slurm, found.max_array) == ("24.11.5", 51)
    assert found.enforced == ("associations", "limits", "qos") and found.requeue, "--requeue counts before JobRequeue=0"
    assert (found.max_submit, found.default_qos) == (500, "short")
    assert [one.name for one in found.qoses] == ["normal", "part", "short"]
    assert cpu.kinds == (Kind(count=1, cpus=64, memory_mb=506808, features=("ib", "cpu")),), (
        "what daemons keep is not there"
    )
    assert gpu.kinds == (Kind(count=2, cpus=60, memory_mb=1030000, gres=("gpu:h100:8",), features=("ib", "h100")),)
    assert (gpu.qos, gpu.preempt, gpu.grace_s, gpu.allow_accounts) == ("part", "CANCEL", 30, ("lab",))
    assert (old.up, old.max_time_s, old.default_time_s) == (False, None, None)


def test_what_preemption_cancels_is_told() -> None:
    report = examine(Site(version="24.11", probes=probed("cpu")), replace(LAB, account="lab"))
    assert "preempted jobs of `gpu` are cancelled" in " ".join(one.says for one in said_of(report, "requeue"))
    assert "launcher asks for it with --requeue" in " ".join(one.says for one in said_of(report, "requeue"))
    wrong = examine(Site(version="24.11", probes=probed("cpu")), replace(LAB, account="bio"))
    assert refused(wrong) == {"account"}


def test_nodes_that_are_away_have_their_reason() -> None:
    assert cluster.nodes_away(golden("22.05")) == [
        ("node3", "IDLE+DRAIN disk is full; x=1 Y=2 [root@2026-11-21T12:55:38]")
    ]


@pytest.mark.parametrize(
    ("login", "subject", "says"),
    [
        ({"python": "3.6.8", "pythons": "python3.11\t/x\tPython 3.11.2"}, "python", "python3 is Python 3.6.8"),
        ({"python": ("bash: python3: command not found", 127)}, "python", "can't be run"),
        ({"shared": "/shared\tnfs\t1\t9\tno"}, "shared", "can't be written"),
        ({"shared": ("mkdir: cannot create directory '/shared': Permission denied", 1)}, "shared", "Permission denied"),
        ({"programs": ""}, "slurm", "no program `sbatch`"),
        ({"setup": ("module load x", 1)}, "setup", "module load x"),
    ],
)
def test_what_the_login_node_lacks(login: dict[str, str | tuple[str, int]], subject: str, says: str) -> None:
    report = examine(Site(login=login, probes=probed()), LAB)
    assert subject in refused(report) and says in " ".join(one.says for one in said_of(report, subject))
    assert any(says in one.says and one.refused for one in report.profile.warnings), "a profile remembers it"


@pytest.mark.parametrize(
    ("node", "profile", "subject", "says"),
    [
        ({"programs": "scontrol\t/x\t"}, LAB, "runtime", "there is no apptainer"),
        ({"programs": "apptainer\t/x\tapptainer version 1.4"}, LAB, "requeue", "no program `scontrol`"),
        ({"python": "3.9.1"}, LAB, "python", "node1: python3 is Python 3.9.1"),
        ({"shared": ("cat: No such file", 1)}, LAB, "shared", "isn't what the login node sees there"),
        ({"namespaces": ("unshare: no", 1)}, replace(LAB, runtime="sandbox"), "user namespaces", "unshare: no"),
        ({}, replace(LAB, scratch="/nvme"), "scratch", "/nvme isn't there"),
        ({"setup": ("module load x", 1)}, LAB, "setup", "node1: lines of `setup` fail"),
        ({"network": ("ConnectionRefusedError", 1)}, LAB, "network", "node1 can't reach the store"),
        ({"store": "/store\tnfs\t9\t9\tno"}, LAB, "store", "/store can't be written"),
    ],
)
def test_what_a_node_lacks(node: dict[str, str | tuple[str, int]], profile: Profile, subject: str, says: str) -> None:
    report = examine(Site(probes=probed(**node)), profile)
    assert refused(report) == {subject}
    assert says in " ".join(one.says for one in said_of(report, subject))


@pytest.mark.parametrize(
    ("node", "profile", "subject"),
    [
        ({"namespaces": ("unshare: no", 1)}, LAB, "user namespaces"),
        ({"fuse": "crw------- root"}, LAB, "fuse"),
        ({"clock": "900"}, LAB, "clock"),
        ({}, replace(LAB, scratch="/tmp"), "scratch"),
        ({}, replace(LAB, scratch="/lustre"), "scratch"),
    ],
)
def test_what_may_trouble(node: dict[str, str], profile: Profile, subject: str) -> None:
    report = examine(Site(probes=probed(**node)), profile)
    assert refused(report) == set()
    assert "warning" in {one.verdict for one in said_of(report, subject)}


def test_a_queue_that_is_long_leaves_unknown_what_is_unknown() -> None:
    late: dict[str, str | tuple[str, int]] = {"srun": ("srun: Force Terminated JobId=7", 1)}
    site = Site(probes={**probed("main"), "high": late}, queue="high|PENDING|Resources")
    report = examine(site, LAB)
    assert refused(report) == set()
    assert [one.says for one in said_of(report, "probe") if one.verdict == "unknown"] == [
        "`high`: the probe didn't end in time (pending: Resources); what its nodes have stays unknown",
        "nothing ran in `gpu`",
    ]
    assert report.profile.outbound is None


@pytest.mark.parametrize("named", [True, False])
def test_a_probe_that_slurm_refuses_is_told_with_a_way_out(named: bool) -> None:
    wrong = "srun: error: Unable to allocate resources: Invalid account or account/partition combination specified"
    site = Site(probes={"main": {"srun": (wrong, 1)}})
    report = examine(site, replace(LAB, partition="main" if named else None))
    [told] = [one for one in said_of(report, "probe") if "main" in one.says and "Invalid account" in one.says]
    assert told.verdict == ("refused" if named else "warning") and "account =" in (told.hint or "")


def test_gpus_are_known_by_a_node_that_told() -> None:
    report = examine(Site(probes=probed("main", smi=SMI)), LAB)
    main, high = report.profile.partitions[:2]
    assert (main.driver, main.capability, main.gpu_memory_mb) == ("550.54.15", "9.0", 81559)
    assert [kind.gpu for kind in main.kinds] == [None, "NVIDIA H100 80GB HBM3"]
    assert high.driver is None, "no node of it told"
    again = examine(Site(probes={}), LAB, before=report.profile, job=False)
    assert again.profile.partitions[0] == main, "what this look can't tell is kept from an earlier one"


def test_nvml_counts_before_nvidia_smi() -> None:
    nvml = '{"driver": "570.1", "cuda": "12.8", "devices": [{"index": 0, "model": "H100", "capability": "9.0"}]}'
    report = examine(Site(probes=probed("main", nvml=nvml, smi=SMI)), LAB)
    assert report.profile.partitions[0].driver == "570.1"


def test_without_a_job_nodes_stay_unknown() -> None:
    site = Site()
    report = examine(site, LAB, job=False)
    assert len(site.asked) == 1 and refused(report) == set()
    assert report.profile.outbound is None and report.profile.partitions[0].driver is None


@pytest.mark.parametrize(
    "login",
    [
        {"config": ("slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)", 1)},
        {"config": ("bash: scontrol: command not found", 127)},
        {"partition": ("", 124)},
    ],
)
def test_when_slurm_says_nothing_nothing_is_known(login: dict[str, str | tuple[str, int]]) -> None:
    with pytest.raises(TargetError, match=r"Slurm doesn't answer on login\.example\.org"):
        examine(Site(login=login), LAB)


def test_accounting_that_is_down_or_off_costs_nothing() -> None:
    down = ("sacct: error: Problem talking to the database: Connection refused", 1)
    report = examine(Site(login={"sacct": down, "assoc": down, "qos": down, "default": down}, probes=probed()), LAB)
    assert refused(report) == set() and not report.profile.accounting
    assert [one.verdict for one in said_of(report, "accounting")] == ["warning"]
    off = examine(Site(login={"sacct": ("Slurm accounting storage is disabled", 1)}, probes=probed()), LAB)
    assert [one.verdict for one in said_of(off, "accounting")] == ["ok"]


def test_a_shell_that_says_nothing_is_told_of() -> None:
    site = Site()
    site.run = lambda argv, timeout_s=None: done("This account is closed.")  # type: ignore[method-assign,assignment]
    with pytest.raises(TargetError, match="didn't answer doctor's questions: no such thing"):
        examine(site, LAB)


def test_modules_and_quota_are_told() -> None:
    told = {"modules": "/apps/modules:\napptainer/1.4.5\npython/3.11", "quota": "Disk quotas for ada:\n /home  9G  10G"}
    report = examine(Site(login={**told}, probes=probed()), LAB, modules=True)
    assert [one.says for one in said_of(report, "modules")] == ["apptainer/1.4.5, python/3.11"]
    assert [one.says for one in said_of(report, "quota")] == ["Disk quotas for ada:; /home 9G 10G"]


def test_no_shared_folder_is_guessed() -> None:
    site = Site(login={"shared": "/home/ada\tnfs\t9999999\t99999\tyes\n/lustre/ada\tlustre\t1\t9\tno"}, probes=probed())
    report = examine(site, replace(LAB, shared=""))
    [told] = said_of(report, "shared")
    assert (
        told.verdict == "refused" and "/home/ada (nfs" in (told.hint or "") and "/lustre/ada" not in (told.hint or "")
    )
    assert report.profile.shared == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1-00:00:00", 86400),
        ("00:10:00", 600),
        ("10:00", 600),
        ("10", 600),
        ("2-12", 216000),
        ("1-02:03", 93780),
        ("UNLIMITED", None),
        ("NONE", None),
        (None, None),
    ],
)
def test_times(text: str | None, expected: int | None) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("4G", 4096), ("4000M", 4000), ("512", 512), ("1.5T", 1572864), ("", None)]
)
def test_memory(text: str, expected: int | None) -> None:
    assert megabytes(text) == expected


def test_answers_stand_between_marks() -> None:
    text = f"motd {asking.MARK}\n" + printed({"a": "x\n\ny", "b": ("", 124)}) + "\nbye"
    assert answers(text) == {"a": Answer(text="x\n\ny", code=0), "b": Answer(text="", code=124)}
    assert answers(text)["b"].reason == "no answer in time"
    assert by_partition(f"{text}\n{asking.MARK} partition p q\n{printed({'a': '1'})}").keys() == {"", "p q"}


def test_a_value_may_have_spaces() -> None:
    [one] = records(Answer(text="NodeName=a OS=Linux 6.1 #1 SMP  RealMemory=5 Reason=b c D=e [x@y]", code=0))
    assert one == {"NodeName": "a", "OS": "Linux 6.1 #1 SMP", "RealMemory": "5", "Reason": "b c D=e [x@y]"}


NASTY = "a b'c\"d$HOME`id`\\;#ü-"


def here(script: str, **env: str) -> str:
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, env={**BASE, **env})
    return done.stdout


BASE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"}


def test_the_scripts_work_in_a_real_shell(tmp_path: Path, stubs: Callable[[str, str], Path]) -> None:
    """Nasty names go through; a line of `setup` that is broken ends nothing."""
    folder = tmp_path / NASTY
    profile = replace(LAB, shared=str(folder), setup=("export SET=1", "echo 'open", "false"), python="python3")
    found = answers(here(asking.login(profile)))
    assert found["shared"].text.split("\t")[0] == str(folder) and folder.is_dir()
    assert found["setup"].lines == ["echo 'open", "false"]
    assert found["python"].good and found["user"].good
    node = answers(here(asking.node(profile, "abc", None)))
    assert node["host"].good and not node["shared"].good


@pytest.fixture
def stubs(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
        return path

    return write


def test_probes_wait_and_take_back_what_waits(tmp_path: Path, stubs: Callable[[str, str], Path]) -> None:
    """One partition runs the probe, one waits for ever: it is cancelled by its own name, and nothing is left."""
    shared, partition = tmp_path / NASTY, "odd name"
    shared.mkdir()
    slow = f"until [ -e {tmp_path}/cancelled ]; do sleep 0.1; done; echo revoked >&2; exit 1"
    options = f'case "$1" in --partition=slow) {slow};; -*) shift;; *) break;; esac'
    stubs("srun", f'echo "$@" >>{tmp_path}/said; while true; do {options}; done; exec "$@"')
    stubs("squeue", "echo 'slow|PENDING|Priority'")
    stubs("scancel", f'printf "%s " "$@" >{tmp_path}/cancelled')
    profile = replace(LAB, shared=str(shared), account="a b", options={"mail-user": NASTY, "exclusive": ""}, gres="gpu")
    chosen = [Partition(name=partition, gres=("gpu:2",)), Partition(name="slow")]
    script = asking.probes(profile, chosen, "abc", 1)
    told = by_partition(here(script, PATH=f"{tmp_path}/bin:{BASE['PATH']}"))
    assert told[partition]["shared"].lines == ["abc", "written"] and told[partition]["srun"].good
    assert told["slow"]["srun"] == Answer(text="revoked", code=1)
    assert told[""]["queue"].text == "slow|PENDING|Priority"
    assert (tmp_path / "cancelled").read_text().split()[:2] == ["-n", "launcher-doctor-abc"]
    assert list(shared.iterdir()) == [], "the marker goes, too"
    words = (tmp_path / "said").read_text()
    assert f"--mail-user={NASTY}" in words and "--exclusive --gres=gpu:1" in words and "--account=a b" in words


def test_a_site_that_counts_no_memory_is_not_told_any() -> None:
    script = asking.srun(LAB, Partition(name="p"), "x", False)
    assert not [word for word in script if word.startswith("--mem")]
    assert shlex.join(asking.srun(LAB, Partition(name="p"), "x", True)).count("--mem=") == 1
