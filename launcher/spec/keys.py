"""The one table of a spec's keys. The loader, the JSON Schema and docs/reference/spec.md are all made from it."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.spec import distributions, environment, gpu, pip, points, points_file, workload
from launcher.spec.forms import Form, amount, integer, one_of, truth
from launcher.spec.units import size_bytes, time_seconds

SIZE = amount("a size such as 512M or 16G", size_bytes, r"^[0-9]+(\.[0-9]+)? ?[KMGTkmgt](i|iB)?$")
TIME = amount(
    "a time such as 2h30m, 90m or 1-12:00:00", time_seconds, r"^([0-9]+[dhms])+$|^([0-9]+-)?[0-9:]*[0-9][0-9:]*$"
)


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key of the spec. `field` is its name in the model. A key without a form is a section of others."""

    path: str
    field: str
    says: str
    form: Form | None = None
    default: str | None = None  # in words; None means that the key must be there
    example: str = ""

    @property
    def section(self) -> str:
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def key(path: str, form: Form | None, says: str, default: str | None, example: str, field: str = "") -> Key:
    return Key(
        path=path, field=field or path.rpartition(".")[2], form=form, says=says, default=default, example=example
    )


KEYS: tuple[Key, ...] = (
    key("name", workload.NAME_FORM, "What runs of this spec are called in lists and records.", None, "digits"),
    key("image", None, "The environment: everything that the command finds installed.", "a bare Debian", ""),
    key(
        "image.base",
        environment.BASE,
        "What the image starts from: a Debian suite, as `debian:<suite>`, or an image of a registry, as "
        "`docker://HOST/NAME[:TAG][@sha256:...]`, whose digest goes into the lock.",
        "debian:bookworm",
        "debian:bookworm",
    ),
    key(
        "image.containerfile",
        environment.CONTAINERFILE,
        "A Containerfile (Dockerfile) that takes the base's place. Docker or Podman builds it once, when the spec is "
        "locked; its result is kept, so that it can be restored, and is never rebuilt.",
        "none",
        "Containerfile",
    ),
    key(
        "image.apt",
        environment.APT_LIST,
        "Debian packages, each as `name` or `name=version`, with all that they depend on; over a base of Debian or "
        "Ubuntu, what that lacks.",
        "none",
        "[git, ffmpeg]",
    ),
    key(
        "image.python",
        environment.PYTHON_FORM,
        'The Python of the image, quoted, as "X.Y" (unquoted, YAML reads 3.10 as 3.1). It has to be the suite\'s: '
        "3.11 in bookworm, 3.13 in trixie.",
        "the suite's own when `pip` is used, else none",
        '"3.11"',
    ),
    key(
        "image.pip",
        pip.PIP,
        "Python requirements: a list (PEP 508), or the path of a requirements.txt or pyproject.toml, or "
        "`{file: pyproject.toml, extras: [...], groups: [...]}`. Only wheels are used; what has none is named under "
        "`image.build`.",
        "none",
        "[numpy>=2, scikit-learn]",
    ),
    key("image.build", None, "Requirements that have no wheel, built once when the spec is locked.", "nothing", ""),
    key(
        "image.build.packages",
        environment.BUILD_PACKAGES,
        "The names of the distributions whose source may be built: their code runs then, without network, in an image.",
        "none",
        "[flash-attn]",
    ),
    key(
        "image.build.apt",
        environment.APT_LIST,
        "Debian packages that only the image in which they are built has, such as compilers.",
        "none",
        "[g++, ninja-build]",
    ),
    key(
        "image.build.base",
        environment.BASE,
        "What the image in which they are built starts from, in the words of `image.base`.",
        "the image's own base",
        "docker://registry.example.org/cuda:12.6-devel",
    ),
    key(
        "image.cuda",
        environment.VERSION,
        "The CUDA version that the image has to have, quoted. It chooses nothing: an image with another is refused.",
        "any",
        '"12.6"',
    ),
    key("image.cudnn", environment.VERSION, "Likewise, the version of cuDNN.", "any", '"9.5"'),
    key(
        "image.env",
        environment.ENV,
        "Environment variables of the image. Values are text; a number is taken as it is written.",
        "none",
        "{OMP_NUM_THREADS: 4}",
    ),
    key(
        "image.platform",
        environment.PLATFORM,
        "The platform of the image: linux/amd64 or linux/arm64.",
        "linux/amd64",
        "linux/arm64",
    ),
    key("code", None, "The working tree that a run uses, mounted read-only at /workspace.", "the spec's folder", ""),
    key("code.root", workload.ROOT, "The folder, counted from the spec's folder.", "the spec's folder", "."),
    key(
        "code.dirty",
        one_of("record", "refuse"),
        "What to do with changes that are not committed: `record` keeps them with the run, `refuse` stops.",
        "record",
        "record",
    ),
    key(
        "code.include",
        workload.PATTERNS,
        "Patterns (gitignore(5)) of files that are taken although they are ignored, too big or look like secrets.",
        "none",
        "[fixtures/*.pem]",
    ),
    key(
        "code.exclude",
        workload.PATTERNS,
        "Patterns (gitignore(5)) of files that are left out, besides those that .gitignore names.",
        "none",
        "[notebooks/]",
    ),
    key("code.max_file_size", SIZE, "The size above which a file stops the run.", "10M", "10M", "max_file_bytes"),
    key(
        "code.max_total_size",
        SIZE,
        "The size above which the whole code stops the run.",
        "100M",
        "100M",
        "max_total_bytes",
    ),
    key(
        "run",
        workload.RUN,
        "The command. Text is a line for /bin/sh in which `{name}` stands for the quoted value of a parameter; "
        "a list is an argument list that no shell reads.",
        None,
        "python train.py --lr {lr}",
    ),
    key(
        "params",
        workload.PARAMS,
        "Parameters: text, numbers, true, false or null. They fill the places of `run`, and are in $LAUNCHER_PARAMS "
        "(a JSON file) and in LAUNCHER_PARAM_<NAME>.",
        "none",
        "{lr: 1e-3, epochs: 10}",
    ),
    key(
        "data",
        workload.DATA,
        "Inputs: names with the path of a file or folder (or of its `.dvc` file), the URL of a file (https://) or of "
        "objects (s3://, gs://, az://; all that is below, with a slash at the end), or `{path: ..., sha256: ...}` and "
        "`{url: ..., sha256: ...}`. Each is pinned by its digest and mounted read-only at /data/<name>.",
        "none",
        "{mnist: data/mnist}",
    ),
    key("resources", None, "What one run needs.", "whatever the target gives", ""),
    key("resources.nodes", integer("a number of nodes, 1 or more", 1), "Machines.", "1", "1"),
    key(
        "resources.gpus",
        workload.GPUS,
        "GPUs of each node: a number, a model (`H100`: one of it), or both (`H100:8`).",
        "0",
        "H100:8",
    ),
    key("resources.cpus", integer("a number of cores, 1 or more", 1), "Cores of each node.", "the target's own", "8"),
    key(
        "resources.memory",
        SIZE,
        "Memory of each node. K, M, G and T are powers of 1024, as in Slurm: 16G, 16Gi and 16GiB are the same.",
        "the target's own",
        "16G",
        "memory_bytes",
    ),
    key(
        "resources.time",
        TIME,
        "How long the run may take: 2h30m, 90m, or Slurm's minutes:seconds, hours:minutes:seconds, days-hours and "
        "days-hours:minutes[:seconds]. A bare number is refused.",
        "the target's own",
        "2h30m",
        "time_s",
    ),
    key(
        "gpu", None, "What the nodes will have: an image that can't serve them is refused when it is locked.", "any", ""
    ),
    key(
        "gpu.driver",
        gpu.DRIVER,
        "The oldest driver that the image has to work with.",
        "any",
        '">=550.54"',
    ),
    key(
        "gpu.capability",
        gpu.CAPABILITIES,
        "Compute capabilities that the image has to have code for, quoted: one, or a list.",
        "any",
        '["8.0", "9.0"]',
    ),
    key(
        "outputs",
        workload.OUTPUTS,
        "Patterns of files below $LAUNCHER_OUTPUT_DIR that are kept when the run ends.",
        '["**"], all of them',
        "[model/*.pt, metrics.json]",
    ),
    key(
        "determinism",
        one_of("off", "seed", "strict"),
        "`seed` sets PYTHONHASHSEED and the seeds that frameworks read from the environment; `strict` seeds frameworks "
        "too and turns on their deterministic modes; `off` sets nothing.",
        "seed",
        "seed",
    ),
    key("seed", integer("a whole number from 0 to 4294967295", 0, 2**32 - 1), "The seed of the run.", "0", "1"),
    key(
        "store",
        workload.STORE,
        "Where records, logs, checkpoints and outputs go: a folder, or a file://, s3://, gs:// or az:// URL.",
        "the machine's own",
        "runs",
    ),
    key("keep", None, "Which checkpoints stay in the store: those that any of these keeps.", "all of them", ""),
    key("keep.last", integer("a number of checkpoints, 1 or more", 1), "So many of the newest.", "none", "3"),
    key(
        "keep.every",
        integer("a number of steps, 1 or more", 1),
        "One in so many steps: the last number in a checkpoint's name is its step.",
        "none",
        "10000",
    ),
    key(
        "keep.best",
        workload.METRIC,
        "The one with the smallest value of this metric (see `keep.mode`).",
        "none",
        "loss",
    ),
    key("keep.mode", one_of("min", "max"), "Whether the smallest or the largest value is the best.", "min", "max"),
    key(
        "bandwidth",
        SIZE,
        "How many bytes in a second uploads may use while the command runs, such as 50M. The end of a run is not "
        "slowed.",
        "no limit",
        "200M",
    ),
    key(
        "sweep",
        None,
        "Many points: runs that differ in parameters, for `launcher submit`. Points of several sources are multiplied, "
        "in the order grid, zip, list, random, file; the first changes slowest. See [sweeps](sweeps.md).",
        "one run",
        "",
    ),
    key(
        "sweep.grid",
        points.GRID,
        "Every combination of these values; the last parameter changes fastest. `seed` sets the run's seed, here and "
        "in the other sources, unless `params` has a parameter of that name.",
        "none",
        "{lr: [0.1, 0.01], hidden: [16, 32]}",
    ),
    key(
        "sweep.zip",
        points.ZIP,
        "Lists of equal lengths: their first values are the first point, and so on.",
        "none",
        "{lr: [0.1, 0.01], hidden: [16, 32]}",
    ),
    key(
        "sweep.list",
        points.LIST,
        "Points, each with the parameters that it sets; the others are as in `params`.",
        "none",
        "[{lr: 0.1}, {lr: 0.01, hidden: 32}]",
    ),
    key(
        "sweep.random",
        distributions.RANDOM,
        "`count` points that are drawn, the same ones for the same `seed` (0 when left out). A parameter has one of "
        "`uniform`, `log_uniform`, `int_uniform`, `int_log_uniform: [lowest, highest]`, `normal`, `log_normal: [mean, "
        "deviation]` with or without a `step`, or `choice: [...]` with or without `weights: [...]`.",
        "none",
        "{count: 20, seed: 1, lr: {log_uniform: [1e-4, 1e-1]}, hidden: {choice: [16, 32]}}",
    ),
    key(
        "sweep.file",
        points_file.FILE,
        "A file of points: a .csv table whose first line names parameters, .jsonl with an object a line, .json or "
        ".yaml with a list. Values mean what they mean in `params`.",
        "none",
        "points.csv",
    ),
    key(
        "sweep.max_parallel",
        integer("a number of points, 1 or more", 1),
        "How many points run at once, at most.",
        "what the target lets in",
        "16",
    ),
    key(
        "sweep.pack",
        integer("a number of points, from 1 to 64", 1, 64),
        "How many points share one allocation, for short ones; `resources` is what each of them gets.",
        "1",
        "4",
    ),
    key(
        "retries",
        integer("a number from 0 to 100", 0, 100),
        "How often a command that failed is run again, as the next attempt. Preemption, time limits and lost nodes are "
        "no failures of the command, and are not counted.",
        "0",
        "1",
    ),
    key(
        "restart",
        truth(),
        "Whether a run goes on by itself, from its last checkpoint, after it was lost with its machine: a box that was "
        "restarted or taken away, a node that died, a preemption. With `false` it waits for `launcher resume`.",
        "true",
        "false",
    ),
)

# What other tools of this field call the same thing.
SYNONYMS: dict[str, str] = {
    **dict.fromkeys(("pypi", "requirements", "dependencies", "packages"), "image.pip"),
    **dict.fromkeys(("system_packages", "debian"), "image.apt"),
    **dict.fromkeys(("environment", "envs", "variables"), "image.env"),
    **dict.fromkeys(("command", "cmd", "script", "entrypoint"), "run"),
    **dict.fromkeys(("parameters", "hyperparameters", "args", "config"), "params"),
    **dict.fromkeys(("workdir", "source", "src"), "code.root"),
    **dict.fromkeys(("inputs", "datasets", "mounts"), "data"),
    **dict.fromkeys(("gres", "accelerators"), "resources.gpus"),
    **dict.fromkeys(("walltime", "timeout"), "resources.time"),
    **dict.fromkeys(("mem", "ram"), "resources.memory"),
    **dict.fromkeys(("artifacts", "results"), "outputs"),
    **dict.fromkeys(("matrix", "search_space", "points"), "sweep"),
    **dict.fromkeys(("max_concurrent", "throttle"), "sweep.max_parallel"),
    **dict.fromkeys(("max_retries", "retry"), "retries"),
}
