"""The canonical RECORD of an installed wheel: sorted, with our own lines for what we made or changed."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import posixpath
from collections.abc import Iterable, Mapping

from launcher.image.tree import Bytes, Entry


def record_bytes(entries: Iterable[Entry], own: str, site: str, known: Mapping[str, str]) -> bytes:
    """Return RECORD's bytes (PyPA: "Recording installed projects"): paths relative to `site`, sorted.

    `known` holds digests from the wheel, by path in the image; the wheel as a whole is pinned by sha256, so they
    are taken over. A file that was made or changed here is hashed; one that the wheel forgot has no digest.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    rows = [(relative(entry.path, site), *line(entry, known)) for entry in entries]
    for row in sorted([*rows, (relative(own, site), "", "")]):
        writer.writerow(row)
    return out.getvalue().encode()


def relative(path: str, site: str) -> str:
    """Return `path` as seen from `site`; both are clean and relative to the image's root."""
    if path.startswith(f"{site}/"):
        return path[len(site) + 1 :]
    return posixpath.relpath(f"/{path}", f"/{site}")


def line(entry: Entry, known: Mapping[str, str]) -> tuple[str, str]:
    assert entry.content is not None
    if isinstance(entry.content, Bytes):
        digest = base64.urlsafe_b64encode(hashlib.sha256(entry.content.data).digest()).rstrip(b"=").decode()
        return f"sha256={digest}", str(entry.content.size)
    if digest := known.get(entry.path, ""):
        return digest, str(entry.content.size)
    return "", ""
