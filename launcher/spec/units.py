"""Reads amounts as people write them: memory, times, GPUs. What can't be read raises MisreadError, with a hint."""

from __future__ import annotations

import re
from decimal import Decimal

from launcher.spec.model import Gpus

SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?([KMGT])(i|iB)?", re.IGNORECASE)
DECIMAL_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?([KMGT])B", re.IGNORECASE)
POWERS = {"K": 1, "M": 2, "G": 3, "T": 4}

UNITS_TIME = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
SLURM_DAYS = re.compile(r"(\d+)-(\d{1,2})(?::(\d{1,2}))?(?::(\d{1,2}))?")
SLURM_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d{1,2})")

GPUS = re.compile(r"([A-Za-z][A-Za-z0-9._-]*)(?::([0-9]+))?")
GPUS_TURNED = re.compile(r"([0-9]+)\s?[:xX*]\s?([A-Za-z][A-Za-z0-9._-]*)")


class MisreadError(ValueError):
    """An amount that can't be read; `hint` says how to write it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def size_bytes(text: str) -> int:
    """Read a size; return bytes. `16G`, `16Gi` and `16GiB` are all 16 x 2^30, as in Slurm (--mem) and Docker (-m)."""
    if found := SIZE.fullmatch(text):
        size = int(Decimal(found[1]) * 1024 ** POWERS[found[2].upper()])
        if size <= 0:
            raise MisreadError("is no size above zero", "write a size such as 16G")
        return size
    if found := DECIMAL_SIZE.fullmatch(text):
        raise MisreadError(
            "may mean powers of 1000 or of 1024",
            f"write {found[1]}{found[2].upper()} or {found[1]}{found[2].upper()}iB, which are powers of 1024",
        )
    if re.fullmatch(r"[0-9.]+", text):
        raise MisreadError("is a size without a unit", f"write {text}M or {text}G (powers of 1024)")
    raise MisreadError("is no size", "write a number with K, M, G or T, such as 512M or 16G (powers of 1024)")


def time_seconds(text: str) -> int:
    """Read a time; return seconds. `2h30m`, `90m`, and Slurm's forms with a colon or dash (sbatch(1), --time)."""
    seconds = clock_seconds(text)
    if seconds is None:
        raise bad_time(text)
    if seconds == 0:
        raise MisreadError("is no time above zero", "leave `time` out to have no limit of your own")
    return seconds


def clock_seconds(text: str) -> int | None:
    """Return the seconds that a time means, or None when it is in no known form."""
    if text and (found := UNITS_TIME.fullmatch(text)):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if found := SLURM_DAYS.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return None if hours > 23 else checked(days * 24 + hours, minutes, seconds)
    if found := SLURM_CLOCK.fullmatch(text):
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        if found[1] is None:  # sbatch(1): "minutes:seconds" may have any number of minutes
            return None if seconds > 59 else minutes * 60 + seconds
        return checked(hours, minutes, seconds)
    return None


def checked(hours: int, minutes: int, seconds: int) -> int | None:
    """Return seconds, or None when a part is out of its range."""
    return None if minutes > 59 or seconds > 59 else (hours * 60 + minutes) * 60 + seconds


def bad_time(text: str) -> MisreadError:
    if text.isdigit():
        return MisreadError(
            "is a time without a unit (Slurm reads minutes, others seconds)", f"write {text}m, {text}h or {text}s"
        )
    return MisreadError(
        "is no time", "write 2h30m, 90m, or Slurm's forms such as 1-12:00:00 (days-hours:minutes:seconds)"
    )


def gpus(text: str) -> Gpus:
    """Read `H100` (one of that model) or `H100:8` (eight of it)."""
    if found := GPUS.fullmatch(text):
        count = 1 if found[2] is None else int(found[2])
        if count == 0:
            raise MisreadError("asks for no GPU", "write `gpus: 0`, or leave the key out")
        return Gpus(count=count, model=found[1])
    if found := GPUS_TURNED.fullmatch(text):
        raise MisreadError("has model and number turned round", f"write {found[2]}:{found[1]}")
    raise MisreadError(
        "is no number or model of GPUs", "write a number such as 2, a model such as H100, or both as H100:8"
    )
