"""The store: the truth about every run, objects below one URL: a folder, S3, Google Cloud Storage or Azure.

Light to import: the runner starts with it inside the container, so obstore is loaded when a store is opened.
"""

from __future__ import annotations

import os

from launcher.store.access import Access

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from launcher.errors import StoreError
    from launcher.store.objects import Store


def default_url() -> str:
    """Return $LAUNCHER_STORE, or `launcher/store` below $XDG_DATA_HOME or ~/.local/share (XDG Base Directory 0.8)."""
    if own := os.environ.get("LAUNCHER_STORE"):
        return own
    xdg = os.environ.get("XDG_DATA_HOME", "")
    home = xdg if xdg.startswith("/") else os.path.expanduser("~/.local/share")
    return os.path.join(home, "launcher", "store")


def folder_of(place: str) -> str | None:
    """Return the absolute folder that a path or file:// URL means; None for s3://, gs://, az:// and memory://.

    Raises StoreError for every other scheme, and for a URL without a bucket or with a login.
    """
    from launcher.store.backends import OBJECT_SCHEMES, bucket_of, scheme_of

    scheme, mark, rest = place.partition("://")
    if not mark:
        if (kind := place.partition(":")[0]) in OBJECT_SCHEMES and ":" in place:
            raise refusal(place, kind, "")
        return os.path.abspath(os.path.expanduser(place))
    if scheme == "memory":
        return None
    if scheme_of(place):
        bucket, prefix = bucket_of(place)
        if not bucket or "@" in bucket or {".", ".."} & {*prefix.split("/")}:
            raise refusal(place, scheme, "")
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
    from launcher.store.backends import OBJECT_SCHEMES

    if scheme == "file":
        return StoreError(f"the store `{place}` names the host `{host}`", hint="write file:///folder, three slashes")
    if scheme in OBJECT_SCHEMES:
        shown = f"{scheme}://{place.rpartition('@')[2]}" if "@" in place else place  # no login is told
        said = f"`{shown}` names no store: it is named by its bucket alone, or a folder in that"
        return StoreError(said, hint=f"write {scheme}://bucket/folder, without a login or dots")
    hint = "name a folder, or a file://, s3://, gs:// or az:// URL"
    return StoreError(f"`{scheme}://` is no kind of store that launcher knows", hint=hint)


def open(access: Access | str | None = None, credentials: Callable[[], Mapping[str, str]] | None = None) -> Store:
    """Open the store that an Access names, or the machine's default one.

    A folder is made when missing; a bucket is asked nothing before it is used.
    `credentials` is called for them now and before they end (names as in `launcher.store.access.read_secrets`); with
    `access.secrets` the file is read instead. The client opens stores through `launcher.access`, which finds settings.
    Raises StoreError when the scheme is unknown, the folder can't be made or the credentials can't be read.
    """
    from launcher.store.credentials import SecretsFile
    from launcher.store.objects import Store

    access = access if isinstance(access, Access) else Access(access or default_url())
    if credentials is None and access.secrets:
        credentials = SecretsFile(access.secrets)
    return Store(access, folder_of(access.url), credentials)


def open_to_read(
    access: Access | str | None = None, credentials: Callable[[], Mapping[str, str]] | None = None
) -> Store:
    """Open a store without making it; the default one is empty as long as nothing was written to it.

    Raises StoreError as `open` does, and when a folder that was named isn't there.
    """
    from launcher.errors import StoreError

    asked = access if isinstance(access, Access) else Access(access or default_url())
    folder = folder_of(asked.url)
    if folder is None or os.path.lexists(folder):
        return open(asked, credentials)
    if access is None or asked.url == default_url():
        empty = open(Access("memory://"))
        empty.url = asked.url  # what is said of it
        return empty
    raise StoreError(f"there is no store at {asked.url}", hint="is it misspelt, or a disk not mounted?")
