"""Build a Containerfile with the engine at hand, Docker or Podman, and take its image apart into the cache."""

from __future__ import annotations

import hashlib
import json
import os
import platform as machine
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from launcher.cache import Cache
from launcher.digest import CHUNK_BYTES
from launcher.errors import ProcessError, ResolveError, TargetError, UsageError
from launcher.lock.model import Artifact
from launcher.process import run
from launcher.progress import Progress
from launcher.resolve.workshop import Saved
from launcher.target.architecture import KERNELS

VARIABLE = "LAUNCHER_ENGINE"
ENGINES = ("docker", "podman")
ASK_S = 30
NO_ENGINE = "start Docker, or install Podman; $LAUNCHER_ENGINE names the one to take"
BUILD_FAILED = "mend the Containerfile; `{} build` of its folder says the same"


def build_containerfile(file: Path, platform: str, cache: Cache, progress: Progress) -> Saved:
    """Build the image of a Containerfile, whose folder is the context; its config and layers lie in the cache then.

    Raises UsageError (an engine that there is not), TargetError (none answers), ResolveError with the build's last
    lines.
    """
    engine = chosen()
    progress.note(f"{file.name} is built by {engine}: what it downloads is not pinned, what comes out is")
    with cache.scratch() as scratch, progress.task(f"build {file.name}", None, "images"):
        image = built(engine, file, platform, scratch)
        try:
            run([engine, "save", "--output", str(scratch / "image.tar"), image])
        finally:
            run([engine, "image", "rm", "--no-prune", image], check=False)
        return take(scratch / "image.tar", file.name, image, cache, scratch)


def chosen() -> str:
    """Return the engine's program: the one that $LAUNCHER_ENGINE names, or the first that answers."""
    wanted = os.environ.get(VARIABLE)
    if wanted and wanted not in ENGINES:
        raise UsageError(f"{VARIABLE}: there is no engine `{wanted}`", hint=f"there are {' and '.join(ENGINES)}")
    reasons = {engine: refusal(engine) for engine in ([wanted] if wanted else ENGINES)}
    for engine, reason in reasons.items():
        if reason is None:
            return engine
    said = "\n  ".join(f"{engine}: {reason}" for engine, reason in reasons.items())
    raise TargetError(f"there is nothing here to build a Containerfile with:\n  {said}", hint=NO_ENGINE)


def refusal(engine: str) -> str | None:
    """Return why an engine can't be used, or None."""
    if not shutil.which(engine):
        return f"there is no program `{engine}` on this machine"
    try:
        done = run([engine, "version"], timeout_s=ASK_S, check=False)
    except ProcessError as e:
        return e.problems[0].message
    return None if done.returncode == 0 else (done.stderr.decode(errors="replace").strip().splitlines() or ["no"])[-1]


def built(engine: str, file: Path, platform: str, scratch: Path) -> str:
    """Build; return the image's id. Nothing of our own environment or of a terminal gets in."""
    told = scratch / "id"
    args = [engine, "build", "--file", str(file), "--iidfile", str(told)]
    if platform != f"linux/{KERNELS.get(machine.machine(), machine.machine())}":
        args += ["--platform", platform]
    environment = {**os.environ, "BUILDX_NO_DEFAULT_ATTESTATIONS": "1", "BUILDKIT_PROGRESS": "plain"}
    try:
        run([*args, str(file.parent)], env=environment)
    except ProcessError as e:
        said = e.problems[0].message.partition(":\n")[2] or e.problems[0].message
        raise ResolveError(f"{file.name} can't be built by {engine}:\n{said}", hint=BUILD_FAILED.format(engine)) from e
    return told.read_text().strip()


def take(archive: Path, name: str, image: str, cache: Cache, scratch: Path) -> Saved:
    """Put the config and the layers of a saved image into the cache; the archive is in Docker's form.

    Engines since 2024 write an OCI layout whose manifest.json has the same form. Raises ResolveError.
    """
    try:
        with tarfile.open(archive) as opened:
            listed: Any = json.load(read(opened, "manifest.json"))
            version = image.rpartition(":")[2][:12]

            def artifact(part: str, member: str) -> Artifact:
                sha256, size = adopted(lambda: read(opened, member), cache, scratch)
                return Artifact(name=name, version=version, filename=part, size=size, sha256=sha256)

            layers = [artifact(f"{name}-layer-{n}", member) for n, member in enumerate(listed[0]["Layers"], 1)]
            return Saved(config=artifact(f"{name}-config.json", listed[0]["Config"]), layers=tuple(layers))
    except (tarfile.TarError, KeyError, IndexError, TypeError, ValueError) as e:
        raise ResolveError(f"the image that {name} gave can't be read: {e}", hint="try another engine") from e


def read(archive: tarfile.TarFile, member: str) -> IO[bytes]:
    """Open a member; links are followed (a layer that is there twice is a link to the first)."""
    stream = archive.extractfile(member)
    if stream is None:
        raise KeyError(member)
    return stream


def adopted(opened: Callable[[], IO[bytes]], cache: Cache, scratch: Path) -> tuple[str, int]:
    """Copy a stream into the cache as an artifact; return its sha256 and size in bytes."""
    digest, size = hashlib.sha256(), 0
    with opened() as stream, (scratch / "part").open("wb") as part:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            part.write(chunk)
            size += len(chunk)
    cache.adopt("artifacts", digest.hexdigest(), scratch / "part")
    return digest.hexdigest(), size
