"""What a base image has installed: dpkg's status, or one file a package as images without dpkg have them."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.errors import ImageError
from launcher.image.base.tree import BaseTree
from launcher.image.deb.control import parse_stanza

STATUS = "var/lib/dpkg/status"
STATUS_PARTS = "var/lib/dpkg/status.d"
"""Distroless images keep the stanza of each package in a file of its own, without a Status field."""
GONE = ("not-installed", "config-files")


def status_text(base: BaseTree) -> str:
    """Return dpkg's status as it stands in the base; "" when there is none. Odd bytes survive (PEP 383)."""
    entry = base.find(STATUS)
    return base.read(STATUS).decode("utf-8", "surrogateescape") if entry and entry.kind == "file" else ""


def stanzas(text: str) -> list[str]:
    """Split a status file into its paragraphs, without the empty lines between them."""
    return [paragraph for paragraph in text.strip("\n").split("\n\n") if paragraph.strip()]


def status_parts(base: BaseTree) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of each package's own status file; the checksums beside them are no stanzas."""
    for name in base.names(STATUS_PARTS):
        path = f"{STATUS_PARTS}/{name}"
        if not name.endswith(".md5sums") and (text := base.text(path)):
            yield path, text


def installed(base: BaseTree) -> list[dict[str, str]]:
    """Return the fields of every package whose files are in the base (dpkg(1), "Package states").

    Raises ImageError when a stanza can't be read.
    """
    places = [(f"/{STATUS}", paragraph) for paragraph in stanzas(status_text(base))]
    places += [(f"/{path}", paragraph) for path, text in status_parts(base) for paragraph in stanzas(text)]
    found = [parse_stanza(paragraph, f"the base's {place}") for place, paragraph in places]
    for fields in found:
        if not fields.get("Package") or (is_there(fields) and not fields.get("Version")):
            raise ImageError("the base's dpkg status has a package without a name or a version")
    return [fields for fields in found if is_there(fields)]


def is_there(fields: dict[str, str]) -> bool:
    return (fields.get("Status", "installed").split() or [""])[-1] not in GONE
