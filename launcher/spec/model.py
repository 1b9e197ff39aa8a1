"""The nouns of a spec: what a person wants, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Param = str | int | float | bool | None
"""A parameter's value; lists and mappings are refused by the loader."""


@dataclass(frozen=True, kw_only=True)
class Pip:
    """Python requirements: PEP 508 strings, or one file that holds them (requirements.txt or pyproject.toml)."""

    requirements: tuple[str, ...] = ()
    file: Path | None = None  # absolute; where it came from stays out of locks
    extras: tuple[str, ...] = ()  # of a pyproject.toml
    groups: tuple[str, ...] = ()  # PEP 735 dependency groups of a pyproject.toml


@dataclass(frozen=True, kw_only=True)
class Build:
    """Distributions that have no wheel and are built at lock time, and the image that they are built in.

    `base` is None for the image's own base; `apt` is installed in the builder only.
    """

    packages: tuple[str, ...] = ()  # normalised names (PEP 503)
    apt: tuple[str, ...] = ()
    base: str | None = None


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """The environment.

    `base` is `debian:<suite>` or `docker://HOST/NAME[:TAG][@sha256:...]`; `containerfile` is absolute and takes the
    base's place. `python` is `X.Y` or None (the base's own, when pip is used). `cuda` and `cudnn` are versions that
    the image has to have, as `12.6`: nothing is chosen by them, what differs is refused.
    """

    base: str = "debian:bookworm"
    containerfile: Path | None = None
    apt: tuple[str, ...] = ()
    python: str | None = None
    pip: Pip = field(default_factory=Pip)
    build: Build = field(default_factory=Build)
    cuda: str | None = None
    cudnn: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    platform: str = "linux/amd64"


@dataclass(frozen=True, kw_only=True)
class CodeSpec:
    """The working tree that a run uses. `root` is absolute."""

    root: Path
    dirty: Literal["record", "refuse"] = "record"
    max_file_bytes: int = 10 * 1024 * 1024
    max_total_bytes: int = 100 * 1024 * 1024
    include: tuple[str, ...] = ()  # patterns that are taken although they look like secrets or are too big
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """One input, mounted read-only at `/data/<name>`: exactly one of `path` and `url` says where it comes from.

    `path` is an absolute local file or folder, or a `.dvc` file that stands for one. `url` is s3://, gs:// or az:// (an
    object, or with a slash at its end all that is below), or http(s):// (one file).
    """

    name: str
    path: Path | None = None
    url: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Which checkpoints of a run stay in the store: those that any of the rules keeps. No rule at all keeps every one.

    `last` newest ones, one in every `every` steps, the best by the metric `best` (its smallest value, or with `mode`
    "max" its largest).
    """

    last: int | None = None
    every: int | None = None
    best: str | None = None
    mode: Literal["min", "max"] = "min"


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """`H100:8` is 8 of model H100; `2` is 2 of any model."""

    count: int = 0
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class GpuSpec:
    """What the nodes will have, as the person knows them: an image that can't serve them all is refused.

    `driver` is a lowest version, as "550.54"; `capability` holds compute capabilities, as "8.6".
    """

    driver: str | None = None
    capability: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one run needs. Memory in bytes, time in seconds."""

    nodes: int = 1
    gpus: Gpus = field(default_factory=Gpus)
    cpus: int | None = None
    memory_bytes: int | None = None
    time_s: int | None = None


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """What a parameter of random points is drawn from.

    `numbers` are the two bounds (both included), or mean and deviation; for `log_normal` those of the logarithm.
    `step` makes values multiples of it, counted from the lower bound where there is one. `choices` and `weights` are
    for `choice` alone; no weights: all alike.
    """

    kind: Literal["uniform", "log_uniform", "normal", "log_normal", "int_uniform", "int_log_uniform", "choice"]
    numbers: tuple[int | float, ...] = ()
    step: int | float | None = None
    choices: tuple[Param, ...] = ()
    weights: tuple[int | float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RandomPoints:
    """Points that are drawn. The same `seed` gives the same numbers everywhere (see `launcher.sweep.drawing`)."""

    count: int
    seed: int = 0
    draws: Mapping[str, Distribution] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PointsFile:
    """The rows of a file of points, as they were when the spec was read. `path` is absolute."""

    path: Path
    rows: tuple[Mapping[str, Param], ...]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Many points of one spec. Where several sources are given, their points are multiplied.

    A row of `list` or `file` names the parameters that it sets; the others have their value of `params`.
    """

    grid: Mapping[str, tuple[Param, ...]] = field(default_factory=dict)
    zip: Mapping[str, tuple[Param, ...]] = field(default_factory=dict)
    list: tuple[Mapping[str, Param], ...] = ()
    random: RandomPoints | None = None
    file: PointsFile | None = None
    max_parallel: int | None = None  # so many points run at once
    pack: int = 1  # so many points share one allocation


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A whole `experiment.yaml`, read and checked."""

    name: str
    image: ImageSpec
    code: CodeSpec
    run: str | tuple[str, ...]  # a shell line, or an argument list that no shell reads
    params: Mapping[str, Param] = field(default_factory=dict)
    data: tuple[DataSpec, ...] = ()
    resources: Resources = field(default_factory=Resources)
    outputs: tuple[str, ...] = ("**",)  # patterns below LAUNCHER_OUTPUT_DIR that are kept
    gpu: GpuSpec = field(default_factory=GpuSpec)
    determinism: Literal["off", "seed", "strict"] = "seed"
    seed: int = 0
    store: str | None = None  # an absolute folder, or a file://, s3://, gs:// or az:// URL; None: the machine's default
    keep: Keep = field(default_factory=Keep)
    bandwidth: int | None = None  # bytes in a second that uploads may use while the command runs
    sweep: Sweep | None = None
    retries: int = 0  # how often a command that failed is run again
    restart: bool = True  # whether an attempt that was lost with its machine is followed by another one
    file: Path  # absolute path of the spec; never written to a lock or record
