"""Google Cloud Storage: a token that is good for the objects of one run, by a Credential Access Boundary.

Source: "Create short-lived credentials with Credential Access Boundaries" of Google Cloud's documentation; for a
service account's token RFC 7523 as "Using OAuth 2.0 for Server to Server Applications" has it. A bucket needs uniform
bucket-level access for it, and such a token lasts an hour at most.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from launcher.access.google import TOKEN_URI
from launcher.access.narrowing import Narrowed
from launcher.errors import AccessError, UnreachableError
from launcher.store import keys
from launcher.store.access import Access
from launcher.store.backends import bucket_of

EXCHANGE = "https://sts.googleapis.com/v1/token"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
KIND = "urn:ietf:params:oauth:token-type:access_token"
ROLE = "inRole:roles/storage.objectAdmin"
TOKEN_S = 3600
ASK_S = 15.0


def narrowed(
    access: Access, run: str, own: Mapping[str, str], told: Mapping[str, str], ttl_s: float
) -> Narrowed | None:
    """Exchange a token for one that is bound to a run; None where there is no token. Google decides how long it lasts.

    Raises AccessError, UnreachableError.
    """
    if access.settings.get("endpoint"):
        return None  # an emulator
    token, expires_at = (own["token"], own.get("expires_at")) if "token" in own else of_service_account(own)
    words = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": token,
        "subject_token_type": KIND,
        "requested_token_type": KIND,
        "options": json.dumps(boundary(access, run)),
    }
    answer = posted(EXCHANGE, words)
    return Narrowed(secrets=with_end(answer["access_token"], answer.get("expires_in"), expires_at))


def with_end(token: str, expires_in: object, expires_at: str | None) -> dict[str, str]:
    """Return a token with its end: what was said of it, else that of the token which it was exchanged for."""
    if expires_in is not None:
        expires_at = (datetime.now(timezone.utc) + timedelta(seconds=float(str(expires_in)))).isoformat()
    return {"token": token, **({"expires_at": expires_at} if expires_at else {})}


def boundary(access: Access, run: str) -> dict[str, Any]:
    """Return the boundary: the run's objects, its lines of the journal, the clock; listings of the run alone."""
    bucket, prefix = bucket_of(access.url)
    below = f"{prefix}/" if prefix else ""
    objects = f"projects/_/buckets/{bucket}/objects/"
    begins = [objects + below + key for key in (keys.run(run), keys.journal())]
    whole = [f"resource.name.startsWith({quoted(name)})" for name in begins]
    whole.append(f"resource.name == {quoted(objects + below + keys.CLOCK)}")
    listed = "api.getAttribute('storage.googleapis.com/objectListPrefix', '')"
    whole.append(f"{listed}.startsWith({quoted(below + keys.run(run))})")
    rule = {
        "availableResource": f"//storage.googleapis.com/projects/_/buckets/{bucket}",
        "availablePermissions": [ROLE],
        "availabilityCondition": {"expression": " || ".join(whole)},
    }
    return {"accessBoundary": {"accessBoundaryRules": [rule]}}


def quoted(text: str) -> str:
    """Write a text of the Common Expression Language."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def of_service_account(own: Mapping[str, str]) -> tuple[str, str]:
    """Return a token for a service account's key, and when it ends. Raises AccessError."""
    try:
        kept = json.loads(own["service_account_key"])
        uri, claims = kept.get("token_uri") or TOKEN_URI, {"iss": kept["client_email"], "scope": SCOPE}
        now = int(time.time())
        claims |= {"aud": uri, "iat": now, "exp": now + TOKEN_S}
        assertion = signed({"alg": "RS256", "typ": "JWT", "kid": kept.get("private_key_id", "")}, claims, kept)
    except (ImportError, KeyError, TypeError, ValueError) as e:
        raise AccessError(f"the service account's key can't sign for a token: {type(e).__name__}") from None
    answer = posted(uri, {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion})
    return answer["access_token"], datetime.fromtimestamp(now + TOKEN_S, timezone.utc).isoformat()


def signed(header: Mapping[str, Any], claims: Mapping[str, Any], kept: Mapping[str, str]) -> str:
    """Return a JSON Web Token (RFC 7519) signed with RSA and SHA-256. Raises ValueError for a key that is none."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(kept["private_key"].encode(), password=None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("no RSA key")
    text = b".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    return (text + b"." + encoded(key.sign(text, PKCS1v15(), SHA256()))).decode()


def encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def posted(url: str, words: Mapping[str, str]) -> dict[str, Any]:
    """Post a form and return the JSON of the answer, which has a token. Raises AccessError, UnreachableError."""
    import httpx

    try:
        answer = httpx.post(url, data=dict(words), timeout=ASK_S)
        told = answer.json()
    except (httpx.HTTPError, ValueError) as e:
        raise UnreachableError(f"Google can't be asked for a token: {type(e).__name__}") from None
    if answer.status_code != 200 or "access_token" not in told:
        why = told.get("error_description") or told.get("error") or ""
        raise AccessError(f"the exchange of a token was refused ({answer.status_code}: {str(why)[:200]})")
    return dict(told)
