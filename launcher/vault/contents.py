"""What a vault keeps of a lock: every file of its image, the lists of files of its layers, the sources of wheels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from launcher.lock import Artifact, Lock


def files(lock: Lock) -> tuple[Artifact, ...]:
    """Return all that a rebuild of a lock needs: its artifacts, and the lists of files of its layers."""
    return tuple({a.sha256: a for a in (*lock.artifacts, *listings(lock))}.values())


def listings(lock: Lock) -> tuple[Artifact, ...]:
    """Return the lists of files of a lock's layers, as artifacts. Their sizes are told by nobody."""
    layers = lock.image.layers if lock.image else ()
    return tuple(
        Artifact(name=x.name, version="", filename=f"the list of files of layer {x.name}", size=0, sha256=x.listing)
        for x in layers
    )


def sources(lock: Lock) -> tuple[Artifact, ...]:
    """Return the sdists of wheels that were built when the lock was made: no rebuild needs them, but people may."""
    return tuple(
        Artifact(
            name=wheel.name,
            version=wheel.version,
            filename=f"the source distribution of {wheel.filename}",
            size=0,
            sha256=wheel.sdist,
        )
        for wheel in lock.wheels
        if wheel.sdist
    )


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An artifact, and the digests of the locks that name it."""

    artifact: Artifact
    locks: tuple[str, ...] = ()

    def __str__(self) -> str:
        title = " ".join(filter(None, (self.artifact.name, self.artifact.version)))
        more = f" and {len(self.locks) - 1} more" if len(self.locks) > 1 else ""
        owner = f", lock {self.locks[0][:12]}{more}" if self.locks else ""
        return f"{title}: {self.artifact.filename} (sha256 {self.artifact.sha256}{owner})"


def wanted(locks: Mapping[str, Lock]) -> dict[str, Wanted]:
    """Return what locks need, by sha256, each with the locks that need it."""
    found: dict[str, Wanted] = {}
    for digest, lock in sorted(locks.items()):
        for artifact in files(lock):
            before = found.get(artifact.sha256)
            owners = (*(before.locks if before else ()), digest)
            found[artifact.sha256] = Wanted(artifact=artifact, locks=owners)
    return found


def unnamed(sha256: str, size: int) -> Wanted:
    """Return an artifact that no lock names: a run's code, a patch, an input's file."""
    filename = "code, a patch or an input's file: no lock names it"
    return Wanted(artifact=Artifact(name=sha256[:12], version="", filename=filename, size=size, sha256=sha256))


def total(artifacts: Iterable[Artifact]) -> int:
    return sum(artifact.size for artifact in artifacts)
