"""How this machine reaches a store: its settings, profiles and credentials, found where their owners keep them."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

from launcher import store as stores
from launcher.access.lasting import Lasting
from launcher.access.reach import reach
from launcher.errors import AccessError
from launcher.store.access import Access, read_secrets
from launcher.store.backends import scheme_of
from launcher.store.objects import Store

__all__ = ["credentials", "of", "open", "open_to_read", "provider", "reach", "write_secrets"]


def of(url: str | None = None) -> Access:
    """Return how to reach a store: a URL or folder, or this machine's default one.

    Settings come from launcher's config file, then the environment, then the profiles that the cloud's own tools
    keep. Raises StoreError when one of them is wrong or can't be read.
    """
    from launcher.access import aws, azure, google
    from launcher.access.config import told

    place = url or stores.default_url()
    ask = {"s3": aws.settings, "gs": google.settings, "az": azure.settings}.get(scheme_of(place))
    return Access(place, ask(told(place)) if ask else {})


def credentials(access: Access) -> dict[str, str]:
    """Return what this machine has to reach a store with, by the names of `launcher.store.access.read_secrets`.

    Nothing where it has none of its own: a folder, a public bucket, an instance role. An access that names a file of
    credentials gets those, as they are now. Raises AccessError.
    """
    from launcher.access import aws, azure, google
    from launcher.access.config import told

    if access.secrets:
        return from_file(access)
    ask = {"s3": aws.credentials, "gs": google.credentials, "az": azure.credentials}.get(scheme_of(access.url))
    return ask({**told(access.url), **access.settings}) if ask else {}


def from_file(access: Access) -> dict[str, str]:
    try:
        return read_secrets(str(access.secrets))
    except (OSError, ValueError) as e:
        said = f"the credentials of {access.url} in {access.secrets} can't be read: {e}"
        raise AccessError(said, hint="submit again: that brings them anew") from e


def open(url: str | None = None) -> Store:
    """Open the store at a URL or folder (a folder is made when missing), or the machine's default one.

    Raises StoreError.
    """
    access = of(url)
    return stores.open(access, provider(access))


def open_to_read(url: str | None = None) -> Store:
    """Open a store without making it; the default one is empty as long as nothing was written to it.

    Raises StoreError, also when a folder that was named isn't there.
    """
    access = of(url)
    if url is None and not scheme_of(access.url):
        return stores.open_to_read()
    return stores.open_to_read(access, provider(access))


def provider(access: Access) -> Lasting | None:
    """Return what an open store asks for credentials; None where it needs none."""
    return Lasting(functools.partial(credentials, access)) if scheme_of(access.url) else None


def write_secrets(access: Access, path: str | os.PathLike[str]) -> bool:
    """Write a store's credentials to a file that only its owner reads, through a rename; False when there are none.

    Raises AccessError, OSError.
    """
    secrets = credentials(access)
    if not secrets:
        return False
    place = Path(path)
    part = place.with_name(f".{place.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump(secrets, stream)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
    return True
