"""How points become arrays: packed into tasks, split at the site's limits, and throttled over all arrays. Pure.

Slurm throttles each array for itself (`--array=0-50%4`). So that `max_parallel` holds over all arrays of a sweep, they
are put into lanes: within a lane an array begins when the one before it is over, and the lanes' throttles add up to
`max_parallel`. There are as many lanes as it takes to use all of it with arrays of the size that the site allows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.slurm.model import Submission

TOKEN_LENGTH = 12
PARTS_OF_LIMIT = 4  # arrays that are a quarter of what the queue takes keep it three quarters full

Group = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Array:
    """An array to be: the groups of its tasks, and its place among those that are throttled together."""

    groups: tuple[Group, ...]
    lane: int | None = None
    throttle: int | None = None


def packed(indices: Sequence[int], pack: int) -> tuple[Group, ...]:
    """Return the tasks: `pack` points each, in their order; the last one may have fewer."""
    return tuple(tuple(indices[at : at + pack]) for at in range(0, len(indices), max(1, pack)))


def largest(tasks: int, max_array: int, max_submit: int | None) -> int:
    """Return how many tasks an array may have. MaxArraySize is one more than the highest index (slurm.conf(5))."""
    size = max(1, max_array)
    if max_submit is not None and tasks > max_submit:
        size = min(size, max(1, max_submit // PARTS_OF_LIMIT))
    elif max_submit is not None:
        size = min(size, max(1, max_submit))
    return size


def split(
    indices: Sequence[int], *, pack: int = 1, max_array: int, max_submit: int | None, max_parallel: int | None = None
) -> tuple[Array, ...]:
    """Return the arrays that run these points, in the order in which they are submitted."""
    tasks = packed(indices, pack)
    size = largest(len(tasks), max_array, max_submit)
    cut = [tasks[at : at + size] for at in range(0, len(tasks), size)]
    throttles = lanes(max_parallel, size, len(cut), pack)
    if throttles is None:
        return tuple(Array(groups=groups) for groups in cut)
    return tuple(
        Array(groups=groups, lane=at % len(throttles), throttle=throttles[at % len(throttles)])
        for at, groups in enumerate(cut)
    )


def lanes(max_parallel: int | None, size: int, arrays: int, pack: int = 1) -> tuple[int, ...] | None:
    """Return the throttle of each lane, in tasks; their sum is what `max_parallel` points at once allow."""
    if max_parallel is None:
        return None
    tasks = max(1, max_parallel // max(1, pack))
    count = max(1, min(-(-tasks // size), arrays))
    return tuple(tasks // count + (1 if lane < tasks % count else 0) for lane in range(count))


def halves(one: Submission) -> tuple[Submission, Submission]:
    """Return the two that take the place of a submission that is too big.

    Their tokens follow from its own: whoever halves it, and however often, makes the same two. The second one of a
    throttled submission begins after the first.
    """
    middle = (len(one.groups) + 1) // 2
    first, second = (token_of(one.token, part) for part in ("0", "1"))
    after = first if one.throttle is not None else one.after
    return (
        replace(one, token=first, groups=one.groups[:middle]),
        replace(one, token=second, groups=one.groups[middle:], after=after),
    )


def token_of(token: str, part: str) -> str:
    return hashlib.sha256(f"{token}/{part}".encode()).hexdigest()[:TOKEN_LENGTH]


def ranges(indices: Sequence[int]) -> str:
    """Return indices as Slurm writes them: 0-3,7."""
    found: list[list[int]] = []
    for index in sorted(set(indices)):
        if found and found[-1][1] == index - 1:
            found[-1][1] = index
        else:
            found.append([index, index])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in found)
