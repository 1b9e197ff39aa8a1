"""The tar dialect: what Python's own reader makes of it, and the bytes themselves."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.digest import sha256_bytes
from launcher.errors import ImageError
from launcher.image.tar import LARGEST_OCTAL, MTIME, headers, in_order, layer_chunks, pax_record, write_layer
from launcher.image.tree import Bytes, Entry, Slice

LONG = "d/" * 60 + "file"


class Zeros:
    """Content of any size that nobody has to hold."""

    def __init__(self, size: int) -> None:
        self.size = size

    def chunks(self) -> Iterator[bytes]:
        yield b""


def archive(*entries: Entry) -> bytes:
    return b"".join(layer_chunks(in_order(entries)))


def test_pythons_reader_reads_it_back() -> None:
    entries = [
        Entry("a", "dir", 0o1777),
        Entry("a/hello", "file", 0o755, Bytes(b"hello")),
        Entry("a/empty", "file", 0o600, Bytes(b"")),
        Entry("a/link", "symlink", 0o777, target="../x" * 40),
        Entry("a/therefore", "hardlink", 0o755, target="a/hello"),
        Entry(LONG, "file", 0o644, Bytes(b"long")),
        Entry("ü/ñ", "file", 0o644, Bytes(b"name")),
    ]
    with tarfile.open(fileobj=io.BytesIO(archive(*entries))) as tar:
        found = {info.name: info for info in tar}
        assert set(found) == {entry.path for entry in entries}
        for entry in entries:
            info = found[entry.path]
            assert (info.mode, info.mtime, info.uid, info.gid, info.uname) == (entry.mode, MTIME, 0, 0, "")
            assert info.linkname == entry.target
        assert tar.extractfile(LONG).read() == b"long"  # type: ignore[union-attr]
        assert tar.extractfile("a/therefore").read() == b"hello"  # type: ignore[union-attr]


def test_order_is_by_bytes_with_folders_before_what_they_hold() -> None:
    paths = ["a-b", "a", "a/b", "ab", "é", "z", "a.b"]
    assert [entry.path for entry in in_order(Entry(path, "dir") for path in paths)] == sorted(
        paths, key=lambda path: path.encode()
    )


def test_the_bytes_are_fixed() -> None:
    entries = [Entry("a", "dir"), Entry("a/b", "file", 0o644, Bytes(b"x")), Entry(LONG, "symlink", 0o777, target="ü")]
    assert sha256_bytes(archive(*entries)) == GOLDEN


GOLDEN = "4531374d0831543eba218196b0fcca263b726e788eb40c8939fc5098fe06dbd5"


@pytest.mark.parametrize("size", [LARGEST_OCTAL, LARGEST_OCTAL + 1])
def test_sizes_beyond_eight_gibibytes_get_a_pax_record(size: int) -> None:
    head = headers(Entry("big", "file", 0o644, Zeros(size)))
    assert (b"size=" in head) == (size > LARGEST_OCTAL)
    assert tarfile.TarFile.tarinfo.frombuf(head[-512:], "utf-8", "strict").size == LARGEST_OCTAL


@pytest.mark.parametrize("length", [1, 84, 85, 86, 87, 984, 985, 986, 987, 9000])
def test_a_pax_record_counts_itself(length: int) -> None:
    record = pax_record(b"path", b"x" * length)
    assert int(record.split(b" ")[0]) == len(record)


def test_content_of_another_length_than_told_is_refused(tmp_path: Path) -> None:
    class Liar(Zeros):
        def chunks(self) -> Iterator[bytes]:
            yield b"abc"

    for size in (2, 4):
        with pytest.raises(ImageError, match="x: its content isn't"):
            archive(Entry("x", "file", 0o644, Liar(size)))


def test_writing_tells_the_digest_of_what_lies_on_disk(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 20_000)
    entries = [Entry("x", "file", 0o644, Slice(source, 1000, 5_000_000)), Entry("y", "file", 0o644, Bytes(b"y"))]
    written = write_layer(entries, tmp_path / "layer")
    data = (tmp_path / "layer").read_bytes()
    assert (written.diff_id, written.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert written.checksums.keys() == {"x", "y"}
    assert len(data) % 512 == 0


def test_an_archive_needs_nothing_that_nodes_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    assert b"hello" in archive(Entry("hello", "file", 0o644, Bytes(b"hello")))
