"""How a node reaches the store of an order, and for how long what runs there waits for it."""

from __future__ import annotations

from typing import Protocol

from launcher import access as accesses
from launcher import store as stores
from launcher.store.access import Access
from launcher.store.objects import Store

RESTORE_S, FLUSH_S = 600.0, 600.0  # how long the runner waits for a store, before and after its command
LEAST_GRACE_S = 10.0


class Told(Protocol):
    """An order of any kind: it says where the store is."""

    @property
    def store(self) -> Access: ...


def open_store(order: Told) -> Store:
    """Open the store as the order says; one whose credentials were not delivered by those of this node."""
    return stores.open(order.store, None if order.store.secrets else accesses.provider(order.store))


def times(warn_s: float) -> dict[str, float]:
    """Return the runner's times: what is left when the warning comes is shared by the command and the storing."""
    grace_s = max(LEAST_GRACE_S, warn_s / 2)
    return {"restore_s": RESTORE_S, "flush_s": FLUSH_S, "grace_s": grace_s, "stop_flush_s": grace_s}
