"""The nouns of a site: a profile and its partitions. Plain values; JSON carries them to the nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Nodes of a partition that are alike. `gpu` is a model as the driver calls it, such as NVIDIA H100 80GB HBM3."""

    count: int = 1
    cpus: int | None = None
    memory_mb: int | None = None
    gres: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    architecture: str | None = None  # as images name it: amd64, arm64
    gpu: str | None = None
    driver: str | None = None
    capability: str | None = None
    gpu_memory_mb: int | None = None


@dataclass(frozen=True, kw_only=True)
class Qos:
    """What a QOS lets one job have, and one user; None where it sets no limit (`sacctmgr show qos`)."""

    name: str
    max_time_s: int | None = None
    max_submit: int | None = None  # tasks of one user in the queue
    max_nodes: int | None = None  # this and the next: of one job
    max_cpus: int | None = None
    max_gpus: int | None = None
    max_memory_mb: int | None = None


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition of the cluster, as `sinfo` and `scontrol show partition` tell of it; None where nothing was told."""

    name: str
    default: bool = False
    up: bool = True
    nodes: int | None = None
    cpus: int | None = None  # of its largest node
    memory_mb: int | None = None  # of its largest node
    gres: tuple[str, ...] = ()  # as Slurm writes it, such as gpu:h100:8; of the node that has most of each
    features: tuple[str, ...] = ()
    max_time_s: int | None = None  # None: unlimited, or not told
    default_time_s: int | None = None
    max_nodes: int | None = None
    preempt: str | None = None  # PreemptMode: OFF, REQUEUE, CANCEL, SUSPEND ...
    grace_s: int | None = None
    priority: int | None = None  # PriorityTier
    driver: str | None = None  # of its GPUs, such as 550.54.15: as a node of it told, or a person
    capability: str | None = None  # of its GPUs, such as 9.0
    gpu_memory_mb: int | None = None
    kinds: tuple[Kind, ...] = ()  # what its nodes are, told apart; empty: only the sums above are known
    allow_accounts: tuple[str, ...] = ()  # empty: all
    allow_qos: tuple[str, ...] = ()  # empty: all
    qos: str | None = None  # whose limits hold for all jobs here


@dataclass(frozen=True, kw_only=True)
class Warned:
    """What `doctor` found missing or wrong: what it is, what to do, and whether runs there would fail for it."""

    says: str
    hint: str = ""
    refused: bool = False


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What can run containers on a box, and whether this user may use it; `why` says why not, and what to do."""

    name: str  # docker, podman, apptainer, sandbox
    version: str | None = None
    usable: bool = True
    why: str = ""
    hint: str = ""
    rootless: bool = False
    storage: str | None = None  # such as overlay2; containerd's store pulls another way than graph drivers
    toolkit: bool | None = None  # NVIDIA's toolkit is set up for it; None: not told, or it needs none
    free_mb: int | None = None  # on the file system of its images, where it has a place of its own for them


