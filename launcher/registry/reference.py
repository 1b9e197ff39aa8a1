"""Names of images in registries: what a person writes, and where that is asked for.

Source: the reference grammar of distribution/reference (github.com/distribution/reference), and OCI Distribution
Specification 1.1, "Pulling manifests". The host is always written here: nothing guesses a registry.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from launcher.errors import UsageError

HUB = "docker.io"
HUB_ENDPOINT = "registry-1.docker.io"  # where Docker's own engine asks for images of docker.io
HUB_ALIASES = (HUB, "index.docker.io", HUB_ENDPOINT)
PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?"
GRAMMAR = re.compile(
    rf"(?:docker://)?(?P<host>{HOST})/(?P<name>{PART}(?:/{PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@sha256:(?P<digest>[0-9a-f]{64}))?"
)
DEFAULT_TAG = "latest"
SHAPE = "write HOST/NAME:TAG, as registry.example.org/team/train:1"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An image in a registry. `digest` is 64 hex digits and wins over `tag` where both are there."""

    host: str
    name: str
    tag: str | None = None
    digest: str | None = None

    @property
    def repository(self) -> str:
        """What login files and messages know it by: host and name."""
        return f"{self.host}/{self.name}"

    @property
    def endpoint(self) -> str:
        """The host that answers the API."""
        return HUB_ENDPOINT if self.host == HUB else self.host

    @property
    def asked(self) -> str:
        """The last part of a manifest's URL: a digest or a tag."""
        return f"sha256:{self.digest}" if self.digest else self.tag or DEFAULT_TAG

    def at(self, digest: str) -> Reference:
        """Return the same name at a digest (64 hex digits)."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else "" if self.digest else f":{DEFAULT_TAG}"
        return f"{self.repository}{tag}" + (f"@sha256:{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Read `docker://HOST/NAME[:TAG][@sha256:...]`; `docker://` may be left out. Raises UsageError.

    A first part without a dot, a port, or the word localhost is a user of docker.io to Docker; here it is refused.
    """
    found = GRAMMAR.fullmatch(text)
    if found is None or not is_host(found["host"]):
        raise UsageError(f"`{text}` is no image in a registry", hint=hint(text))
    host, name = found["host"].lower(), found["name"]
    if host in HUB_ALIASES:
        host, name = HUB, name if "/" in name else f"library/{name}"
    return Reference(host=host, name=name, tag=found["tag"], digest=found["digest"])


def is_host(word: str) -> bool:
    return "." in word or ":" in word or word == "localhost"


def hint(text: str) -> str:
    """Say what was probably meant."""
    bare = text.removeprefix("docker://")
    if bare != bare.lower() and GRAMMAR.fullmatch(bare.lower()):
        return f"names of images are lower case: {bare.lower()}"
    first = bare.partition("/")[0]
    if re.fullmatch(r"[a-z0-9._/:@-]+", bare) and not ("/" in bare and is_host(first)):
        return f"name the registry too: for Docker Hub, {HUB}/{bare}"
    return SHAPE


def is_loopback(host: str) -> bool:
    """Tell whether `host[:port]` is this machine: localhost, 127.0.0.0/8 or ::1."""
    bare = bare_host(host)
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return bare == "localhost"


def bare_host(host: str) -> str:
    """Take the port off `host[:port]`, and the brackets off an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
