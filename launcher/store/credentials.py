"""Where a store's credentials come from while it is open: a file that is read again when it changed, or a function."""

from __future__ import annotations

import os

from launcher.store.access import read_secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime


class Credentials:
    """Reads credentials, and remembers why that failed: obstore would hide it. Threads may share it."""

    def __init__(self, source: Callable[[], Mapping[str, str]]) -> None:
        self._source = source
        self._last: dict[str, str] | None = None
        self.error: Exception | None = None

    def __repr__(self) -> str:
        return "Credentials()"

    def read(self) -> dict[str, str]:
        """Return the credentials of now. Raises AccessError when there is no way to get them."""
        try:
            self._last = dict(self._source())
        except Exception as e:
            self.error = e
            raise
        self.error = None
        return self._last

    def renewed(self) -> bool:
        """Tell whether there are others now than those that were read last."""
        before = self._last
        try:
            return self.read() != before
        except Exception:
            return False


class SecretsFile:
    """A file of credentials, read when it changed. It may be away for a moment while it is renewed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._told: dict[str, str] = {}

    def __call__(self) -> dict[str, str]:
        """Return what the file says. Raises AccessError when it can't be read and never was."""
        from launcher.errors import AccessError

        try:
            stat = os.stat(self.path)
            if (now := (stat.st_ino, stat.st_mtime_ns, stat.st_size)) != self._seen:
                self._told, self._seen = read_secrets(self.path), now
        except (OSError, ValueError) as e:
            if self._seen is None:
                why = getattr(e, "strerror", None) or "it is no JSON object of texts"
                raise AccessError(f"the credentials in {self.path} can't be read: {why}") from None
        return self._told


def moment(text: str) -> datetime:
    """Read a time as the clouds' tools write it (RFC 3339); one without a zone is UTC. Raises ValueError."""
    from datetime import datetime, timezone

    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
