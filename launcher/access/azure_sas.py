"""Azure Blob Storage: a shared access signature for one container. Its service can't narrow one to a prefix.

Source: "Create a user delegation SAS" and "Create a service SAS" of the Azure Storage REST reference (version
2020-12-06 of the string that is signed), and "Get User Delegation Key". A hierarchical namespace would let a
signature name a folder; launcher doesn't ask for one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from urllib.parse import urlencode

from launcher.access.narrowing import Narrowed
from launcher.errors import AccessError, UnreachableError
from launcher.store.access import Access
from launcher.store.backends import bucket_of

VERSION = "2020-12-06"
RIGHTS = "rcwdl"  # read, create, write, delete, list: in the order that the reference wants
LONGEST_S = 7 * 86400.0 - 3600  # of a user delegation key
EARLY_S = 300.0  # another machine's clock may be behind
ASK_S = 15.0
STAMP = "%Y-%m-%dT%H:%M:%SZ"


def narrowed(
    access: Access, run: str, own: Mapping[str, str], told: Mapping[str, str], ttl_s: float
) -> Narrowed | None:
    """Sign for the container, by the account's key or a key that a login is given for it; None with a signature alone.

    Raises AccessError, UnreachableError.
    """
    now = datetime.now(timezone.utc)
    times = [(now - timedelta(seconds=EARLY_S)), now + timedelta(seconds=min(ttl_s, LONGEST_S))]
    begins, ends = (time.strftime(STAMP) for time in times)
    if "account_key" in own:
        query = service(access, own["account_key"], begins, ends)
    elif "token" in own:
        query = delegated(access, delegation_key(access, own["token"], begins, ends), begins, ends)
    else:
        return None
    container = bucket_of(access.url)[0]
    note = (
        f"{access.url}: the box gets a signature for the whole container {container} until {ends}: Azure has none for "
        "a part of it; docs/reference/secrets.md"
    )
    return Narrowed(secrets={"sas_token": urlencode(query), "expires_at": ends}, narrow=False, note=note)


def service(access: Access, key: str, begins: str, ends: str) -> dict[str, str]:
    """Return a signature by the account's key."""
    lines = [RIGHTS, begins, ends, resource(access), "", "", "", VERSION, "c", *[""] * 7]
    return {**common(begins, ends), "sig": hashed(key, lines)}


def delegated(access: Access, key: Mapping[str, str], begins: str, ends: str) -> dict[str, str]:
    """Return a signature by a user delegation key."""
    whose = {name: key[long] for name, long in KEY_PARTS.items()}
    lines = [RIGHTS, begins, ends, resource(access), *whose.values(), "", "", "", "", "", VERSION, "c", *[""] * 7]
    return {**common(begins, ends), **whose, "sig": hashed(key["Value"], lines)}


KEY_PARTS = {
    "skoid": "SignedOid",
    "sktid": "SignedTid",
    "skt": "SignedStart",
    "ske": "SignedExpiry",
    "sks": "SignedService",
    "skv": "SignedVersion",
}


def common(begins: str, ends: str) -> dict[str, str]:
    return {"sv": VERSION, "sr": "c", "sp": RIGHTS, "st": begins, "se": ends}


def resource(access: Access) -> str:
    return f"/blob/{access.settings['account']}/{bucket_of(access.url)[0]}"


def hashed(key: str, lines: list[str]) -> str:
    try:
        secret = base64.b64decode(key, validate=True)
    except ValueError:
        raise AccessError("the account's key is no base64") from None
    return base64.b64encode(hmac.new(secret, "\n".join(lines).encode(), hashlib.sha256).digest()).decode()


def delegation_key(access: Access, token: str, begins: str, ends: str) -> dict[str, str]:
    """Ask for a key that signs in the name of a login. Raises AccessError, UnreachableError."""
    import httpx

    from launcher.store.uploads import parsed

    account = access.settings["account"]
    url = (access.settings.get("endpoint") or f"https://{account}.blob.core.windows.net").rstrip("/") + "/"
    body = f'<?xml version="1.0" encoding="utf-8"?><KeyInfo><Start>{begins}</Start><Expiry>{ends}</Expiry></KeyInfo>'
    headers = {"authorization": f"Bearer {token}", "x-ms-version": VERSION, "content-type": "application/xml"}
    query = {"restype": "service", "comp": "userdelegationkey"}
    try:
        answer = httpx.post(url, params=query, content=body.encode(), headers=headers, timeout=ASK_S)
    except httpx.HTTPError as e:
        raise UnreachableError(f"{account} can't be asked for a key that signs: {type(e).__name__}") from None
    try:
        found = {one.tag: one.text or "" for one in parsed(answer.content)} if answer.is_success else {}
    except SyntaxError:
        found = {}
    if {"Value", *KEY_PARTS.values()} - found.keys():
        said = f"{account} gave no key that signs ({answer.status_code})"
        raise AccessError(said, hint="the login needs the role Storage Blob Delegator")
    return found
