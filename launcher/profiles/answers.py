"""Read what `scontrol`, `sacctmgr` and the shell answered: text of Slurm 20.11 to 25.05 to plain values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from launcher.profiles.asking import MARK

BLOCK = re.compile(
    rf"^{MARK} begin (?P<name>\S+)\n(?P<text>.*?)\n?^{MARK} end (?P=name) (?P<code>\d+)$", re.MULTILINE | re.DOTALL
)
PARTITION = re.compile(rf"^{MARK} partition (.*)$", re.MULTILINE)
FIELD = re.compile(r"(?:^|\s)([A-Z][A-Za-z_:/]*)=")
DURATION = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?(?:\.\d+)?")
NOTHING = ("", "NONE", "UNLIMITED", "N/A", "(null)", "INFINITE", "INVALID", "Partition_Limit")
POWERS = {"K": 1 / 1024, "M": 1, "": 1, "G": 1024, "T": 1024**2, "P": 1024**3}
LATE = (124, 137)  # of timeout(1)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a question brought: its text and the exit code of who answered."""

    text: str = ""
    code: int = 127

    @property
    def good(self) -> bool:
        return self.code == 0

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.strip()]

    @property
    def reason(self) -> str:
        """Return why there is no answer: the last words of who was asked."""
        if self.code in LATE:
            return "no answer in time"
        return self.lines[-1].strip() if self.lines else f"exit code {self.code}"


NO_ANSWER = Answer()
Answers = Mapping[str, Answer]


def answers(text: str) -> dict[str, Answer]:
    """Return the answers by the names of their questions; what stands between them is passed over."""
    found: dict[str, Answer] = {}
    for block in BLOCK.finditer(text):
        said, before = block["text"].strip("\n"), found.get(block["name"])
        found[block["name"]] = Answer(text=f"{before.text}\n{said}" if before else said, code=int(block["code"]))
    return found


def by_partition(text: str) -> dict[str, dict[str, Answer]]:
    """Return the answers of each partition's probe; those of the login node are under the empty name."""
    parts = PARTITION.split(text)
    found: dict[str, dict[str, Answer]] = {"": answers(parts[0])}
    for name, said in zip(parts[1::2], parts[2::2], strict=True):
        found.setdefault(name, {}).update(answers(said))
    return found


def settings(answer: Answer) -> dict[str, str]:
    """Read `scontrol show config`: `Name = value`, a line each."""
    pairs = (line.partition("=") for line in answer.lines if " = " in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def records(answer: Answer) -> Iterator[dict[str, str]]:
    """Read `scontrol -o show ...`: a line for each thing, `Name=value`, and values may have spaces.

    A Reason comes last, and is whatever a person wrote.
    """
    for line in answer.lines:
        fields, reason, _ = line.partition(" Reason=")
        found = [*FIELD.finditer(fields), *FIELD.finditer(line, len(fields), len(fields) + len(reason))]
        ends = [*(one.start() for one in found[1:]), len(line)]
        values = {one[1]: line[one.end() : end].strip() for one, end in zip(found, ends, strict=True)}
        if values:
            yield values


def rows(answer: Answer, names: str) -> list[dict[str, str]]:
    """Read what `sacctmgr -nP` prints: values with | between them, in the order that was asked for."""
    keys = names.split(",")
    split = (line.split("|") for line in answer.lines) if answer.good else ()
    return [dict(zip(keys, values, strict=True)) for values in split if len(values) == len(keys)]


def tables(answer: Answer) -> list[list[str]]:
    return [line.split("\t") for line in answer.lines]


def known(value: str | None) -> str | None:
    """Return a value, or None for Slurm's many words for nothing."""
    return None if value is None or value in NOTHING else value


def names(value: str | None) -> tuple[str, ...]:
    """Read a list with commas; ALL and nothing are empty."""
    said = known(value)
    return tuple(said.split(",")) if said and said != "ALL" else ()


def number(value: str | None) -> int | None:
    found = re.match(r"\d+", value or "")
    return int(found[0]) if found else None


def megabytes(value: str | None) -> int | None:
    """Read an amount of memory; without a unit it is in MiB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGTP]?)", value or "")
    return int(float(found[1]) * POWERS[found[2]]) if found else None


def seconds(value: str | None) -> int | None:
    """Read a time as Slurm prints it: D-HH:MM:SS, HH:MM:SS, MM:SS; None when there is no limit."""
    found = DURATION.fullmatch(value or "")
    if not found:
        return None
    days, first, second, third = found.groups()
    parts = [int(part) for part in (first, second, third) if part is not None]
    if days is not None:  # D-HH, D-HH:MM, D-HH:MM:SS
        parts += [0] * (3 - len(parts))
    elif len(parts) == 1:  # minutes
        parts = [0, parts[0], 0]
    elif len(parts) == 2:
        parts = [0, *parts]
    return int(days or 0) * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2]


def tres(value: str | None) -> dict[str, str]:
    """Read trackable resources: `cpu=8,gres/gpu=2,mem=4G`."""
    pairs = (one.partition("=") for one in (value or "").split(","))
    return {name: amount for name, _, amount in pairs if amount}


def least(values: Iterable[int | None]) -> int | None:
    """Return the smallest of the limits that there are."""
    return min((value for value in values if value is not None), default=None)
