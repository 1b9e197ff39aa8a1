"""What it takes to reach a store: its URL and settings, which are no secret, and where its credentials lie.

A light value: the client works it out (room `access`), and the runner reads it from `attempt.json`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SETTINGS = (
    "endpoint",  # URL of a server that speaks S3, Azure's or Google's protocol; AWS's, Azure's, Google's own otherwise
    "region",  # of S3
    "style",  # of S3: "path" or "virtual"; "path" where there is an endpoint, else "virtual"
    "ca",  # certificates in PEM that are trusted besides the system's
    "account",  # of Azure
    "anonymous",  # "true": requests are not signed
    "conditional_put",  # of S3: "etag" (RFC 9110) or "disabled"
)


class Access:
    """A URL, settings by the names of SETTINGS, and the path of a file of credentials (see `read_secrets`).

    Without such a file the machine's own are used: an instance role, or for a folder none at all. Nothing of an
    Access is a secret, so it may be written to a job's folder, a record or a log.
    """

    __slots__ = ("secrets", "settings", "url")

    def __init__(self, url: str, settings: Mapping[str, str] | None = None, secrets: str | None = None) -> None:
        self.url, self.settings, self.secrets = url, dict(settings or {}), secrets

    def to_json(self) -> dict[str, Any]:
        return {"url": self.url, "settings": self.settings, "secrets": self.secrets}


def from_json(told: str | Mapping[str, Any]) -> Access:
    """Read an Access; a bare URL is one without settings. Raises KeyError, TypeError or ValueError."""
    if isinstance(told, str):
        return Access(told)
    unknown = sorted(set(told.get("settings") or {}) - set(SETTINGS))
    if unknown:
        raise ValueError(f"a store has no setting {unknown[0]}")
    return Access(told["url"], told.get("settings"), told.get("secrets"))


def read_secrets(path: str) -> dict[str, str]:
    """Read a file of credentials: a JSON object of texts, with obstore's own names of the backend.

    S3: access_key_id, secret_access_key, session_token, expires_at (RFC 3339). Google: service_account_key (JSON in
    a text) or token. Azure: account_key, sas_token or token. Whoever renews them replaces the file by a rename.
    Raises OSError or ValueError.
    """
    import json

    with open(path, "rb") as stream:
        told = json.load(stream)
    if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
        raise ValueError(f"{path} is no object of texts")
    return told
