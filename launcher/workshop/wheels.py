"""Build wheels in images of ours: no network, a fixed environment, and each sdist once for each builder.

What is fixed is what makes builds differ most often: times (SOURCE_DATE_EPOCH, 1980-01-01, the first moment that a
zip knows), the hash seed, locale, umask, user's settings and the path of the source. A build may still depend on the
kernel or the count of processors; what counts is its result, which is locked by its sha256.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from launcher.cache import Cache
from launcher.digest import canonical_json, sha256_bytes, sha256_file
from launcher.errors import ResolveError, TargetError
from launcher.image import Image, build
from launcher.lock.model import Lock, Wheel
from launcher.process import LAST_LINES
from launcher.progress import Progress
from launcher.resolve.workshop import Order
from launcher.target import architecture
from launcher.target.model import Container, Ending, Mount, Unusable
from launcher.target.runtimes import choose
from launcher.workshop import frontend

INSIDE = "/run/launcher"
FRONTEND = Path(frontend.__file__)
ENVIRONMENT = {
    "HOME": f"{INSIDE}/home",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PIP_NO_INDEX": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
    "SOURCE_DATE_EPOCH": "315532800",
}
COMPILERS = r"(?<!\w)(?:gcc|g\+\+|cc|c\+\+)"
NO_COMPILER = re.compile(
    rf"command '[^']*{COMPILERS}' failed: No such file|{COMPILERS}: not found"
    rf"|No such file or directory: '[^']*{COMPILERS}'|Unknown compiler\(s\)|No CMAKE_C\w*_COMPILER could be found"
)
NO_HEADER = re.compile(r"fatal error: (\S+?): No such file")
NO_PROGRAM = re.compile(r"No such file or directory: '([\w.+-]+)'|(?:^|\s)(\w[\w.+-]*): (?:command )?not found", re.M)
NO_NETWORK = re.compile(r"Temporary failure in name resolution|Network is unreachable|Name or service not known")
ELSEWHERE = (
    "lock it on a machine of that architecture, whose lock then serves everywhere; or take a version with a wheel"
)


def build_wheel(order: Order, builder: Lock, cache: Cache, progress: Progress) -> Wheel:
    """Return the wheel of an order, which lies in the cache then; it is built when it wasn't before.

    Raises ResolveError with the build's last lines, TargetError when nothing here can run a container.
    """
    image = made(order, builder, cache, progress)
    key = sha256_bytes(canonical_json([order.sdist.sha256, image.id, sha256_file(FRONTEND)[0]]))
    if kept := noted(cache, key):
        return kept
    with cache.scratch() as scratch, progress.task(f"build {order.name} {order.version}", None, "wheels") as task:
        name = hook(order, image, "wheel", scratch, cache)
        wheel = taken(order, image, scratch / "inside" / "out" / str(name), cache)
        task.advance()
    cache.write_note("built-wheels", key, asdict(wheel))
    return wheel


def build_requirements(order: Order, builder: Lock, cache: Cache, progress: Progress) -> tuple[str, ...]:
    """Ask the backend what it needs beside what the pyproject.toml says; noted for each sdist and builder."""
    image = made(order, builder, cache, progress)
    key = sha256_bytes(canonical_json([order.sdist.sha256, image.id, sha256_file(FRONTEND)[0]]))
    if not isinstance(told := cache.note("build-requirements", key), list):
        with cache.scratch() as scratch:
            told = hook(order, image, "requires", scratch, cache)
        cache.write_note("build-requirements", key, told)
    return tuple(map(str, told if isinstance(told, list) else ()))


def made(order: Order, builder: Lock, cache: Cache, progress: Progress) -> Image:
    """Return the builder's image. Raises TargetError when its programs can't run here."""
    if reason := architecture.refusal(builder.architecture):
        raise TargetError(f"{order.name} {order.version} can't be built here: {reason}", hint=ELSEWHERE)
    return build(builder, cache, progress=progress)


def noted(cache: Cache, key: str) -> Wheel | None:
    note = cache.note("built-wheels", key)
    try:
        wheel = Wheel(**note) if isinstance(note, dict) else None
    except TypeError:
        return None
    return wheel if wheel and cache.find("artifacts", wheel.sha256) else None


def hook(order: Order, image: Image, name: str, scratch: Path, cache: Cache) -> object:
    """Call one hook of the backend in the image; return its answer. Raises ResolveError, TargetError."""
    inside = scratch / "inside"
    (inside / "home").mkdir(parents=True, exist_ok=True)
    ending = run(container(order, image, name, inside, cache), cache)
    try:
        answer: object = json.loads((inside / "answer.json").read_bytes())
    except (OSError, ValueError):
        answer = None
    if ending.exit_code or answer is None:
        raise failure(order, ending, inside / "log")
    return answer


def container(order: Order, image: Image, name: str, inside: Path, cache: Cache) -> Container:
    """Describe the container. The source's own file name is kept: backends look at it."""
    sdist = f"/data/{order.sdist.filename}"
    plan = {
        "sdist": sdist,
        "folder": INSIDE,
        "backend": order.backend,
        "backend_path": order.backend_path,
        "hook": name,
    }
    (inside / "plan.json").write_text(json.dumps(plan))
    (inside / "frontend.py").write_bytes(FRONTEND.read_bytes())
    config: dict[str, Any] = json.loads(image.config).get("config") or {}
    own = dict(entry.split("=", 1) for entry in config.get("Env") or [])
    return Container(
        run=f"build-{secrets.token_hex(6)}",
        image=image,
        argv=("python", f"{INSIDE}/frontend.py", f"{INSIDE}/plan.json"),
        env={**own, **ENVIRONMENT},
        mounts=(
            Mount(source=cache.path("artifacts", order.sdist.sha256), target=sdist),
            Mount(source=inside, target=INSIDE, writable=True),
        ),
        user=os.getuid(),
        group=os.getgid(),
        cwd="/",
        network=False,
    )


