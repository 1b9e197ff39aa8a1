"""Credentials for one run on a machine of somebody else: narrowed to that run and short-lived, where a store can.

What the clouds give: S3 a session that may touch a run's prefix (launcher.access.sts), Google a downscoped token
(launcher.access.google_boundary), Azure a signature for the container (launcher.access.azure_sas).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher.access.config import told
from launcher.errors import LauncherError, UnreachableError
from launcher.store.access import Access
from launcher.store.backends import scheme_of

TTL_S = 86400.0  # asked for; whoever is in contact with the run renews them before


@dataclass(frozen=True, kw_only=True)
class Narrowed:
    """Credentials for a run, by the names of `launcher.store.access.read_secrets`; they are not in its repr.

    `narrow`: they open this run and (nearly) nothing else. Without `expires_at` (RFC 3339) in them they last until
    their owner takes them back. `note` says to a person what they should know of credentials that are more.
    """

    secrets: Mapping[str, str] = field(repr=False)
    narrow: bool = True
    note: str | None = None

    @property
    def expires_at(self) -> str | None:
        return self.secrets.get("expires_at")


def for_run(access: Access, run: str, *, ttl_s: float = TTL_S) -> Narrowed | None:
    """Return the credentials that another machine gets for a run: narrowed ones, else this machine's own with a note.

    None where the store is reached without any of this machine's. Raises AccessError; and UnreachableError where a
    cloud of which it is known that it has narrower ones is silent: that is no reason to give away more.
    """
    from launcher import access as accesses

    own = accesses.credentials(access)
    if not own:
        return None
    try:
        found, why = narrowed(access, run, own, ttl_s=ttl_s), ""
    except UnreachableError as e:
        if not access.settings.get("endpoint"):
            hint = 'try again; `ship = "relay"` in the target\'s file needs no credentials there'
            raise UnreachableError(e.problems[0].message, hint=hint) from e
        found, why = None, e.problems[0].message
    except LauncherError as e:
        found, why = None, e.problems[0].message
    return found or as_they_are(access, own, why)


def narrowed(access: Access, run: str, own: Mapping[str, str], *, ttl_s: float = TTL_S) -> Narrowed | None:
    """Ask the store's cloud for less than `own` can do; None where it has no such thing.

    Raises AccessError, UnreachableError with what it said.
    """
    from launcher.access import azure_sas, google_boundary, sts

    ask = {"s3": sts.narrowed, "gs": google_boundary.narrowed, "az": azure_sas.narrowed}.get(scheme_of(access.url))
    return ask(access, run, own, told(access.url), ttl_s) if ask else None


def as_they_are(access: Access, own: Mapping[str, str], why: str) -> Narrowed:
    """Return this machine's own credentials, with what has to be said of that."""
    until = f" until {own['expires_at']}" if own.get("expires_at") else ""
    reason = f" ({why})" if why else ""
    kind = "temporary credentials" if own.get("session_token") or own.get("token") else "keys"
    note = (
        f"{access.url}: no credentials for this run alone could be had{reason}: the box gets your {kind} as they are"
        f"{until}, in a file that only its user reads and that goes with the run; docs/reference/secrets.md"
    )
    return Narrowed(secrets=dict(own), narrow=False, note=note)
