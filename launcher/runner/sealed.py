"""Small objects that much hangs on, with their own digest inside: a flipped bit in one is found, never believed."""

from __future__ import annotations

import json

from launcher.digest import sha256_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from launcher.store.objects import Store

SEAL = "seal"  # sha256 of the rest: see `digest`
TRIES = 3  # bytes may also be damaged on their way


def sealed(told: Mapping[str, Any]) -> bytes:
    """Return an object as JSON, with its seal."""
    return json.dumps({**told, SEAL: digest(told)}).encode()


def digest(told: Mapping[str, Any]) -> str:
    """Return the sha256 of JSON with sorted keys, no spaces, and all but ASCII escaped: names may be no UTF-8."""
    return sha256_bytes(json.dumps(told, sort_keys=True, separators=(",", ":")).encode())


def unsealed(data: bytes) -> dict[str, Any]:
    """Read such an object back; one from before there were seals has none. Raises ValueError when it is damaged."""
    told = json.loads(data)
    if not isinstance(told, dict):
        raise ValueError("it is no JSON object")
    seal = told.pop(SEAL, None)
    if seal is not None and digest(told) != seal:
        raise ValueError("it is not what was written: its seal is broken")
    return told


def read(store: Store, key: str) -> dict[str, Any]:
    """Read such an object from a store. Raises IntegrityError when it is damaged there, and what `get` raises."""
    from launcher.errors import IntegrityError

    for left in reversed(range(TRIES)):
        data = store.get(key)
        try:
            return unsealed(data)
        except ValueError as e:
            if not left:
                raise IntegrityError(
                    f"{store.url}: {key} is damaged: {e}", hint="bring it back from the bucket's versions or a copy"
                ) from e
    raise AssertionError("the last try returns or raises")
