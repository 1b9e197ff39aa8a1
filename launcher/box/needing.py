"""Whether a run on a box wants credentials: who is in contact with it brings some then."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from launcher.box.model import Order
from launcher.store.access import read_secrets
from launcher.store.credentials import moment

WAITS = "it waits for credentials of its store: any `launcher status` of it brings them"
Need = Literal["", "soon", "missing"]


def need(order: Order, now: float | None = None) -> Need:
    """Say whether a run wants other credentials than it has: "soon" when less than a third of their life is left."""
    path = order.store.secrets
    if not path or order.ship == "relay":
        return ""
    try:
        ends = read_secrets(path).get("expires_at")
        begun = Path(path).stat().st_mtime
    except (OSError, ValueError):
        return "missing"
    if not ends:
        return ""
    left = moment(ends).timestamp() - (time.time() if now is None else now)
    return "missing" if left <= 0 else "soon" if left < (moment(ends).timestamp() - begun) / 3 else ""
