"""The runner's bundle: the few files that every container gets at /opt/launcher, copied once per version.

Its folder `lib` is for the command: the runner puts it last in PYTHONPATH, so that `from launcher import train` works.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

from launcher.cache import Cache
from launcher.digest import canonical_json, sha256_bytes
from launcher.errors import TargetError
from launcher.target.trees import kept

RUN = """import sys
sys.path.insert(0, "/opt/launcher")
from launcher.runner import main
main()
"""
PACKAGE = Path(__file__).parents[1]
MODULES = ("__init__.py", "errors.py", "digest.py", "findings.py")
ROOMS = ("runner", "store", "gpu")
FRONT = "front.py"  # of the room `train`: what stands for the whole package in `lib`


def bundle(cache: Cache) -> Path:
    """Return the bundle's folder. Raises TargetError when obstore is not installed."""
    sources = dict(files())
    looks = [[name, info.st_size, info.st_mtime_ns] for name, path in sources.items() for info in [path.stat()]]
    return kept(cache, "bundle-" + sha256_bytes(canonical_json([RUN, looks])), lambda folder: fill(folder, sources))


def files() -> Iterator[tuple[str, Path]]:
    """Yield (path in the bundle, file)."""
    for name in MODULES:
        yield f"launcher/{name}", PACKAGE / name
    for room in ROOMS:
        for path in sorted((PACKAGE / room).glob("**/*.py")):
            yield f"launcher/{path.relative_to(PACKAGE)}", path
    yield from library()
    spec = importlib.util.find_spec("obstore")
    if spec is None or spec.origin is None:
        raise TargetError("the package obstore is missing beside launcher", hint="install launcher again")
    home = Path(spec.origin).parent
    for path in sorted([*home.glob("**/*.py"), *home.glob("*.so")]):
        yield f"obstore/{path.relative_to(home)}", path


def library() -> Iterator[tuple[str, Path]]:
    """Yield what the command may import."""
    for path in sorted((PACKAGE / "train").glob("*.py")):
        name = "__init__.py" if path.name == FRONT else f"train/{path.name}"
        yield f"lib/launcher/{name}", path


def fill(folder: Path, sources: dict[str, Path]) -> None:
    (folder / "run.py").write_text(RUN)
    for name, path in sources.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, folder / name)
