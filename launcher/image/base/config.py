"""What is taken from a base's config: its environment. The rest of it is not ours to inherit.

Source: OCI Image Format Specification 1.1, "Image Configuration". Entrypoint, Cmd, User, Volumes, WorkingDir and Labels
of a base stay behind: they say how somebody else's program starts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.errors import ImageError

LARGEST_CONFIG = 32 << 20


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """`architecture` and `variant` are OCI's words; `diff_ids` are 64 hex digits each, lowest layer first."""

    architecture: str
    variant: str | None = None
    os: str
    diff_ids: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)


def read_config(path: Path) -> BaseConfig:
    """Read a base's config. Raises ImageError when it isn't one."""
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise ValueError("it is too big to be one")
        told: dict[str, Any] = json.loads(path.read_bytes())
        return BaseConfig(
            architecture=str(told["architecture"]),
            variant=told.get("variant") or None,
            os=str(told["os"]),
            diff_ids=tuple(str(each).removeprefix("sha256:") for each in told["rootfs"]["diff_ids"]),
            env=variables((told.get("config") or {}).get("Env") or []),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ImageError(f"the base's config (sha256 {path.name}) is no image's config: {e!r}") from e


def variables(lines: list[str]) -> dict[str, str]:
    """Return what NAME=VALUE lines say; the last of a name counts."""
    "".join(lines).encode()  # half of a surrogate pair, which JSON can spell, is no text
    return {name: value for name, equals, value in (line.partition("=") for line in lines) if equals and name}
