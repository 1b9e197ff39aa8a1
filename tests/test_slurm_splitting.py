"""How points become arrays: packing, the site's limits, throttles over all arrays."""

from __future__ import annotations

import random

import pytest

from launcher.slurm.model import Submission
from launcher.slurm.queue import indices
from launcher.slurm.splitting import halves, lanes, largest, packed, ranges, split


def one(**more: object) -> Submission:
    told = {"number": 1, "token": "aa", "target": "t", "site": "s", "groups": ((0,), (1,), (2,))}
    return Submission(**{**told, **more})  # type: ignore[arg-type]


def test_points_are_packed_in_their_order() -> None:
    assert packed([3, 1, 4, 1, 5], 2) == ((3, 1), (4, 1), (5,))
    assert packed([], 4) == ()


@pytest.mark.parametrize(
    ("tasks", "max_array", "max_submit", "size"),
    [
        (500, 51, 100, 25),  # a quarter of what the queue takes: it stays three quarters full
        (500, 51, 1000, 51),
        (500, 1001, None, 1001),
        (80, 1001, 100, 100),  # all of it fits at once
        (500, 1001, 3, 1),
        (5, 0, None, 1),
    ],
)
def test_the_size_of_an_array_follows_from_the_sites_limits(
    tasks: int, max_array: int, max_submit: int | None, size: int
) -> None:
    assert largest(tasks, max_array, max_submit) == size


def test_every_point_is_in_exactly_one_task_and_no_limit_is_passed() -> None:
    chance = random.Random(5)
    for _ in range(500):
        points, pack, max_array = chance.randint(1, 300), chance.randint(1, 5), chance.randint(1, 60)
        parallel, limit = chance.choice([None, chance.randint(1, 40)]), chance.choice([None, chance.randint(1, 100)])
        found = split(range(points), pack=pack, max_array=max_array, max_submit=limit, max_parallel=parallel)
        assert [p for array in found for group in array.groups for p in group] == list(range(points))
        assert all(len(array.groups) <= max_array for array in found)
        assert limit is None or all(len(array.groups) <= limit for array in found)
        if parallel is not None:
            throttles = {array.lane: array.throttle for array in found}
            assert all(throttle and throttle >= 1 for throttle in throttles.values())
            assert sum(throttle or 0 for throttle in throttles.values()) * pack <= max(parallel, pack)


@pytest.mark.parametrize(
    ("max_parallel", "size", "arrays", "expected"),
    [
        (None, 10, 3, None),
        (4, 51, 10, (4,)),
        (100, 51, 10, (50, 50)),
        (7, 3, 9, (3, 2, 2)),
        (1, 1, 9, (1,)),
        (9, 2, 2, (5, 4)),
    ],
)
def test_lanes_use_all_that_may_run_at_once(
    max_parallel: int | None, size: int, arrays: int, expected: tuple[int, ...] | None
) -> None:
    assert lanes(max_parallel, size, arrays) == expected


def test_whoever_halves_makes_the_same_two() -> None:
    first, second = halves(one())
    assert (first.groups, second.groups) == (((0,), (1,)), ((2,),))
    assert (first, second) == halves(one())
    assert len({first.token, second.token, "aa"}) == 3
    assert second.after is None


def test_the_second_half_of_what_is_throttled_begins_after_the_first() -> None:
    first, second = halves(one(throttle=2, lane=0, after="zz"))
    assert (first.after, second.after) == ("zz", first.token)


def test_indices_are_written_as_slurm_reads_them() -> None:
    assert ranges([7, 0, 1, 2, 2, 9]) == "0-2,7,9"
    chance = random.Random(6)
    for _ in range(200):
        some = sorted(set(chance.choices(range(50), k=chance.randint(1, 30))))
        assert list(indices(f"[{ranges(some)}%3]")) == some
