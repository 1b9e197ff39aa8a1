"""Pull an image's manifest: the entry for the platform, checked by its digest, with what it is made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from launcher.cache import Cache
from launcher.digest import sha256_bytes
from launcher.errors import FetchError, IntegrityError
from launcher.registry.documents import Descriptor, PulledManifest, choose, document, kind, read_manifest
from launcher.registry.media import ACCEPTED
from launcher.registry.reference import Reference
from launcher.registry.session import Session
from launcher.registry.settings import Place, registry_settings
from launcher.registry.tls import network_errors

if TYPE_CHECKING:
    import httpx

__all__ = ["Descriptor", "PulledManifest", "manifest"]

MOST_BYTES = 8 << 20  # registries have to take manifests of 4 MiB ("Pushing Manifests"), and few take more
DEPTH = 3  # of indexes within indexes
TYPE_NOTES = "manifest-types"
T = TypeVar("T")


def manifest(
    reference: Reference, platform: str, cache: Cache, *, environ: Mapping[str, str] = os.environ
) -> PulledManifest:
    """Return the manifest that a reference means today for a platform such as "linux/arm64".

    Manifests are kept in the cache as artifacts, so that a reference by digest asks nobody the second time.

    Raises FetchError when it can't be had, IntegrityError when it isn't what its digest says, ResolveError when
    the image isn't there for the platform, ImageError for one that can't be used (schema 1, foreign layers).
    """
    at = reference
    sessions: list[Session] = []
    for _ in range(DEPTH):
        raw, content_type = kept(cache, at) or fetched(at, cache, sessions, environ)
        told = document(raw, str(at))
        if kind(told, content_type, str(at)) == "manifest":
            return read_manifest(told, raw, sha256_bytes(raw), str(reference))
        at = reference.at(choose(told, platform, str(reference)).digest)
    raise FetchError(f"{reference}: an index of indexes of indexes", hint="name the image by its own digest")


def kept(cache: Cache, reference: Reference) -> tuple[bytes, str] | None:
    """Return a manifest by digest that the cache has."""
    path = cache.find("artifacts", reference.digest) if reference.digest else None
    return (path.read_bytes(), str(cache.note(TYPE_NOTES, str(reference.digest)) or "")) if path else None


def fetched(
    reference: Reference, cache: Cache, sessions: list[Session], environ: Mapping[str, str]
) -> tuple[bytes, str]:
    """Ask for a manifest, mirrors first, and keep it."""
    if not sessions:
        places = registry_settings(environ).places(reference)
        sessions += [Session(place, environ=environ) for place in places]
    raw, content_type = first_of(sessions, lambda session: ask(session, moved(session.place, reference)))
    digest = sha256_bytes(raw)
    with cache.scratch() as scratch:
        (scratch / digest).write_bytes(raw)
        cache.adopt("artifacts", digest, scratch / digest)
    cache.write_note(TYPE_NOTES, digest, content_type)
    return raw, content_type


def moved(place: Place, reference: Reference) -> Reference:
    """Return the same tag or digest at a place."""
    return place.reference.at(reference.digest) if reference.digest else place.reference


def first_of(sessions: list[Session], ask_one: Callable[[Session], T]) -> T:
    """Return what the first place gives that has it; a mirror that fails only sends us to the next."""
    for session in sessions:
        try:
            return ask_one(session)
        except FetchError:
            if not session.place.mirror:
                raise
    raise AssertionError("the last place is no mirror")


def ask(session: Session, reference: Reference) -> tuple[bytes, str]:
    """Return a manifest's bytes, checked, and its Content-Type."""
    url = session.url(f"manifests/{reference.asked}")
    with session.request("GET", url, headers={"Accept": ACCEPTED}) as response:
        if response.status_code == 404:
            hint = "check its name and tag; names of private images need a login"
            raise FetchError(f"there is no image {reference}", hint=hint)
        if response.status_code != 200:
            raise session.failure(str(reference), response)
        raw = whole(response, str(reference))
        check(raw, reference, response.headers.get("docker-content-digest", ""))
        return raw, response.headers.get("content-type", "")


def whole(response: httpx.Response, name: str) -> bytes:
    """Read a manifest, and no more than one has."""
    found = bytearray()
    try:
        for chunk in response.iter_bytes():
            found += chunk
            if len(found) > MOST_BYTES:
                raise FetchError(f"{name}: more than {MOST_BYTES >> 20} MiB is no manifest")
    except network_errors() as e:
        raise FetchError(f"{name}: {e}", hint="try again") from e
    return bytes(found)


def check(raw: bytes, reference: Reference, told: str) -> None:
    """Raise IntegrityError when a manifest isn't the one that was asked for, or that the registry says it is."""
    found = f"sha256:{sha256_bytes(raw)}"
    if reference.digest and found != reference.asked:
        raise IntegrityError(
            f"{reference.repository} gave another manifest than {reference.asked}: {found}",
            hint="don't use this registry, or look at what stands between",
        )
    if told.startswith("sha256:") and told != found:
        raise IntegrityError(
            f"{reference} was damaged on its way: its registry says {told}, and it is {found}", hint="try again"
        )
