"""Images of other architectures: they are assembled anywhere, and run only where their programs can."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from launcher.errors import TargetError

if TYPE_CHECKING:
    from launcher.image.oci import Image

KERNELS = {"x86_64": "amd64", "aarch64": "arm64"}
"""uname(2)'s machine -> Debian's and OCI's word (Go's GOARCH, as the OCI image specification has it)."""
ELSEWHERE = "run it on such a machine; `launcher build` makes the image anywhere, since nothing is executed for it"


def here() -> str:
    """Return this machine's architecture in a lock's words; the kernel's own where there is no word."""
    machine = os.uname().machine
    return KERNELS.get(machine, machine)


def refusal(architecture: str) -> str | None:
    """Return why programs of an architecture ("amd64", "arm64") can't run here, or None.

    Emulation (binfmt_misc) doesn't count: the runner's own library in every container, obstore, is this machine's.
    """
    if architecture == (own := here()):
        return None
    return f"the image is for linux/{architecture}, and this machine is linux/{own}"


def refuse(architecture: str) -> None:
    """Raise TargetError when programs of an architecture can't run here."""
    if reason := refusal(architecture):
        raise TargetError(reason, hint=ELSEWHERE)


def of(image: Image) -> str:
    """Return the architecture of an image, by its config."""
    return str(json.loads(image.config).get("architecture", here()))
