"""A finding: what a check saw of one thing, whether it will do, and what to do when it won't."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "unknown", "refused"]
"""`unknown` is what can't be told here: it is never taken for `ok` or for `refused`."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`subject` is a word such as "driver"; `says` is a sentence with the values that were compared."""

    subject: str
    verdict: Verdict
    says: str
    hint: str | None = None
