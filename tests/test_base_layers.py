"""Blobs of a base out of their compression: every form that registries hold, and damage."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard

from launcher.cache import Cache
from launcher.digest import sha256_bytes
from launcher.errors import ImageError, IntegrityError
from launcher.image.base.layers import base_layers, unpack_blob
from launcher.lock.model import Artifact, Base, Blob
from tests.bases import layer, packed

DATA = layer({"a": bytes(3_000_000), "b": b"x"})
HALVES = (DATA[:1_000_000], DATA[1_000_000:])
FORMS = {
    "gzip": packed(DATA, "gzip"),
    "zstd": packed(DATA, "zstd"),
    "plain": DATA,
    "two gzip members": b"".join(gzip.compress(half) for half in HALVES),
    "two zstd frames": b"".join(zstandard.ZstdCompressor().compress(half) for half in HALVES),
    "a skippable frame first": b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd" + packed(DATA, "zstd"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_compression_gives_the_same_layer(form: str, cache: Cache, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(FORMS[form])
    found = unpack_blob(blob, sha256_bytes(FORMS[form]), cache)
    assert (found.diff_id, found.size) == (sha256_bytes(DATA), len(DATA))
    assert cache.path("blobs", found.diff_id).read_bytes() == DATA


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_a_blob_that_ends_too_early_is_refused(form: str, cache: Cache, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(FORMS[form][:-20])
    with pytest.raises((ImageError, IntegrityError)):
        pinned(blob, cache)
    assert not list((cache.root / "blobs").rglob("*")) or cache.find("blobs", sha256_bytes(DATA)) is None


def pinned(blob: Path, cache: Cache) -> object:
    """Use a blob as a lock names it."""
    sha256 = sha256_bytes(blob.read_bytes())
    pin = Blob(
        name="n",
        version="1",
        filename="layer-1",
        size=blob.stat().st_size,
        sha256=sha256,
        media_type="t",
        diff_id=sha256_bytes(DATA),
        unpacked=len(DATA),
    )
    config = Artifact(name="n", version="1", filename="config", size=1, sha256="0" * 64)
    base = Base(kind="registry", manifest="0" * 64, system="debian", config=config, layers=(pin,))
    return base_layers(base, {sha256: blob}, cache)


def test_a_layer_that_is_gone_from_the_cache_is_unpacked_again(cache: Cache, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(FORMS["zstd"])
    first = pinned(blob, cache)
    cache.path("blobs", sha256_bytes(DATA)).unlink()
    assert pinned(blob, cache) == first
    assert cache.find("blobs", sha256_bytes(DATA))


def test_a_blob_that_holds_another_layer_is_refused(cache: Cache, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(packed(layer({"a": b"other"}), "gzip"))
    with pytest.raises(IntegrityError, match="layer-1 holds a tar of"):
        pinned(blob, cache)
