"""The HTTP client for one registry: whom it trusts, what it says in logs, and which errors speak of the network.

Trusted are the system's certificates, $SSL_CERT_FILE and $SSL_CERT_DIR (OpenSSL), $REQUESTS_CA_BUNDLE,
$CURL_CA_BUNDLE and $PIP_CERT, and for the registry alone what certs.d holds (containers-certs.d(5)).
"""

from __future__ import annotations

import functools
import logging
import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.credentials import redact
from launcher.errors import FetchError

if TYPE_CHECKING:
    import httpx

CONNECT_S, IDLE_S = 20.0, 60.0
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


def open_client(endpoint: str, *, insecure: bool, environ: Mapping[str, str] = os.environ) -> httpx.Client:
    """Return a client that follows no redirects by itself. An insecure registry's certificate isn't checked."""
    import httpx

    keep_logs_clean()
    timeout = httpx.Timeout(IDLE_S, connect=CONNECT_S, pool=None)
    own = list(certificates(endpoint, environ))
    bundles = tuple(environ[name] for name in BUNDLES if environ.get(name))
    mounts: dict[str, httpx.BaseTransport | None] = {}
    if insecure or own:  # for this host alone: blobs may lie elsewhere
        mounts[f"all://{endpoint}"] = httpx.HTTPTransport(verify=host_context(own, insecure, bundles))
    return httpx.Client(verify=trusting(bundles), timeout=timeout, follow_redirects=False, mounts=mounts)


@functools.cache
def trusting(bundles: tuple[str, ...]) -> ssl.SSLContext:
    """Make a context that is shared: reading the system's certificates takes a fifth of a second."""
    made = ssl.create_default_context()
    for bundle in bundles:
        trust(made, Path(bundle))
    return made


def trust(made: ssl.SSLContext, bundle: Path) -> None:
    try:
        made.load_verify_locations(**{"capath" if bundle.is_dir() else "cafile": str(bundle)})
    except (OSError, ssl.SSLError) as e:
        raise FetchError(f"the certificates in {bundle} can't be read: {e}", hint="mend the variable or file") from e


def host_context(folders: list[Path], insecure: bool, bundles: tuple[str, ...]) -> ssl.SSLContext:
    """Trust what certs.d says of a host: *.crt are authorities, *.cert with *.key who we are."""
    if insecure:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    else:
        made = trusting.__wrapped__(bundles)
    for folder in folders:
        for path in sorted(folder.glob("*.crt")):
            trust(made, path)
        for path in sorted(folder.glob("*.cert")):
            made.load_cert_chain(path, path.with_suffix(".key"))
    return made


def certificates(endpoint: str, environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the folders that hold certificates for a host, the ones of the system last."""
    home = Path(environ.get("HOME") or Path.home())
    for root in (home / ".config/containers", Path("/etc/containers"), Path("/etc/docker")):
        if (folder := root / "certs.d" / endpoint).is_dir():
            yield folder


class Clean(logging.Filter):
    """Takes logins and queries out of what the HTTP client logs: upload sessions and signed links live there."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


class Silenced(logging.Filter):
    """Drops records that hold headers."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "headers" not in record.getMessage()


def keep_logs_clean() -> None:
    for name, kind in (("httpx", Clean), ("httpcore.http11", Silenced), ("httpcore.proxy", Silenced)):
        logger = logging.getLogger(name)
        if not any(isinstance(one, kind) for one in logger.filters):
            logger.addFilter(kind())


def network_errors() -> tuple[type[Exception], ...]:
    """The errors that speak of the network. The client is imported when it is first needed."""
    import httpx

    return (httpx.TransportError, httpx.InvalidURL, httpx.StreamError)


def hopeless(error: Exception) -> bool:
    """Tell an error that no second try mends: a refused certificate, a URL that isn't one."""
    import httpx

    return isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol) or "CERTIFICATE_VERIFY" in str(error)
