"""What went wrong, in our words: every error of obstore becomes one of ours, by what the server or the network said.

Read are the class, the HTTP status, the error code in the body (S3's and Azure's XML, Google's JSON) and the words of
the HTTP client below. Nothing else of obstore's text is shown: it holds signed URLs.
"""

from __future__ import annotations

import errno
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.errors import LauncherError, StoreError
    from launcher.store.access import Access

FULL = ("os error 28)", "os error 122)")  # ENOSPC, EDQUOT
STATUS = re.compile(r"status code: (\d{3})|status: (\d{3}),")
CODE = re.compile(r"<Code>(\w+)</Code>|\"reason\": ?\"(\w+)\"|\(code: (\w+)\)")  # the last of a deletion of many
MESSAGE = re.compile(r"<Message>([^<]{1,300})</Message>|\"message\": ?\"([^\"]{1,300})\"")
METADATA = re.compile(r"https?://(169\.254\.|metadata\.google|\[fd00:ec2)")  # where instance roles are asked for
QUERY = re.compile(r"(https?://[^\s?]+)\?[^\s)]*")

# What a request is refused with, by S3's and Azure's codes: (class, what happened, what to do). `{where}` is the
# store's endpoint and region. S3: "Error responses" of the API reference; Azure: "Blob service error codes".
KEY = "is it the right key for {where}? look at the profile or the variables that it comes from"
ROLE = "`launcher store check URL` tells which rights are missing; ask whoever owns the bucket for them"
RENEW = "get new credentials (log in again, or renew the token); what waits is tried again with them"
REGION = "set the bucket's region: AWS_REGION, or `region` in launcher's config.toml; asked was {where}"
CODES: dict[str, tuple[str, str, str]] = {
    "NoSuchBucket": (
        "access",
        "there is no such bucket",
        "is it misspelt, or does it have to be made? asked was {where}",
    ),
    "ContainerNotFound": ("access", "there is no such container", "is it misspelt, or does it have to be made?"),
    "InvalidBucketName": ("access", "the bucket's name is not allowed", "is it misspelt?"),
    "InvalidAccessKeyId": ("access", "the access key is not known there", KEY),
    "SignatureDoesNotMatch": ("access", "the secret does not fit the access key", KEY),
    "AuthenticationFailed": ("access", "the key or token was refused", KEY),
    "InvalidToken": ("access", "the session token was refused", RENEW),
    "ExpiredToken": ("access", "the session token has expired", RENEW),
    "TokenRefreshRequired": ("access", "the session token has expired", RENEW),
    "RequestTimeTooSkewed": ("access", "this machine's clock is too far off", "set the clock (chronyd, timedatectl)"),
    "AccessDenied": ("access", "the credentials don't have the right to do this", ROLE),
    "AllAccessDisabled": ("access", "the bucket is closed to everybody", ROLE),
    "AuthorizationFailure": ("access", "the credentials don't have the right to do this", ROLE),
    "AuthorizationPermissionMismatch": ("access", "the credentials don't have the right to do this", ROLE),
    "PermanentRedirect": ("access", "the bucket lies in another region", REGION),
    "AuthorizationHeaderMalformed": ("access", "the bucket lies in another region", REGION),
    "IllegalLocationConstraintException": ("access", "the bucket lies in another region", REGION),
    "QuotaExceeded": ("full", "", ""),
    "InsufficientStorage": ("full", "", ""),
    "XMinioStorageFull": ("full", "", ""),
    "OperationAborted": ("unreachable", "another request was at the same object", "trying again helps"),
    "ConditionalRequestConflict": ("unreachable", "another request was at the same object", "trying again helps"),
    "RequestTimeout": ("unreachable", "the store waited too long for the request", "trying again helps"),
    "XAmzContentSHA256Mismatch": ("unreachable", "what came there was damaged on its way", "trying again helps"),
    "BadDigest": ("unreachable", "what came there was damaged on its way", "trying again helps"),
    "IncompleteBody": ("unreachable", "the request broke off", "trying again helps"),
    "SlowDown": ("unreachable", "the store asks for patience", "it is busy: trying again later helps"),
    "ServerBusy": ("unreachable", "the store asks for patience", "it is busy: trying again later helps"),
    "InvalidRange": ("store", "the object is shorter than that", "was it replaced meanwhile?"),
    "NotImplemented": ("store", "the server can't do this", "`launcher store check URL` tells what it can do"),
}
STATUSES: dict[int, tuple[str, str, str]] = {
    301: CODES["PermanentRedirect"],
    307: CODES["PermanentRedirect"],
    400: (
        "access",
        "the request was refused",
        "have the credentials expired, or is the region wrong? asked was {where}",
    ),
    401: ("access", "the credentials were refused", KEY),
    403: CODES["AccessDenied"],
    404: ("access", "there is no such bucket", "is it misspelt, or does it have to be made? asked was {where}"),
    408: CODES["RequestTimeout"],
    412: ("store", "the object was changed meanwhile", "ask again"),
    416: CODES["InvalidRange"],
    429: CODES["SlowDown"],
    501: CODES["NotImplemented"],
    503: CODES["SlowDown"],
    507: ("full", "", ""),
}

