"""Turns on the deterministic modes of frameworks as they are imported, in every Python that a strict run starts.

Python's `site` imports it, since its folder stands first in PYTHONPATH. It knows nothing of launcher, imports next to
nothing, never breaks what it serves, and hands over to the sitecustomize that would have been imported without it.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType, TracebackType
    from typing import Any

OWN = os.path.dirname(os.path.abspath(__file__))
RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS")
LARGEST = 0xFFFFFFFF  # numpy takes no larger seed
TOLD = "LAUNCHER_STRICT_TOLD"  # set once a trouble was told, so that a thousand workers don't repeat it
ADVICE = (
    "launcher: `determinism: strict` in the spec forbids operations that give other results each time. Take another "
    "operation, or allow this one with torch.use_deterministic_algorithms(False) around it, or choose "
    "`determinism: seed`."
)


def number(names: Sequence[str], default: int) -> int:
    """Return the first of these variables that is a number."""
    for name in names:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return default


def seed() -> int:
    """Return this process's seed: the run's, and another one for each rank, as without launcher."""
    return (number(["LAUNCHER_SEED"], 0) + number(RANKS, 0)) & LARGEST


def random(module: Any) -> None:
    module.seed(seed())


def numpy_random(module: Any) -> None:
    """Seed what `numpy.random.*` shares; a Generator of one's own takes its own seed."""
    module.seed(seed())


def torch(module: Any) -> None:
    """Seed every device, and refuse what has no deterministic implementation.

    `set_deterministic_debug_mode` does what `use_deterministic_algorithms` does without importing the compiler, which
    takes seconds; the compiler hears of it by TORCHINDUCTOR_DETERMINISTIC. (torch's documentation, "Reproducibility")
    """
    module.manual_seed(seed())
    module.set_deterministic_debug_mode("error")
    module.backends.cudnn.benchmark = False
    module.backends.cudnn.deterministic = True
    explain_refusals()
    tell({"torch": str(module.__version__), "cuda": module.version.cuda})


def tensorflow(module: Any) -> None:
    module.random.set_seed(seed())
    module.config.experimental.enable_op_determinism()
    tell({"tensorflow": str(module.__version__)})


ACTIONS: dict[str, Callable[[Any], None]] = {
    "random": random,
    "numpy.random": numpy_random,
    "torch": torch,
    "tensorflow": tensorflow,
}


def act(module: ModuleType) -> None:
    """Do what a module needs. What fails is told, and the import goes on."""
    try:
        ACTIONS[module.__name__](module)
    except Exception as e:
        complain(f"{module.__name__} could not be made deterministic: {type(e).__name__}: {e}")


def complain(text: str) -> None:
    """Say a trouble on stderr, once for this process and those that it starts."""
    if os.environ.get(TOLD) or sys.stderr is None:
        return
    os.environ[TOLD] = "1"
    sys.stderr.write(f"launcher: determinism: {text}\n")


def tell(frameworks: dict[str, Any]) -> None:
    """Add a line for the run's record, from the first process of all alone."""
    path = os.environ.get("LAUNCHER_FRAMEWORKS")
    if not path or number(RANKS, 0) or getattr(sys.modules.get("multiprocessing.process"), "_parent_process", None):
        return
    import json

    line = {**frameworks, "world_size": number(SIZES, 1)}
    try:
        with open(path, "a") as stream:
            stream.write(json.dumps(line) + "\n")
    except OSError:
        pass  # a record without it is better than a run without its record


def explain_refusals() -> None:
    """Say behind torch's error who forbade the operation: the script that fails says nothing of it."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        if isinstance(error, RuntimeError) and "deterministic" in str(error).lower() and sys.stderr is not None:
            sys.stderr.write(ADVICE + "\n")

    sys.excepthook = hook


class Then:
    """A loader that acts on the module it has loaded. The module never sees it: its own loader is put back first."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> Any:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        act(module)


class Finder:
    """Finds the few modules that something is done with, by the finders behind it; passes over all others."""

    def __init__(self) -> None:
        self.busy: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in ACTIONS or name in self.busy:
            return None
        self.busy.add(name)  # a finder that asks the others, as this one, must not come back here
        try:
            spec = self.found(name, path, target)
        finally:
            self.busy.discard(name)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = Then(spec.loader)  # type: ignore[assignment]
        return spec

    def found(self, name: str, path: Any, target: Any) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find and finder is not self else None
            if spec is not None:
                return spec
        return None


def hand_over() -> None:
    """Import the sitecustomize that stands behind this one, as if this one weren't there."""
    from importlib.machinery import PathFinder

    behind = [folder for folder in sys.path if os.path.abspath(folder or ".") != OWN]
    spec = PathFinder.find_spec("sitecustomize", behind)
    if spec is None or spec.loader is None:
        return
    sys.modules["sitecustomize"] = module = type(sys)("sitecustomize")  # importlib.util would cost milliseconds
    module.__file__, module.__loader__, module.__spec__ = spec.origin, spec.loader, spec
    spec.loader.exec_module(module)


def begin() -> None:
    if os.environ.get("LAUNCHER_DETERMINISM") == "strict":
        sys.meta_path.insert(0, Finder())
        for name in ACTIONS:
            if name in sys.modules:  # imported by a .pth file before us
                act(sys.modules[name])


begin()
hand_over()
