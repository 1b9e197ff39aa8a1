"""The one tree of errors. A message says what, which value and where; a hint says what to do next.

    LauncherError               1   something is not as it should be
      UsageError                2   the words of the command are off
      SpecError                65   the spec, or a file that it names, can't be used
      LockError                65   the lock can't be used, or no longer fits the spec
      ResolveError             65   the requirements can't be met, or must not be
      ImageError               65   an artifact can't be made part of an image
      IntegrityError           76   bytes that are not what their digest says
      FetchError               69   an artifact is nowhere to be had
      TargetError              69   a target can't run this, or can't be reached
      StoreError               74   the store refused or lost something
        AccessError            77   the store's credentials or rights don't allow it
        UnreachableError       75   the store doesn't answer, or asks for patience: trying again may help
        ObjectExistsError           a conditional create found that somebody was there before
        ObjectMissingError          there is nothing under that key
      ProcessError             71   a program that was called ended badly
      DiskFullError            73   no space left where something had to be written

The numbers are exit codes of the command line, after sysexits.h(3) where it has a word for the case.
70 (EX_SOFTWARE) is a bug in launcher itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Where:
    """A place in a file that a person wrote. Lines and columns count from 1; `key` is a path such as `image.pip[2]`."""

    file: str
    line: int | None = None
    column: int | None = None
    key: str | None = None

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place += f":{self.line}"
            if self.column is not None:
                place += f":{self.column}"
        return place


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong: what, where, and what to do."""

    message: str
    where: Where | None = None
    hint: str | None = None

    def __str__(self) -> str:
        head = f"{self.where}: " if self.where else ""
        key = f"{self.where.key}: " if self.where and self.where.key else ""
        tail = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{head}{key}{self.message}{tail}"


class LauncherError(Exception):
    """Root of the tree. `problems` holds every mistake that was found, never just the first one."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, where: Where | None = None) -> None:
        self.problems: tuple[Problem, ...] = (Problem(message=message, hint=hint, where=where),)
        super().__init__(str(self))

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> LauncherError:
        """Make one error of many problems. Raises ValueError when there are none."""
        found = tuple(problems)
        if not found:
            raise ValueError("an error needs at least one problem")
        error = cls(found[0].message, hint=found[0].hint, where=found[0].where)
        error.problems = found
        error.args = (str(error),)
        return error

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class UsageError(LauncherError):
    exit_code = 2


class SpecError(LauncherError):
    exit_code = 65


class LockError(LauncherError):
    exit_code = 65


class ResolveError(LauncherError):
    exit_code = 65


class ImageError(LauncherError):
    exit_code = 65


class IntegrityError(LauncherError):
    exit_code = 76


class FetchError(LauncherError):
    exit_code = 69


class TargetError(LauncherError):
    exit_code = 69


class StoreError(LauncherError):
    exit_code = 74


class AccessError(StoreError):
    exit_code = 77


class UnreachableError(StoreError):
    exit_code = 75


class ObjectExistsError(StoreError):
    pass


class ObjectMissingError(StoreError):
    pass


class ProcessError(LauncherError):
    exit_code = 71


class DiskFullError(LauncherError):
    exit_code = 73
