"""The two notations of apt's sources: one-line `.list` and deb822 `.sources` (sources.list(5), apt 2.6)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launcher.errors import FetchError, Problem, Where

OPTIONS = re.compile(r"\[([^\]]*)\]")
NO = {"no", "false", "without", "off", "disable", "0"}
YES = {"yes", "true", "with", "on", "enable", "1"}
ONE_LINE_SHAPE = "deb [option=value] URI suite component..."


@dataclass(frozen=True, kw_only=True)
class SourceEntry:
    """One URI of one entry. `signed_by` is paths, fingerprints or a whole armoured key; "" when it is not said."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    architectures: tuple[str, ...]
    signed_by: str
    check_valid_until: bool | None
    where: Where

    @property
    def root(self) -> str:
        return self.uri.rstrip("/")


def parse_sources(text: str, file: str) -> tuple[SourceEntry, ...]:
    """Read a sources file of either notation. Raises FetchError with every line that can't be understood."""
    problems: list[Problem] = []
    read = deb822_entries if is_deb822(text, file) else one_line_entries
    entries = tuple(read(text, file, problems))
    if problems:
        raise FetchError.of(problems)
    return entries


def is_deb822(text: str, file: str) -> bool:
    """Tell the notations apart: by the suffix, else by the first line that says something."""
    if file.endswith((".sources", ".list")):
        return file.endswith(".sources")
    said = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return re.match(r"[A-Za-z-]+:", next(said, "")) is not None


def truth(word: str | None) -> bool | None:
    """Read apt's notion of a boolean; None when it is none."""
    value = (word or "").strip().lower()
    return True if value in YES else False if value in NO else None


def one_line_entries(text: str, file: str, problems: list[Problem]) -> Iterator[SourceEntry]:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].strip()
        if not words or words.split()[0] == "deb-src":
            continue
        where = Where(file=file, line=number)
        options, rest = split_options(words)
        if rest[:1] != ["deb"] or len(rest) < 3:
            problems.append(Problem(message="this is not an apt source", where=where, hint=f"write {ONE_LINE_SHAPE}"))
            continue
        yield entry(rest[1], (rest[2],), tuple(rest[3:]), options, where)


def split_options(line: str) -> tuple[dict[str, str], list[str]]:
    """Take `[arch=amd64 signed-by=...]` out of a line; return it as a mapping, and the words around it."""
    found = OPTIONS.search(line)
    if not found:
        return {}, line.split()
    pairs = (word.partition("=") for word in found[1].split())
    options = {name.rstrip("+-").lower(): value.replace(",", " ") for name, _, value in pairs}
    return options, (line[: found.start()] + " " + line[found.end() :]).split()


def deb822_entries(text: str, file: str, problems: list[Problem]) -> Iterator[SourceEntry]:
    for line, fields in stanzas(text):
        where = Where(file=file, line=line)
        if "deb" not in fields.get("types", "").split() or truth(fields.get("enabled")) is False:
            continue
        missing = [name for name in ("URIs", "Suites") if not fields.get(name.lower(), "").strip()]
        if missing:
            problems.append(Problem(message=f"this apt source has no {' and no '.join(missing)}", where=where))
            continue
        suites, components = fields["suites"].split(), fields.get("components", "").split()
        for uri in fields["uris"].split():
            yield entry(uri, tuple(suites), tuple(components), fields, where)


def stanzas(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number of its beginning, fields by lower-case name) of each deb822 stanza (deb822(5))."""
    fields: dict[str, str] = {}
    start, name = 0, ""
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield start, fields
            fields, name = {}, ""
        elif line[0] in " \t":
            fields[name] = fields.get(name, "") + "\n" + line.strip()
        else:
            start = start if fields else number
            key, _, value = line.partition(":")
            name = key.strip().lower()
            fields[name] = value.strip()


def entry(
    uri: str, suites: tuple[str, ...], components: tuple[str, ...], options: Mapping[str, str], where: Where
) -> SourceEntry:
    return SourceEntry(
        uri=uri,
        suites=suites,
        components=components,
        architectures=tuple(options.get("architectures", options.get("arch", "")).split()),
        signed_by=options.get("signed-by", "").strip(),
        check_valid_until=truth(options.get("check-valid-until")),
        where=where,
    )
