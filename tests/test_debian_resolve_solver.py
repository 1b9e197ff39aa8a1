"""The order of versions against dpkg's, relations, and the search against trying everything."""

from __future__ import annotations

import itertools
import random
import shutil
import subprocess

import pytest

from launcher.indexes.apt_packages import Package
from launcher.lock.debian_version import holds, key
from launcher.resolve.debian.clauses import Root, UnsolvableError
from launcher.resolve.debian.relation import Relation, parse_relations
from launcher.resolve.debian.solve import solve
from launcher.resolve.debian.universe import Candidate, Universe

ORDERED = (
    "0~", "0", "0+", "1~~", "1~~a", "1~", "1", "1-0.1", "1-1~bpo1", "1-1", "1-1+b1", "1-1+deb12u9", "1-1+deb12u10",
    "1a", "1+", "1.0", "1.2", "1.10", "1:0~1", "1:0", "2:0",
)  # fmt: skip


def test_versions_are_in_policys_order() -> None:
    assert sorted(random.Random(1).sample(ORDERED, len(ORDERED)), key=key) == list(ORDERED)


@pytest.mark.parametrize(("left", "right"), [("1", "1-0"), ("1.0", "1.00"), ("0:1", "1"), ("1.", "1.0"), ("1-", "1-0")])
def test_versions_that_are_the_same(left: str, right: str) -> None:
    assert holds(left, "=", right)
    assert holds(left, "<=", right)
    assert not holds(left, "<<", right)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is the judge")
def test_versions_compare_as_dpkg_says() -> None:
    pick = random.Random(7)
    pairs = [(random_version(pick), random_version(pick)) for _ in range(150)]
    for left, right in pairs:
        for operator, word in (("<<", "lt"), ("=", "eq"), (">>", "gt")):
            said = subprocess.run(["dpkg", "--compare-versions", left, word, right], check=False).returncode == 0
            assert holds(left, operator, right) is said, (left, operator, right)


def random_version(pick: random.Random) -> str:
    epoch = pick.choice(["", "", "0:", "1:"])
    return (
        epoch
        + str(pick.randint(0, 12))
        + "".join(pick.choices("0019aZ~+.", k=pick.randint(0, 6)))
        + pick.choice(["", "-1", "-0", "-1~b"])
    )


def test_relations_are_read() -> None:
    text = "a (>= 1:2.0~) | b:any [amd64 arm64] , c (<< 3)[!amd64], d <!nocheck>, libc6:amd64(=1)"
    groups = parse_relations(text, "amd64")
    assert [" | ".join(map(str, group)) for group in groups] == ["a (>= 1:2.0~) | b:any", "d", "libc6:amd64 (= 1)"]


@pytest.mark.parametrize("text", ["a (1)", "a (>= 1", "-a", "a b", "a || b", "(>= 1)"])
def test_what_is_no_relation(text: str) -> None:
    with pytest.raises(ValueError, match="is not a package relation"):
        parse_relations(text, "amd64")


class Shelf:
    """An index of packages that are at hand."""

    def __init__(self, packages: list[Package]) -> None:
        self.packages = packages

    def named(self, name: str) -> list[Package]:
        return [p for p in self.packages if p.name == name]

    def providers(self, name: str) -> list[Package]:
        return [p for p in self.packages if name in p.provides.replace(",", " ").split()]


def random_packages(pick: random.Random) -> list[Package]:
    names = [f"n{i}" for i in range(pick.randint(3, 6))]

    def relations(most: int) -> str:
        def one() -> str:
            version = pick.choice(["", "", " (>= 2)", " (= 1)", " (<< 2)"])
            return pick.choice([*names, "virtual"]) + version

        return ", ".join(" | ".join(one() for _ in range(pick.randint(1, 2))) for _ in range(pick.randint(0, most)))

    def single() -> str:
        return pick.choice(names) + pick.choice(["", " (= 2)", " (<< 2)"]) if pick.random() < 0.35 else ""

    return [
        Package(
            name, version, "amd64", 0, "optional", "", "", relations(2), pick.choice(["", "", "virtual"]),
            single(), single(), "pool/x.deb", 1, "0" * 64,
        )
        for name in names
        for version in pick.choice([["1"], ["1", "2"], ["2"]])
    ]  # fmt: skip


def is_consistent(world: Universe, chosen: tuple[Candidate, ...], roots: list[Root]) -> bool:
    inside = set(chosen)
    groups = [root.group for root in roots] + [group for c in chosen for group in c.depends]
    excluded = {o for c in chosen for _, r in c.excludes for o in world.satisfiers(r) if o.name != c.name}
    one_each = len({c.name for c in chosen}) == len(chosen)
    return one_each and not excluded & inside and all(inside & set(world.meeting(group)) for group in groups)


@pytest.mark.parametrize("seed", range(200))
def test_the_search_finds_what_trying_everything_finds(seed: int) -> None:
    pick = random.Random(seed)
    packages = random_packages(pick)
    world = Universe([Shelf(packages)], "amd64")  # type: ignore[list-item]
    names = sorted({p.name for p in packages})
    roots = [Root((Relation(name=name),), asked=True) for name in pick.sample(names, 2)]
    options = itertools.product(*[(None, *world.versions(name)) for name in names])
    possible = any(is_consistent(world, tuple(c for c in one if c), roots) for one in options)
    try:
        found = solve(world, roots)
    except UnsolvableError as e:
        assert not possible
        assert any(clause.root for clause in e.core)
    else:
        assert possible
        assert is_consistent(world, found, roots)
