"""What there is to choose from: every version of every package of a suite and its updates, in order of preference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from launcher.errors import ResolveError
from launcher.indexes.apt_packages import Package, PackageIndex
from launcher.lock.debian_version import holds, key
from launcher.resolve.debian.base import EMPTY, Ground
from launcher.resolve.debian.relation import Group, Relation, parse_relations

PRIORITIES = {"required": 0, "important": 1, "standard": 2, "optional": 3, "extra": 4}


@dataclass(frozen=True, eq=False)
class Candidate:
    """One version of one package, with its relations read. `number` counts from 1 in order of discovery."""

    number: int
    package: Package
    depends: tuple[Group, ...] = ()
    excludes: tuple[tuple[str, Relation], ...] = ()  # ("conflicts with" or "breaks", relation)
    provides: tuple[Relation, ...] = ()
    held: bool = False  # it is in the base image, and stays

    @property
    def name(self) -> str:
        return self.package.name

    @property
    def version(self) -> str:
        return self.package.version

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Universe:
    """Packages by name. `kept` are versions that win over newer ones; `pins` are the only ones for their names, and so
    are the packages of `ground`, which are in the set whatever is asked for."""

    def __init__(
        self,
        indexes: Iterable[PackageIndex],
        architecture: str,
        *,
        kept: Mapping[str, Package] | None = None,
        pins: Mapping[str, str] | None = None,
        ground: Ground = EMPTY,
    ) -> None:
        self.indexes = tuple(indexes)
        self.architecture = architecture
        self.kept = dict(kept or {})
        self.pins = dict(pins or {})
        self.ground = ground
        self.preferred: frozenset[str] = frozenset()  # names that win among alternatives
        self.known: dict[tuple[str, str], Candidate] = {}
        self.by_name: dict[str, tuple[Candidate, ...]] = {}
        self.by_provided: dict[str, tuple[Candidate, ...]] = {}
        self.by_relation: dict[Relation, tuple[Candidate, ...]] = {}
        self.by_name.update((p.name, (self.candidate(p, held=True),)) for p in ground.packages.values())
        self.objecting: dict[str, list[tuple[Candidate, str, Relation]]] = {}
        self.giving: dict[str, set[str]] = {}
        for one in self.held():
            for provided in one.provides:
                self.giving.setdefault(provided.name, set()).add(one.name)
            for word, relation in one.excludes:
                self.objecting.setdefault(relation.name, []).append((one, word, relation))

    def versions(self, name: str) -> tuple[Candidate, ...]:
        """Return a package's versions: the kept one, then the newest first. A pin leaves just its own."""
        if name not in self.by_name:
            kept = [self.kept[name]] if name in self.kept else []
            listed = [p for index in self.indexes for p in index.named(name) if self.fits(p)]
            if len(listed) > 1:
                listed.sort(key=lambda p: key(p.version), reverse=True)
            self.by_name[name] = tuple(dict.fromkeys(self.candidate(p) for p in [*kept, *listed] if self.allowed(p)))
        return self.by_name[name]

    def held(self) -> tuple[Candidate, ...]:
        """Return what is in the base image, in order of names."""
        return tuple(self.by_name[name][0] for name in sorted(self.ground.packages))

    def objections(self, candidate: Candidate) -> Iterator[tuple[Candidate, str, Relation]]:
        """Yield the packages of the base that conflict with a candidate, the word for it, and their relation."""
        for name in dict.fromkeys([candidate.name, *(provided.name for provided in candidate.provides)]):
            for holder, word, relation in self.objecting.get(name, ()):
                if holder.name != candidate.name and (meets(candidate, relation) or gives(candidate, relation)):
                    yield holder, word, relation

    def offered(self, name: str) -> list[str]:
        """Return every version that the indexes list, whatever is pinned, the newest first."""
        found = {p.version for index in self.indexes for p in index.named(name) if self.fits(p)}
        return sorted(found, key=key, reverse=True)

    def providers(self, name: str) -> tuple[Candidate, ...]:
        """Return who provides a name: by priority and name, the preferred version first."""
        if name not in self.by_provided:
            names = {p.name for index in self.indexes for p in index.providers(name) if self.fits(p)}
            names |= {p.name for p in self.kept.values() if name in p.provides} | self.giving.get(name, set())
            found = [c for one in sorted(names) for c in self.versions(one) if any(r.name == name for r in c.provides)]
            found.sort(key=lambda c: (PRIORITIES.get(c.package.priority, 3), c.name))
            self.by_provided[name] = tuple(found)
        return self.by_provided[name]

    def essential(self) -> list[str]:
        """Return the names whose preferred version is Essential."""
        names = {p.name for index in self.indexes for p in index.essential() if self.fits(p)}
        return sorted(name for name in names if any(c.package.essential for c in self.versions(name)[:1]))

    def satisfiers(self, relation: Relation) -> tuple[Candidate, ...]:
        """Return what meets a relation: real packages before virtual ones (Policy 7.5)."""
        if relation not in self.by_relation:
            real = [c for c in self.versions(relation.name) if meets(c, relation)]
            virtual = [c for c in self.providers(relation.name) if gives(c, relation)]
            foreign = relation.qualifier not in ("", "any", self.architecture)
            self.by_relation[relation] = () if foreign else tuple(dict.fromkeys((*real, *virtual)))
        return self.by_relation[relation]

    def meeting(self, group: Group) -> tuple[Candidate, ...]:
        """Return what meets a group of alternatives: preferred names first, then as they are written."""
        found = dict.fromkeys(c for relation in group for c in self.satisfiers(relation))
        return tuple(sorted(found, key=lambda c: c.name not in self.preferred)) if self.preferred else tuple(found)

    def fits(self, package: Package) -> bool:
        return package.architecture in (self.architecture, "all")

    def allowed(self, package: Package) -> bool:
        pin = self.pins.get(package.name)
        return pin is None or holds(package.version, "=", pin)

    def candidate(self, package: Package, held: bool = False) -> Candidate:
        """Return the one candidate for a name and version: the same version in two indexes is the same."""
        identity = (package.name, package.version)
        if identity not in self.known:
            made = read(len(self.known) + 1, package, self.architecture)
            self.known[identity] = replace(made, held=held)
        return self.known[identity]


def read(number: int, package: Package, architecture: str) -> Candidate:
    """Read a package's relations. Raises ResolveError when a field is malformed."""

    def groups(text: str) -> tuple[Group, ...]:
        try:
            return parse_relations(text, architecture)
        except ValueError as e:
            raise ResolveError(f"the index's entry of {package.name} {package.version} can't be read: {e}") from e

    depends = (*groups(package.pre_depends), *groups(package.depends))
    breaks = [("breaks", relation) for group in groups(package.breaks) for relation in group]
    conflicts = [("conflicts with", relation) for group in groups(package.conflicts) for relation in group]
    return Candidate(
        number=number,
        package=package,
        depends=tuple(dict.fromkeys(depends)),
        excludes=(*conflicts, *breaks),
        provides=tuple(relation for group in groups(package.provides) for relation in group),
    )


def meets(candidate: Candidate, relation: Relation) -> bool:
    """Tell whether a real package meets a relation to its own name."""
    if candidate.name != relation.name:
        return False
    return not relation.operator or holds(candidate.version, relation.operator, relation.version)


def gives(candidate: Candidate, relation: Relation) -> bool:
    """Tell whether a Provides meets a relation: a versioned one needs a versioned Provides (Policy 7.5)."""
    return any(
        provided.name == relation.name
        and (
            not relation.operator
            or bool(provided.version and holds(provided.version, relation.operator, relation.version))
        )
        for provided in candidate.provides
    )
