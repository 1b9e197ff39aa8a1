"""What happened: every run's record, folded from the run's own events in the store."""

from launcher.records.model import Attempt, Record
from launcher.records.reading import ambiguous, find, fold, load, ls, next_attempt
from launcher.records.writing import end_for_dead, never_began, parted, submit, withdraw

__all__ = [
    "Attempt",
    "Record",
    "ambiguous",
    "end_for_dead",
    "find",
    "fold",
    "load",
    "ls",
    "never_began",
    "next_attempt",
    "parted",
    "submit",
    "withdraw",
]
