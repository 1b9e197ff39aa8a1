"""A certificate for 127.0.0.1 that nobody has signed, as a fixture: `certificate`."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SUBJECT = ("-days", "2", "-subj", "/CN=tests", "-addext", "subjectAltName=IP:127.0.0.1")


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """`path` is what clients may be told to trust; `key` is its private key."""

    path: Path
    key: Path

    @property
    def server(self) -> ssl.SSLContext:
        """What a server presents it with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key)
        return context


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Make one that is no authority: rustls takes none of these for a server's own."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    made = Certificate(path=folder / "certificate.pem", key=folder / "key.pem")
    args = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", *SUBJECT]
    args += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(made.key), "-out", str(made.path)]
    subprocess.run(args, check=True, capture_output=True)
    return made
