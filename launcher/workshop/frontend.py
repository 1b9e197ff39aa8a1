"""What runs in the builder's image: a PEP 517 frontend of one file, with nothing but Python's own library.

It is copied into the container and started there by the image's Python with the path of its plan, a JSON object:
`sdist`, `folder` (writable), `backend`, `backend_path` and `hook` (`wheel` or `requires`). The answer goes to
`folder`/answer.json, and everything that is said on the way to `folder`/log.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any


def main(plan_file: str) -> None:
    """Unpack the sdist, call one hook of its backend in its folder, and write down what it returned."""
    plan: dict[str, Any] = json.loads(Path(plan_file).read_bytes())
    folder = Path(plan["folder"])
    redirect(folder / "log")
    os.umask(0o022)
    os.chdir(unpacked(Path(plan["sdist"]), folder / f"source-{plan['hook']}"))
    sys.path[:0] = [str(Path(entry).absolute()) for entry in plan["backend_path"]] + [""] * legacy(plan["backend"])
    backend = load(plan["backend"])
    answer = requires(backend) if plan["hook"] == "requires" else wheel(backend, folder / "out")
    (folder / "answer.json").write_text(json.dumps(answer))


def redirect(log: Path) -> None:
    """Send what this process and its children say to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(descriptor, number)


def unpacked(sdist: Path, into: Path) -> Path:
    """Unpack the archive; return its one top folder."""
    if sdist.name.endswith(".zip"):
        with zipfile.ZipFile(sdist) as zipped:
            zipped.extractall(into)
    else:
        with tarfile.open(sdist) as archive:
            for member in archive.getmembers():  # this user may be the only one that there is in here
                member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
            extract(archive, into)
    [top] = into.iterdir()
    return top


def extract(archive: tarfile.TarFile, into: Path) -> None:
    if hasattr(tarfile, "data_filter"):
        archive.extractall(into, filter="data")
    else:  # a Python from before the filters of PEP 706; there is nothing outside the sdist's folder to harm
        archive.extractall(into)


def legacy(backend: str) -> bool:
    """Tell the backend for sdists without a pyproject.toml, whose setup.py may import what lies beside it."""
    return backend.endswith(":__legacy__")


def load(name: str) -> Any:
    """Import a backend `module:object.path` (PEP 517, "build-backend")."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split(".") if path else ():
        found = getattr(found, part)
    return found


def requires(backend: Any) -> list[str]:
    hook = getattr(backend, "get_requires_for_build_wheel", None)
    return list(hook(None)) if hook else []


def wheel(backend: Any, out: Path) -> str:
    out.mkdir()
    return str(backend.build_wheel(str(out), None, None))


if __name__ == "__main__":
    main(sys.argv[1])
