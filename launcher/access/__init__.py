"""How this machine reaches a store: its settings, profiles and credentials, found where their owners keep them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from launcher import store as stores
from launcher.access.aws import aws_credentials, aws_settings
from launcher.store.access import Access
from launcher.store.objects import Store


def of(url: str | None = None) -> Access:
    """Return how to reach a store: a URL or folder, or this machine's default one.

    Settings come from launcher's config file, then the environment, then the profiles that the cloud's own tools
    keep. Raises StoreError when one of them can't be read.
    """
    place = url or stores.default_url()
    return Access(place, aws_settings(place))


def credentials(access: Access) -> dict[str, str]:
    """Return what this machine has to reach a store with, by the names of `launcher.store.access.read_secrets`;
    nothing where it has none of its own: a folder, an instance role. Raises AccessError."""
    return aws_credentials(access)


def open(url: str | None = None) -> Store:
    """Open the store at a URL or folder (a folder is made when missing), or the machine's default one.

    Raises StoreError.
    """
    access = of(url)
    return stores.open(access, lambda: credentials(access))


def open_to_read(url: str | None = None) -> Store:
    """Open a store without making it; the default one is empty as long as nothing was written to it.

    Raises StoreError, also when a folder that was named isn't there.
    """
    access = of(url)
    if url is None and stores.folder_of(access.url) is not None:
        return stores.open_to_read()
    return stores.open_to_read(access, lambda: credentials(access))


def write_secrets(access: Access, path: str | os.PathLike[str]) -> bool:
    """Write a store's credentials to a file that only its owner reads, through a rename; False when there are none.

    Raises AccessError, OSError.
    """
    secrets = credentials(access)
    if not secrets:
        return False
    place = Path(path)
    part = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            json.dump(secrets, stream)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
    return True
