"""What the runner needs to reach a store over the network as this machine does: whom to trust, and which proxy to ask.

An image need not have certificates, and without any the runner's HTTP client doesn't even begin.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

# where distributions keep it: Debian, Fedora, openSUSE, RHEL, Alpine (the list of Go's crypto/x509/root_linux.go)
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def bundle() -> Path | None:
    """Return $SSL_CERT_FILE, or the system's file of certificates; None where there is none."""
    named = os.environ.get("SSL_CERT_FILE")
    places = [Path(place) for place in ([named] if named else []) + list(BUNDLES)]
    return next((place.resolve() for place in places if place.is_file() and os.access(place, os.R_OK)), None)


def proxies() -> dict[str, str]:
    """Return this machine's proxy variables. One with a login stays here: environments are shown to many eyes."""
    names = [name for base in PROXIES for name in (base, base.upper())]
    found = {name: value for name in names if (value := os.environ.get(name)) and "@" not in urlsplit(value).netloc}
    return found | {name: os.environ[name] for name in ("no_proxy", "NO_PROXY") if found and os.environ.get(name)}
