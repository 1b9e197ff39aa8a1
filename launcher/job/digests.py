"""What a point, and a sweep of points, is known by: digests over what decides their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from launcher.digest import canonical_json, canonical_text, sha256_bytes
from launcher.job.model import Job
from launcher.spec.model import Param

SWEEP_DIGITS = 12


def point_digest(job: Job) -> str:
    """Return the sha256 (hex) over what decides a run's result; neither its id nor its resources do.

    It is taken over canonical JSON of image, code, argv, params, data, seed, determinism, outputs and env.
    """
    return digester(job)(job.argv, job.params, job.seed)


def digester(job: Job) -> Callable[[Sequence[str], Mapping[str, Param], int], str]:
    """Return a function that gives the digests of points which differ from a job in argv, params and seed only."""
    shared = canonical_text(
        {
            "code": job.code,
            "data": dict(job.data),
            "determinism": job.determinism,
            "env": dict(job.env),
            "image": job.image,
            "outputs": job.outputs,
        }
    )[1:-1]

    def digest(argv: Sequence[str], params: Mapping[str, Param], seed: int) -> str:
        own = canonical_text(argv), canonical_text(dict(params))
        return sha256_bytes(f'{{"argv":{own[0]},{shared},"params":{own[1]},"seed":{seed}}}'.encode())

    return digest


def point_group(job: Job) -> str:
    """Return the sha256 (hex) over what all points of a sweep share: image, code, command and data.

    Finished points lie in the store below their group, so that one listing finds those of a sweep.
    """
    shared = {"code": job.code, "command": job.command, "data": dict(job.data), "image": job.image}
    return sha256_bytes(canonical_json(shared))


def sweep_id(name: str, digests: Sequence[str]) -> str:
    """Return the id of a sweep: its name, and the first digits of the sha256 over its points' digests in order."""
    return f"{name}-{sha256_bytes(canonical_json(list(digests)))[:SWEEP_DIGITS]}"
