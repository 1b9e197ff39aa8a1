"""The store: the truth about every run, objects below one URL. A folder today, S3 with the same code later.

Light to import: the runner starts with it inside the container, so obstore is loaded when a store is opened.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.errors import StoreError
    from launcher.store.objects import Store

LATER = ("s3", "gs", "gcs", "az", "azure", "abfs", "abfss", "http", "https")


def default_url() -> str:
    """Return $LAUNCHER_STORE, or `launcher/store` below $XDG_DATA_HOME or ~/.local/share (XDG Base Directory 0.8)."""
    if own := os.environ.get("LAUNCHER_STORE"):
        return own
    xdg = os.environ.get("XDG_DATA_HOME", "")
    home = xdg if xdg.startswith("/") else os.path.expanduser("~/.local/share")
    return os.path.join(home, "launcher", "store")


def folder_of(place: str) -> str | None:
    """Return the absolute folder that a path or file:// URL means; None for `memory://`.

    Raises StoreError for every other scheme.
    """
    scheme, mark, rest = place.partition("://")
    if not mark:
        return os.path.abspath(os.path.expanduser(place))
    if scheme == "memory":
        return None
    host, _, path = rest.partition("/")
    if scheme != "file" or host not in ("", "localhost"):
        raise refusal(place, scheme, host)
    return os.path.abspath("/" + unquoted(path))


def unquoted(path: str) -> str:
    if "%" not in path:
        return path
    from urllib.parse import unquote

    return unquote(path)


def refusal(place: str, scheme: str, host: str) -> StoreError:
    from launcher.errors import StoreError

    if scheme == "file":
        return StoreError(f"the store `{place}` names the host `{host}`", hint="write file:///folder, three slashes")
    hint = "name a folder or a file:// URL"
    if scheme in LATER:
        return StoreError(f"`{scheme}://` stores are not there yet", hint=hint)
    return StoreError(f"`{scheme}://` is no kind of store that launcher knows", hint=hint)


def open(place: str | None = None) -> Store:
    """Open the store at a folder or file:// URL (made when missing), or the machine's default one.

    Raises StoreError when the scheme is unknown, or the folder can't be made.
    """
    from launcher.store.objects import Store

    place = place or default_url()
    return Store(place, folder_of(place))


def open_to_read(place: str | None = None) -> Store:
    """Open a store without making it; the default one is empty as long as nothing was written to it.

    Raises StoreError when the scheme is unknown, or a place that was named isn't there.
    """
    from launcher.errors import StoreError
    from launcher.store.objects import Store

    asked, place = place, place or default_url()
    folder = folder_of(place)
    if folder is None or os.path.isdir(folder):
        return Store(place, folder)
    if asked:
        raise StoreError(f"there is no store at {place}", hint="is it misspelt, or a disk not mounted?")
    return Store(place, None)