@dataclass(frozen=True, kw_only=True)
class Box:
    """What a box that is reached by SSH told of itself; None where nothing was told."""

    user: str = ""
    uid: int = 0
    home: str = ""
    system: str | None = None  # PRETTY_NAME of os-release(5)
    architecture: str | None = None  # as images name it: amd64, arm64
    kernel: str | None = None
    node: str = ""  # its own name
    libc: str | None = None  # such as glibc 2.36
    python: str | None = None  # version
    pythons: tuple[str, ...] = ()  # programs that may be a newer one
    cpus: int | None = None
    memory_mb: int | None = None
    place: str | None = None  # type of the file system of launcher's folder
    free_mb: int | None = None  # there
    blocked: str = ""  # why launcher's folder can't be used
    engines: tuple[Engine, ...] = ()  # the one that runs jobs comes first
    gpus: tuple[Mapping[str, Any], ...] = ()  # launcher.gpu.model.Device, as JSON
    driver: str | None = None
    forwarding: bool | None = None  # sshd forwards a port back to us
    skew_s: float | None = None  # how far its clock is ahead of ours
    boot: str | None = None  # what starts runs again after a reboot: docker, systemd, cron; None: the next contact


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A target, by its name. What a person says of it and what was found out stand in two files beside each other
    (launcher.profiles.files); a person's word counts.

    `shared` is a folder that the login node and all nodes see under the same path; `scratch` one of each node's own
    (None: images are run straight from the shared folder). `host` None means that this machine is a login node.
    """

    name: str
    kind: Literal["slurm", "ssh"] = "slurm"
    host: str | None = None  # what `ssh` is told: a name of ~/.ssh/config, host, user@host, or user@host:port
    transport: Literal["ssh", "fabric"] = "ssh"
    shared: str = ""
    scratch: str | None = None
    runtime: str = "apptainer"
    python: str = "python3"  # of the login node and the nodes, 3.10 or newer; after `setup`
    setup: tuple[str, ...] = ()  # shell lines before everything, there and on nodes: `module load apptainer`
    store: str | None = None  # the store of runs there, when neither spec nor command line names one
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)  # further options of sbatch, without their dashes
    time_s: int = 3600  # of a job whose spec says nothing, where the partition has no default
    warn_s: int = 120  # so long before the time limit a job is told to save and to make way
    gres: str = "gpu"  # what GPUs are called in --gres; "" where the site wants --gpus-per-node
    max_array: int = 1001  # MaxArraySize: an index is smaller
    max_submit: int | None = None  # how many tasks one user may have in the queue; None: no limit is known
    requeue: bool = True  # JobRequeue, and no site policy against it
    accounting: bool = True  # sacct answers
    outbound: bool | None = None  # nodes reach the network outside; None: nobody has tried
    partitions: tuple[Partition, ...] = ()
    accounts: tuple[str, ...] = ()  # that this user may charge; empty: not told
    default_account: str | None = None
    qoses: tuple[Qos, ...] = ()  # that this user may use; empty: not told
    default_qos: str | None = None
    enforced: tuple[str, ...] = ()  # AccountingStorageEnforce: associations, limits, qos ...
    scratches: tuple[str, ...] = ()  # folders of the nodes' own disks that doctor could write
    # of a box alone (kind "ssh"); there `shared` is launcher's folder on it, and its user's default lies below home
    ship: Literal["auto", "direct", "relay"] = "auto"  # who writes to the store: the box, or who is attached to it
    credentials: Literal["memory", "disk"] = "memory"  # where narrowed ones lie there: a reboot empties memory
    notice: tuple[str, ...] = ()  # files or http URLs that tell that the box is about to be taken away
    box: Box | None = None
    slurm: str | None = None  # version
    cluster: str | None = None  # ClusterName
    seen: str | None = None  # when doctor last looked (RFC 3339, UTC)
    warnings: tuple[Warned, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def from_json(told: Mapping[str, Any]) -> Profile:
    """Read a profile back; what a newer launcher has added is passed over. Raises KeyError or TypeError."""
    partitions = (
        {**one, "kinds": tuple(made(Kind, kind) for kind in one.get("kinds") or ())}
        for one in told.get("partitions") or ()
    )
    parts = {
        "partitions": tuple(made(Partition, one) for one in partitions),
        "qoses": tuple(made(Qos, one) for one in told.get("qoses") or ()),
        "warnings": tuple(made(Warned, one) for one in told.get("warnings") or ()),
        "box": box_from(told["box"]) if told.get("box") else None,
    }
    return made(Profile, {**told, **parts})


def box_from(told: Mapping[str, Any]) -> Box:
    return made(Box, {**told, "engines": tuple(made(Engine, one) for one in told.get("engines") or ())})


def made(kind: type[T], told: Mapping[str, Any]) -> T:
    """Make a value of a dataclass from JSON's own types; lists become tuples, unknown names are passed over."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: tuple(x) if isinstance(x, list) else x for key, x in told.items() if key in known})
