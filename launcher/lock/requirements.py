"""What a spec asks for in Python, in one canonical form, wherever it was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.credentials import redact
from launcher.errors import Problem, SpecError, Where
from launcher.spec.encoding import decode

if TYPE_CHECKING:
    from packaging.requirements import Requirement

BY_VERSION = "require it by name and version, from an index or find-links folder that pip is configured for"
NO_CODE = "code is not part of the image: leave it to `code`, or build a wheel and require it by name"


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """What a requirements file says about places. It is used and never written down."""

    index_url: str | None = field(default=None, repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    trusted_hosts: tuple[str, ...] = ()
    no_index: bool = False


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Everything that a spec says about Python packages. Lines are canonical, sorted and unique.

    `hashes` holds, by normalised name, the sha256 that a requirements file allows; `requires_python` is that of a
    pyproject.toml.
    """

    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    options: IndexOptions = field(default_factory=IndexOptions)
    hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    requires_python: str | None = None


class Collection:
    """Collects lines and mistakes while files are read."""

    def __init__(self) -> None:
        self.requirements: set[str] = set()
        self.constraints: set[str] = set()
        self.problems: list[Problem] = []
        self.hashes: dict[str, frozenset[str]] = {}
        self.index_url: str | None = None
        self.extra: list[str] = []
        self.find_links: list[str] = []
        self.trusted: list[str] = []
        self.no_index = False
        self.requires_python: str | None = None

    def fail(self, where: Where, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(message=message, where=where, hint=hint))

    def add(self, text: str, where: Where, *, constraint: bool = False) -> Requirement | None:
        """Take one requirement, or note what is wrong with it."""
        requirement = self.parse(text, where)
        if requirement and constraint and requirement.extras:
            self.fail(where, f"`{text}` is a constraint, and a constraint can't have extras", "leave the [...] out")
        elif requirement:
            (self.constraints if constraint else self.requirements).add(canonical(requirement))
        return requirement

    def parse(self, text: str, where: Where) -> Requirement | None:
        from packaging.requirements import InvalidRequirement, Requirement

        if hint := not_by_name(text):
            self.fail(where, f"`{redact(text)}` can't be pinned: a lock names no URL and no path", hint)
            return None
        try:
            requirement = Requirement(text)
        except InvalidRequirement as e:
            reason = str(e).split("\n")[0]
            self.fail(where, f"`{text}` is not a requirement (PEP 508): {reason}", "write it like numpy>=2,<3")
            return None
        if requirement.url:
            words = f"`{requirement.name}` is required by a URL, and a lock names none"
            self.fail(where, words, by_version(requirement))
            return None
        return requirement

    def asked(self) -> Asked:
        """Return what was collected. Raises SpecError with every mistake."""
        if self.problems:
            raise SpecError.of(self.problems)
        return Asked(
            requirements=tuple(sorted(self.requirements)),
            constraints=tuple(sorted(self.constraints)),
            options=IndexOptions(
                index_url=self.index_url,
                extra_index_urls=tuple(dict.fromkeys(self.extra)),
                find_links=tuple(dict.fromkeys(self.find_links)),
                trusted_hosts=tuple(dict.fromkeys(self.trusted)),
                no_index=self.no_index,
            ),
            hashes=dict(self.hashes),
            requires_python=self.requires_python,
        )


def canonical(requirement: Requirement) -> str:
    """Write a requirement in one form: normalised name, sorted extras and versions, `packaging`'s marker."""
    from packaging.utils import canonicalize_name

    extras = f"[{','.join(sorted(canonicalize_name(extra) for extra in requirement.extras))}]" * bool(
        requirement.extras
    )
    versions = ",".join(sorted(map(str, requirement.specifier)))
    marker = f" ; {requirement.marker}" if requirement.marker else ""
    return f"{canonicalize_name(requirement.name)}{extras}{versions}{marker}"


def by_version(requirement: Requirement) -> str:
    """Say what to write instead of a URL: the version, where a wheel's name tells it, as in conda's `pip freeze`."""
    from urllib.parse import unquote, urlsplit

    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        version = parse_wheel_filename(unquote(urlsplit(requirement.url or "").path).rpartition("/")[2])[1]
    except (InvalidWheelFilename, ValueError):
        return BY_VERSION
    return f"write {requirement.name}=={version.public}, if an index has it"


def not_by_name(text: str) -> str | None:
    """Return what to do instead when a requirement is a path or an address."""
    head = text.split(" ", maxsplit=1)[0]
    if head.startswith((".", "/", "~", "file:")) or head.endswith((".whl", ".tar.gz", ".zip")):
        return NO_CODE if head.startswith(".") and not head.endswith(".whl") else BY_VERSION
    return BY_VERSION if "://" in head.partition("@")[0] else None


def display(path: Path) -> str:
    """Name a file in messages: below the current folder without the way to it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def read_text(path: Path, collection: Collection, where: Where | None = None) -> str | None:
    """Read a requirements file, or note why that can't be."""
    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        collection.fail(where or Where(file=display(path)), f"there is no file {display(path)}")
    except UnicodeDecodeError as e:
        place = where or Where(file=display(path))
        collection.fail(place, f"can't read {display(path)}: byte {e.start + 1} is not UTF-8", "save it as UTF-8")
    except OSError as e:
        collection.fail(where or Where(file=display(path)), f"can't read {display(path)}: {e.strerror}")
    return None
