"""Google Cloud Storage: a service account's file, or the login of the gcloud program.

Source: "How Application Default Credentials works" of Google Cloud's authentication guide; for the exchange of a
refresh token RFC 6749, section 6.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from launcher.access.config import bundle
from launcher.errors import AccessError

TOKEN_URI = "https://oauth2.googleapis.com/token"
ASK_S = 30.0
LOGIN = "`gcloud auth application-default login` logs in; or name a service account's file"


def settings(told: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return a bucket's settings. An emulator (STORAGE_EMULATOR_HOST) is asked without signatures."""
    found = {name: told[name] for name in ("endpoint", "anonymous") if told.get(name)}
    if not found.get("endpoint") and (host := environ.get("STORAGE_EMULATOR_HOST")):
        found |= {"endpoint": host if "://" in host else f"http://{host}", "anonymous": "true"}
    if told.get("ca_bundle"):
        found["ca"] = bundle(told["ca_bundle"], "launcher's config.toml")
    return found


def credentials(told: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return a service account's key, or a token; nothing where the machine's own role is to be asked.

    Raises AccessError.
    """
    if told.get("anonymous") or environ.get("STORAGE_EMULATOR_HOST"):
        return {}
    path = place(environ)
    try:
        text = path.read_text(encoding="utf-8")
        kept = json.loads(text)
        kind = kept["type"]
    except FileNotFoundError:
        if environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            raise AccessError(f"there is no file {path} (GOOGLE_APPLICATION_CREDENTIALS)", hint=LOGIN) from None
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        raise AccessError(f"{path} holds no credentials of Google", hint=LOGIN) from None
    if kind == "service_account":
        return {"service_account_key": text}
    if kind == "authorized_user":
        return exchanged(kept, path)
    hint = "use a service account's file, or an ordinary login"
    raise AccessError(f"{path} holds credentials of the kind {kind}, which launcher can't use", hint=hint)


def place(environ: Mapping[str, str]) -> Path:
    if own := environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return Path(own).expanduser()
    home = Path(environ.get("HOME") or Path.home())
    folder = Path(environ.get("CLOUDSDK_CONFIG") or home / ".config" / "gcloud")
    return folder / "application_default_credentials.json"


def exchanged(kept: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Get a token for a login's refresh token; jobs are given this one, which ends, and not the login."""
    import httpx

    form = {name: kept.get(name, "") for name in ("client_id", "client_secret", "refresh_token")}
    try:
        answer = httpx.post(
            kept.get("token_uri") or TOKEN_URI, data={**form, "grant_type": "refresh_token"}, timeout=ASK_S
        )
        told = answer.json()
    except (httpx.HTTPError, ValueError) as e:
        raise AccessError(f"no token could be had for the login in {path}: {type(e).__name__}", hint=LOGIN) from None
    if answer.status_code != 200 or "access_token" not in told:
        why = told.get("error_description") or told.get("error") or answer.status_code
        raise AccessError(f"the login in {path} was refused: {why}", hint=LOGIN)
    ends = datetime.now(timezone.utc) + timedelta(seconds=float(told.get("expires_in", 3600)))
    return {"token": told["access_token"], "expires_at": ends.isoformat()}
