"""S3: a session that may touch one run and nothing else, from the Security Token Service of AWS or a server like it.

Sources: GetFederationToken and AssumeRole of the "AWS Security Token Service API Reference"; "Actions, resources, and
condition keys for Amazon S3"; for servers that are asked without a role, MinIO's documentation of AssumeRole.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from launcher.access.aws import told_by
from launcher.access.narrowing import Narrowed
from launcher.errors import AccessError, UnreachableError
from launcher.store import keys
from launcher.store.access import Access
from launcher.store.backends import bucket_of

if TYPE_CHECKING:
    import ssl

ASK_S = 15.0
VERSION = "2011-06-15"  # of the API
LONGEST_S = {"GetFederationToken": 129600, "AssumeRole": 43200}  # as their references have it; a role may say less
ROLE_S = 3600  # every role lets a session last so long
LEAST_S = 900
NAME = 32  # characters, of the shorter of the two kinds of names
WRITE_RIGHTS = ["s3:PutObject", "s3:DeleteObject"]
OBJECT_RIGHTS = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]


def narrowed(
    access: Access, run: str, own: Mapping[str, str], told: Mapping[str, str], ttl_s: float
) -> Narrowed | None:
    """Ask for a session by the first way that leads somewhere; None where there is none for such credentials.

    `told` is what launcher's config file says of the store: a `role` is assumed. Raises AccessError, UnreachableError.
    """
    if "access_key_id" not in own:
        return None
    refused: AccessError | None = None
    for action, words in ways(access, told, temporary=bool(own.get("session_token"))):
        try:
            return session(access, run, own, action, words, ttl_s)
        except AccessError as e:
            refused = refused or e
    if refused:
        raise refused
    return None


def ways(access: Access, told: Mapping[str, str], *, temporary: bool) -> list[tuple[str, dict[str, str]]]:
    """Return what may be asked, the best first. Temporary credentials can only assume a role."""
    if role := told.get("role"):
        return [("AssumeRole", {"RoleArn": role})]
    if temporary:
        return []
    others: list[tuple[str, dict[str, str]]] = [("AssumeRole", {})] if access.settings.get("endpoint") else []
    return [("GetFederationToken", {}), *others]


def session(
    access: Access, run: str, own: Mapping[str, str], action: str, words: Mapping[str, str], ttl_s: float
) -> Narrowed:
    """Ask for a session of `ttl_s` seconds, and for the hour that every role allows where that is refused."""
    named = {"RoleSessionName" if action == "AssumeRole" else "Name": session_name(run)}
    asked = {"Action": action, "Version": VERSION, **words, **named, "Policy": json.dumps(policy(access, run))}
    seconds = int(max(LEAST_S, min(ttl_s, LONGEST_S[action])))
    try:
        return Narrowed(secrets=ask(access, own, {**asked, "DurationSeconds": str(seconds)}))
    except AccessError as e:
        if seconds <= ROLE_S or "(400" not in str(e):  # AWS says why in its message, Ceph has none
            raise
    return Narrowed(secrets=ask(access, own, {**asked, "DurationSeconds": str(ROLE_S)}))


def session_name(run: str) -> str:
    """Return a name that AWS's own logs show: the run's, within the characters that it takes."""
    return f"launcher-{''.join(c if c.isascii() and (c.isalnum() or c in '-_.') else '-' for c in run)}"[:NAME]


def policy(access: Access, run: str) -> dict[str, Any]:
    """Return what a session may do: all that a runner and its host side do with a run, and no more. Where a run was
    sent is for clients to say: they go there.

    Outside the run's prefix they write a line of the journal that ends in the run's name, and the empty object by
    which a store's clock is read.
    """
    bucket, prefix = bucket_of(access.url)
    below = f"{prefix}/" if prefix else ""
    at, own = f"arn:{partition(access)}:s3:::{bucket}", literal(below + keys.run(run))
    journal = literal(below + keys.journal()) + "*-" + literal(keys.quoted(run))
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": OBJECT_RIGHTS, "Resource": f"{at}/{own}*"},
            {"Effect": "Deny", "Action": WRITE_RIGHTS, "Resource": f"{at}/{own}targets/*"},
            {"Effect": "Allow", "Action": WRITE_RIGHTS, "Resource": f"{at}/{journal}"},
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject"],
                "Resource": f"{at}/{literal(below + keys.CLOCK)}",
            },
            {
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": at,
                "Condition": {"StringLike": {"s3:prefix": f"{own}*"}},
            },
        ],
    }


def literal(text: str) -> str:
    """Keep a policy from reading patterns into a name ("IAM policy elements: Variables and tags")."""
    return "".join(f"${{{c}}}" if c in "*?$" else c for c in text)


def partition(access: Access) -> str:
    region = "" if access.settings.get("endpoint") else access.settings.get("region", "")
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


def endpoint(access: Access, environ: Mapping[str, str] = os.environ) -> str:
    """Return where to ask: a server with an endpoint of its own answers there itself, as moto, MinIO and Ceph do."""
    region = access.settings.get("region") or "us-east-1"
    if own := environ.get("AWS_ENDPOINT_URL_STS") or access.settings.get("endpoint"):
        return own.rstrip("/") + "/"
    return f"https://sts.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}/"


def ask(access: Access, own: Mapping[str, str], words: Mapping[str, str]) -> dict[str, str]:
    """Return the credentials of a session. Raises AccessError with what the server said, UnreachableError."""
    import httpx

    from launcher.store.uploads import parsed, text

    url, body = endpoint(access), urlencode(sorted(words.items())).encode()
    headers = signed(url, body, own, access.settings.get("region") or "us-east-1")
    try:
        with httpx.Client(verify=trusted(access), timeout=ASK_S) as client:
            answer = client.post(url, content=body, headers=headers)
    except httpx.HTTPError as e:
        raise UnreachableError(f"{urlsplit(url).netloc} can't be asked for credentials: {type(e).__name__}") from None
    try:
        document = parsed(answer.content)
        found = next(document.iter("Credentials"), None)
        if answer.is_success and found is not None:
            names = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
            return told_by(*(text(found, name) for name in names))
        said = next((one.text or "" for one in document.iter("Message")), "") or next(
            (one.text or "" for one in document.iter("Code")), ""
        )
    except SyntaxError:  # of ElementTree: no XML
        said = ""
    raise AccessError(f"{words['Action']} was refused ({answer.status_code}{': ' + said[:200] if said else ''})")


def trusted(access: Access) -> ssl.SSLContext:
    import ssl

    context = ssl.create_default_context()
    if ca := access.settings.get("ca"):
        context.load_verify_locations(cadata=ca)
    return context


def signed(
    url: str, body: bytes, own: Mapping[str, str], region: str, now: datetime | None = None, service: str = "sts"
) -> dict[str, str]:
    """Return the headers of a POST of a form, signed as AWS Signature Version 4 has it ("Create a signed request")."""
    stamp = (now or datetime.now(timezone.utc)).strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "host": urlsplit(url).netloc,
        "x-amz-date": stamp,
        **({"x-amz-security-token": own["session_token"]} if own.get("session_token") else {}),
    }
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = "\n".join(["POST", urlsplit(url).path or "/", "", lines, names, hashlib.sha256(body).hexdigest()])
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = b"AWS4" + own["secret_access_key"].encode()
    for word in scope.split("/"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={own['access_key_id']}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "authorization": f"AWS4-HMAC-SHA256 {credential}"}
