"""Claims and manifests carry their own digest: whatever bit of them is flipped, nobody believes what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher import store as stores
from launcher.errors import IntegrityError
from launcher.runner import claims
from launcher.runner.attempt import Attempt
from launcher.runner.sealed import read, sealed, unsealed
from launcher.store import keys

TOLD: dict[str, Any] = {
    "path": "caf\udce9/ü",
    "size": 3,
    "lease_s": 60.0,
    "none": None,
    "files": [{"sha256": "a" * 64}],
}


def test_what_was_sealed_is_read_back() -> None:
    assert unsealed(sealed(TOLD)) == TOLD
    assert unsealed(json.dumps(TOLD).encode()) == TOLD, "those from before there were seals have none"


def test_no_flipped_bit_is_believed() -> None:
    data = sealed({"attempt": 1, "inherits": ["runs/r/checkpoints/0001-00000000/manifest.json"], "host": "node7"})
    for place in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        try:
            told = unsealed(bytes(flipped))
        except ValueError:
            continue
        assert told == unsealed(data) or "seal" not in json.loads(bytes(flipped)), flipped
        assert {"attempt", "inherits", "host"} <= set(told)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"1", b"\xff"])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        unsealed(data)


def test_a_damaged_claim_is_told_and_not_believed(tmp_path: Path) -> None:
    store = stores.open(str(tmp_path / "store"))
    told = {"version": 1, "job": {"run": "r", "argv": ["x"]}, "attempt": 1, "store": "memory://"}
    claims.take(store, Attempt(told, "/nowhere"), True)
    key = keys.claim("r", 1)
    store.put(key, store.get(key).replace(b'"attempt": 1', b'"attempt": 9'))
    with pytest.raises(IntegrityError, match=r"00000001\.json is damaged") as told_so:
        claims.counting(store, "r")
    assert told_so.value.problems[0].hint is not None


class Noisy:
    """A store whose first answers are damaged on their way."""

    url = "memory://"

    def __init__(self, times: int) -> None:
        self.times = times

    def get(self, key: str) -> bytes:
        self.times -= 1
        return sealed(TOLD) if self.times < 0 else sealed(TOLD).replace(b"3", b"4", 1)


def test_bytes_that_were_damaged_on_their_way_are_asked_for_again() -> None:
    store: Any = Noisy(2)
    assert read(store, "key") == TOLD
    store = Noisy(3)
    with pytest.raises(IntegrityError):
        read(store, "key")
