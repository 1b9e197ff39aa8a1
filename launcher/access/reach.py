"""Whether a store will do for a run, asked in a few requests: what is hopeless is refused before anything runs."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

from launcher import store as stores
from launcher.cache import Cache
from launcher.digest import canonical_json, sha256_bytes
from launcher.errors import LauncherError, ObjectExistsError, StoreError
from launcher.findings import Finding
from launcher.store import keys
from launcher.store.access import Access
from launcher.store.backends import scheme_of
from launcher.store.objects import Store

SUBJECT = "store"
UNSAFE = "two attempts of one run could both write its checkpoints: `launcher store check` tells more"


def reach(access: Access, cache: Cache | None = None) -> Finding:
    """Return whether a store answers, and refuses the second of two conditional creates; that is remembered.

    Of a folder only that it is there or can be made is asked. Nothing is raised that the store says.
    """
    from launcher.access import provider

    try:
        if not scheme_of(access.url):
            return folder_finding(access)
        store = stores.open(access, provider(access))
        store.folders(keys.checks())
        return create_finding(store, cache or Cache())
    except LauncherError as e:
        problem = e.problems[0]
        return Finding(subject=SUBJECT, verdict="refused", says=problem.message, hint=problem.hint)


def folder_finding(access: Access) -> Finding:
    import os

    folder = Path(stores.folder_of(access.url) or "/")
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if above.is_dir() and os.access(above, os.W_OK):
        return Finding(subject=SUBJECT, verdict="ok", says=f"{access.url} can be written")
    hint = "look at the folder's owner and mode, or name another store"
    return Finding(subject=SUBJECT, verdict="refused", says=f"{above} can't be written", hint=hint)


def create_finding(store: Store, cache: Cache) -> Finding:
    """Try a conditional create twice, if nobody on this machine has: it is the server's nature, and doesn't change."""
    known = sha256_bytes(canonical_json([store.url.split("/")[2], store.access.settings]))
    if cache.note("stores", known) != "creates":
        if not second_is_refused(store):
            says = f"{store.url} lets a second conditional create of one key through"
            return Finding(subject=SUBJECT, verdict="refused", says=says, hint=UNSAFE)
        cache.write_note("stores", known, "creates")
    return Finding(subject=SUBJECT, verdict="ok", says=f"{store.url} answers")


def second_is_refused(store: Store) -> bool:
    key = keys.checks(secrets.token_hex(6)) + "once"
    store.create(key, b"first")
    try:
        store.create(key, b"second")
    except ObjectExistsError:
        return True
    finally:
        with contextlib.suppress(StoreError):  # without the right to delete it stays, and is a few bytes
            store.delete(key)
    return False
