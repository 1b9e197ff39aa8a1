"""Multipart uploads to S3 that were begun and never ended: invisible in listings, and paid for until they are aborted.

obstore can't list them, so these two requests are signed here: AWS Signature Version 4, as "Authenticating Requests
(AWS Signature Version 4)" of the Amazon S3 API Reference describes it; ListMultipartUploads and AbortMultipartUpload
of the same. Azure drops uncommitted blocks by itself after a week, and Google unfinished uploads after a week, too.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote, urlencode, urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from xml.etree.ElementTree import Element

    import httpx

    from launcher.store.access import Access

EMPTY = hashlib.sha256(b"").hexdigest()
SAFE = "-_.~"
PAGE = 1000
TIMEOUT_S = 30.0
LIFECYCLE = "a lifecycle rule of the bucket (AbortIncompleteMultipartUpload) removes them without launcher"


class Upload:
    """An upload that was begun. `key` is relative to the store's URL; `begun` is the store's time, in UTC."""

    __slots__ = ("begun", "id", "key")

    def __init__(self, key: str, id: str, begun: datetime) -> None:
        self.key, self.id, self.begun = key, id, begun


class Uploads:
    """The unfinished uploads below an S3 URL."""

    def __init__(self, access: Access, credentials: Mapping[str, str]) -> None:
        """Raises AccessError when there are no credentials to sign with, such as with an instance role."""
        from launcher.errors import AccessError

        if "access_key_id" not in credentials:
            why = f"{access.url}: unfinished uploads can't be listed without an access key at hand"
            raise AccessError(why, hint=LIFECYCLE)
        self.access, self.credentials = access, credentials
        parts = urlsplit(access.url)
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        self.region = access.settings.get("region") or "us-east-1"

    def listed(self, below: str = "") -> Iterator[Upload]:
        """Yield the uploads that were begun below a prefix of the store's keys. Raises StoreError."""
        from datetime import datetime

        query = {"uploads": "", "prefix": self.prefix + below, "max-uploads": str(PAGE)}
        while True:
            page = parsed(self.ask("GET", "", query, "s3:ListBucketMultipartUploads").content)
            for found in page.iter("Upload"):
                begun = datetime.fromisoformat(text(found, "Initiated").replace("Z", "+00:00"))
                yield Upload(text(found, "Key").removeprefix(self.prefix), text(found, "UploadId"), begun)
            if text(page, "IsTruncated") != "true":
                return
            markers = {"key-marker": "NextKeyMarker", "upload-id-marker": "NextUploadIdMarker"}
            query = {**query, **{name: text(page, element) for name, element in markers.items()}}

    def abort(self, upload: Upload) -> None:
        """Remove an upload and its parts; one that is gone is no error. Raises StoreError."""
        self.ask("DELETE", self.prefix + upload.key, {"uploadId": upload.id}, "s3:AbortMultipartUpload")

    def ask(self, method: str, key: str, query: Mapping[str, str], right: str) -> httpx.Response:
        import httpx

        from launcher.errors import UnreachableError

        url = f"{self.base()}/{quote(key, safe=SAFE + '/')}?{encoded(query)}"
        try:
            with httpx.Client(verify=self.trusted(), timeout=TIMEOUT_S) as client:
                answer = client.request(method, url, headers=self.signed(method, url))
        except httpx.HTTPError as e:
            raise UnreachableError(f"{self.access.url}: unfinished uploads can't be listed: {e}") from e
        if answer.is_success or (method == "DELETE" and answer.status_code == 404):
            return answer
        raise self.refusal(answer, right)

    def base(self) -> str:
        """Return the bucket's URL: in the path where there is an endpoint, else in the host's name."""
        settings = self.access.settings
        endpoint = (settings.get("endpoint") or f"https://s3.{self.region}.amazonaws.com").rstrip("/")
        if settings.get("style", "path" if "endpoint" in settings else "virtual") == "path":
            return f"{endpoint}/{self.bucket}"
        scheme, _, host = endpoint.partition("://")
        return endpoint if host.startswith(f"{self.bucket}.") else f"{scheme}://{self.bucket}.{host}"

    def trusted(self) -> ssl.SSLContext:
        """Return the certificates that count: the system's, and those of the store's settings."""
        import ssl

        context = ssl.create_default_context()
        if ca := self.access.settings.get("ca"):
            context.load_verify_locations(cadata=ca)
        return context

    def signed(self, method: str, url: str, now: datetime | None = None) -> dict[str, str]:
        """Return the headers of a request without a body, its signature among them."""
        from datetime import datetime, timezone

        stamp = (now or datetime.now(timezone.utc)).strftime("%Y%m%dT%H%M%SZ")
        parts = urlsplit(url)
        headers = {"host": parts.netloc, "x-amz-content-sha256": EMPTY, "x-amz-date": stamp}
        if token := self.credentials.get("session_token"):
            headers["x-amz-security-token"] = token
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        query = "&".join(sorted(parts.query.split("&")))
        request = "\n".join([method, parts.path or "/", query, lines, names, EMPTY])
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
        signature = hmac.new(self.signing_key(stamp[:8]), to_sign.encode(), hashlib.sha256).hexdigest()
        key = self.credentials["access_key_id"]
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return headers

    def signing_key(self, day: str) -> bytes:
        key = b"AWS4" + self.credentials["secret_access_key"].encode()
        for word in (day, self.region, "s3", "aws4_request"):
            key = hmac.new(key, word.encode(), hashlib.sha256).digest()
        return key

    def refusal(self, answer: httpx.Response, right: str) -> Exception:
        """Return our error for a server's refusal."""
        from launcher.errors import AccessError, StoreError, UnreachableError

        what = f"{self.access.url}: unfinished uploads: the server answered {answer.status_code}"
        if answer.status_code in (401, 403):
            return AccessError(what, hint=f"the credentials need the right {right}; or {LIFECYCLE}")
        if answer.status_code == 429 or answer.status_code >= 500:
            return UnreachableError(what, hint="try again later")
        return StoreError(what, hint=LIFECYCLE)


def encoded(query: Mapping[str, str]) -> str:
    return urlencode(sorted(query.items()), quote_via=quote, safe=SAFE)


def parsed(data: bytes) -> Element:
    """Read XML, without the namespace that some servers put before every name."""
    from xml.etree import ElementTree

    root = ElementTree.fromstring(data)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text(element: Element, name: str) -> str:
    return element.findtext(name) or ""
