"""What the options of the group say, for the verbs: `settings()` within a command."""

from __future__ import annotations

from dataclasses import dataclass

import click


@dataclass(frozen=True, kw_only=True)
class Settings:
    quiet: bool = False
    verbose: int = 0


def settings() -> Settings:
    """Return the settings of the running command, or the defaults outside of one."""
    context = click.get_current_context(silent=True)
    found = context.find_object(Settings) if context else None
    return found or Settings()