def run(described: Container, cache: Cache) -> Ending:
    """Run a container in the first runtime that can. Raises TargetError when none can."""
    problems = []
    for runtime in choose(None, cache):
        reason = runtime.refusal()
        if reason is None:
            try:
                return runtime.start(described).wait()
            except Unusable as e:
                reason = str(e)
        problems.append(f"{runtime.name}: {reason}")
    raise TargetError("nothing here can run a container to build in:\n  " + "\n  ".join(problems))


def taken(order: Order, image: Image, path: Path, cache: Cache) -> Wheel:
    """Check what was built, and take it into the cache. Raises ResolveError when it isn't what was asked for."""
    check(order, path)
    sha256, size = sha256_file(path)
    filename = path.name
    cache.adopt("artifacts", sha256, path)
    return Wheel(
        name=order.name,
        version=order.version,
        filename=filename,
        size=size,
        sha256=sha256,
        sdist=order.sdist.sha256,
        builder=image.id,
    )


def check(order: Order, path: Path) -> None:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename
    from packaging.version import Version

    title = f"{order.name} {order.version}: its build made {path.name}"
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as e:
        raise ResolveError(f"{title}, which is no wheel's name") from e
    if not path.is_file() or path.is_symlink():
        raise ResolveError(f"{title}, and there is no such file")
    if (name, version) != (order.name, Version(order.version)):
        raise ResolveError(f"{title}, of another name or version", hint="its index or its author made a mistake")
    if not tags & set(order.platform.tags()):
        raise ResolveError(f"{title}, which does not run on Python {order.platform.python_version} in the image")


def failure(order: Order, ending: Ending, log: Path) -> ResolveError:
    """Tell the end of what the build said, and what is most likely missing."""
    try:
        said = log.read_text(errors="replace")
    except OSError:
        said = ""
    lines = "\n".join(f"  {line}" for line in said.rstrip().splitlines()[-LAST_LINES:]) or "  it said nothing"
    return ResolveError(
        f"{order.name} {order.version} can't be built from {order.sdist.filename} ({ending}):\n{lines}",
        hint=missing(said),
    )


def missing(said: str) -> str:
    """Guess from a build's output what to put under `image.build`."""
    if NO_COMPILER.search(said):
        return "there is no compiler in the image: `image.build.apt: [g++]`"
    if found := NO_HEADER.search(said):
        return f"`image.build.apt` lacks the Debian package that has the header {found[1]}"
    if NO_NETWORK.search(said):
        return "builds have no network: what it wants to download has to be in `image.build.apt` or in the sdist"
    if found := NO_PROGRAM.search(said):
        return f"the program `{found[1] or found[2]}` is missing: name its Debian package under `image.build.apt`"
    return "add what it lacks under `image.build.apt`, or name an image that has it as `image.build.base`"