TRUST = "trust it with AWS_CA_BUNDLE, SSL_CERT_FILE, or `ca_bundle` in launcher's config.toml; asked was {where}"
AGAIN = "is {where} right and up, and the network there? trying again may help"
# What the HTTP client says (rustls, hyper, the system's resolver), the first that fits.
TRANSPORT: tuple[tuple[str, str, str, str], ...] = (
    ("UnknownIssuer", "access", "the server's certificate is signed by nobody known here", TRUST),
    ("NotValidForName", "access", "the server's certificate is for another name", TRUST),
    ("InvalidCertificate", "access", "the server's certificate is not valid", TRUST),
    ("CaUsedAsEndEntity", "access", "the server's certificate is one of an authority", TRUST),
    (
        "InvalidContentType",
        "access",
        "the server does not speak TLS",
        "write http:// in the endpoint; asked was {where}",
    ),
    ("non-partial response", "store", "the server sends a whole object where a part was asked for", ""),
    ("redirect without LOCATION", "access", "the bucket lies in another region", REGION),
    ("dns error", "unreachable", "the host's name is not known", AGAIN),
    ("ConnectionRefused", "unreachable", "the connection was refused", AGAIN),
    ("kind: Timeout", "unreachable", "no answer in time", AGAIN),
    ("TimedOut", "unreachable", "no answer in time", AGAIN),
    ("operation timed out", "unreachable", "no answer in time", AGAIN),
    ("HttpError", "unreachable", "the connection broke", AGAIN),
    ("error sending request", "unreachable", "the connection broke", AGAIN),
    ("error decoding response", "unreachable", "the answer broke off", AGAIN),
    ("IncompleteMessage", "unreachable", "the answer broke off", AGAIN),
)
OWNER = "look at the folder's owner and mode"
SLOW = ("no answer in time", "the connection broke")


def translated(error: Exception, place: str, access: Access | None = None) -> LauncherError:
    """Return our error for one of obstore's; `place` is what was asked for. What is unknown becomes a StoreError."""
    from launcher.errors import AccessError, ObjectExistsError, ObjectMissingError

    text, kind, code = str(error), type(error).__name__, code_of(str(error))
    if any(mark in text for mark in FULL) or getattr(error, "errno", None) in (28, 122):
        return made("full", place, "", "", access)
    if code in CODES and code != "InvalidRange":
        return made(CODES[code][0], place, f"{CODES[code][1]} ({code})", CODES[code][2], access)
    if METADATA.search(text):
        return nobody(place, access)
    if kind in ("AlreadyExistsError", "FileExistsError"):
        return ObjectExistsError(f"{place}: exists already, and is written only once")
    if kind in ("FileNotFoundError", "NotFoundError"):
        return ObjectMissingError(f"{place}: is not there")
    if kind in ("PermissionDeniedError", "PermissionError") and status_of(text) is None:
        return AccessError(f"{place}: {said(error)}", hint=OWNER)
    if getattr(error, "errno", None) == errno.EROFS:
        return AccessError(f"{place}: {said(error)}", hint="mount it to be written to, or name another store")
    if kind == "UnauthenticatedError" and status_of(text) is None:
        return AccessError(f"{place}: there are no credentials: {plain(text)}", hint="look at the store's credentials")
    if isinstance(error, OSError) and error.strerror:
        return made("store", place, said(error), "", access)
    return by_answer(text, place, access)


def by_answer(text: str, place: str, access: Access | None) -> LauncherError:
    """Read an error by its HTTP status, or by what the connection came to."""
    if (status := status_of(text)) is not None:
        said = f" ({status}{', ' + (code_of(text) or '') if code_of(text) else ''})"
        told = STATUSES.get(status) or (("unreachable", "the server is in trouble", AGAIN) if status >= 500 else None)
        if told is None or (status == 400 and code_of(text)):
            return made("store", place, f"the store refused{said}: {message_of(text)}", "", access)
        return made(told[0], place, told[1] + said, told[2], access)
    for mark, kind, what, hint in TRANSPORT:
        if mark in text:
            return made(kind, place, what, hint, access)
    return made("store", place, plain(text), "", access)


def made(kind: str, place: str, what: str, hint: str, access: Access | None) -> LauncherError:
    from launcher.errors import AccessError, DiskFullError, StoreError, UnreachableError

    if kind == "full":
        return DiskFullError(f"{place}: no space is left in the store", hint="free some; nothing half-written was kept")
    table: dict[str, type[StoreError]] = {"access": AccessError, "unreachable": UnreachableError, "store": StoreError}
    return table[kind](f"{place}: {what}", hint=hint.format(where=where(access)) or None)


def nobody(place: str, access: Access | None) -> LauncherError:
    """Say that no credentials were found: obstore's last resort, asking the cloud's own metadata, failed."""
    from launcher.errors import AccessError

    hint = f"log in, set the variables, or name a profile; `anonymous` reads a public bucket; asked was {where(access)}"
    return AccessError(f"{place}: this machine has no credentials for it", hint=hint)


def where(access: Access | None) -> str:
    """Return what was asked, as its settings have it."""
    if access is None:
        return "the store"
    settings = access.settings
    place = settings.get("endpoint") or settings.get("account") or access.url.partition("://")[0] + "'s own endpoint"
    return place + (f", region {settings['region']}" if settings.get("region") else "")


def slow(error: Exception) -> bool:
    """Tell an error that smaller and fewer requests may get around."""
    return any(mark in str(error) for mark in SLOW)


def code_of(text: str) -> str | None:
    found = CODE.search(text)
    return next((group for group in found.groups() if group), None) if found else None


def status_of(text: str) -> int | None:
    found = STATUS.search(text)
    return int(next(group for group in found.groups() if group)) if found else None


def message_of(text: str) -> str:
    found = MESSAGE.search(text)
    return next(group for group in found.groups() if group).rstrip(".") if found else "without a reason"


def said(error: Exception) -> str:
    """Return what happened; of a folder without the name that the file had while it was written."""
    return getattr(error, "strerror", None) or plain(str(error))


def plain(text: str) -> str:
    """Return an error's first line without the queries of URLs: signatures stand there."""
    return QUERY.sub(r"\1", text.partition("\n")[0])[:300]
