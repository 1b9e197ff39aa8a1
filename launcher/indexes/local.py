"""Places on this machine's own disk: file: URLs, folders and the files in them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from launcher.errors import FetchError
from launcher.indexes.source import Stream


def local_path(place: str) -> Path | None:
    """Return the path of a file: URL or a plain path; None for any other URL."""
    if place.startswith("file:"):
        return Path(url2pathname(urlsplit(place).path))
    return None if "://" in place else Path(place)


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Stream | None]:
    """Open a file of this machine; None when it isn't there. Raises FetchError when it can't be read."""
    try:
        stream = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except OSError as e:
        raise FetchError(f"can't read {path}: {e.strerror}") from e
    with stream:
        yield stream
