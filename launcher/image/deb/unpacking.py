"""Decompression of a .deb's archives: streamed, with a limit on what comes out."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from launcher.errors import ImageError
from launcher.image.deb.ar import Part, damaged_hint

READ_BYTES = 1 << 18
PIECE_BYTES = 1 << 20
XZ_MEMORY_BYTES = 192 << 20
"""xz(1): -9, the most that dpkg-deb uses, needs 65 MiB to decompress."""
ZSTD_WINDOW_BYTES = 128 << 20
"""zstd(1): --ultra --long=27, the largest window that a decoder takes without being told to."""


class Decompressor(Protocol):
    """What lzma, bz2 and isal's igzip have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def pieces(path: Path, part: Part, label: str, limit: int) -> Iterator[bytes]:
    """Yield the decompressed bytes of `part`, a megabyte or less at a time.

    Raises ImageError when the stream is damaged or gives more than `limit` bytes.
    """
    total = 0
    with path.open("rb", buffering=0) as stream:
        stream.seek(part.offset)
        try:
            for piece in unpacked(Window(stream, part.size), part.packing):
                total += len(piece)
                if total > limit:
                    raise bomb(part, label, limit)
                yield piece
        except (lzma.LZMAError, EOFError, OSError, ValueError) as e:
            if getattr(e, "errno", None):  # a full disk or a broken one: not the package's fault
                raise
            raise ImageError(
                f"{label}: {part.name}: can't be decompressed, it is damaged or cut off", hint=damaged_hint()
            ) from e


def bomb(part: Part, label: str, limit: int) -> ImageError:
    return ImageError(
        f"{label}: {part.name}: unpacks to more than {limit} bytes, the most that its Installed-Size allows",
        hint="this looks like a decompression bomb; use another build of the package",
    )


class Window:
    """The bytes of one part, as a file that ends with it."""

    def __init__(self, stream: BinaryIO, left: int) -> None:
        self.stream, self.left = stream, left

    def read(self, size: int = READ_BYTES) -> bytes:
        data = self.stream.read(min(size, self.left) if size >= 0 else self.left)
        self.left -= len(data)
        return data


def unpacked(window: Window, packing: str) -> Iterator[bytes]:
    if packing == "tar":
        yield from iter(window.read, b"")
    elif packing == "zstd":
        yield from unpacked_zstd(window)
    else:
        yield from unpacked_streams(window, packing)


def unpacked_zstd(window: Window) -> Iterator[bytes]:
    """Decompress zstd frames. A frame that breaks off is noticed by the tar reader: its end is missing."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    try:
        source = cast(BinaryIO, window)
        with decompressor.stream_reader(source, read_size=READ_BYTES, read_across_frames=True) as stream:
            yield from iter(lambda: stream.read(PIECE_BYTES), b"")
    except zstandard.ZstdError as e:
        raise ValueError(str(e)) from e


def unpacked_streams(window: Window, packing: str) -> Iterator[bytes]:
    """Decompress one stream after the other, as the command line tools do."""
    data = window.read()
    while True:
        decompressor = new_decompressor(packing)
        while not decompressor.eof:
            if decompressor.needs_input and not data and not (data := window.read()):
                raise EOFError("it ends too early")
            yield decompressor.decompress(data, PIECE_BYTES)
            data = b""
        data = decompressor.unused_data.lstrip(b"\0") or window.read()  # xz pads streams with zeros
        if not data:
            return


def new_decompressor(packing: str) -> Decompressor:
    if packing == "xz":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
    if packing == "bzip2":
        return bz2.BZ2Decompressor()
    return Gzip()


class Gzip:
    """igzip's decompressor, with an error that says ValueError as its kind."""

    def __init__(self) -> None:
        from isal import igzip_lib

        self.inner = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        self.error = cast(type[Exception], igzip_lib.error)

    @property
    def eof(self) -> bool:
        return bool(self.inner.eof)

    @property
    def needs_input(self) -> bool:
        return bool(self.inner.needs_input)

    @property
    def unused_data(self) -> bytes:
        return bytes(self.inner.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        try:
            return bytes(self.inner.decompress(data, max_length))
        except self.error as e:
            raise ValueError(str(e)) from e
