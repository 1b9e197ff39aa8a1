"""Whom this machine trusts: the file of certificates that its TLS clients read.

The runner gets it, because an image need not have one, and without any its HTTP client doesn't even begin.
"""

from __future__ import annotations

import os
from pathlib import Path

# where distributions keep it: Debian, Fedora, openSUSE, RHEL, Alpine (the list of Go's crypto/x509/root_linux.go)
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def bundle() -> Path | None:
    """Return $SSL_CERT_FILE, or the system's file of certificates; None where there is none."""
    named = os.environ.get("SSL_CERT_FILE")
    places = [Path(place) for place in ([named] if named else []) + list(BUNDLES)]
    return next((place.resolve() for place in places if place.is_file() and os.access(place, os.R_OK)), None)
