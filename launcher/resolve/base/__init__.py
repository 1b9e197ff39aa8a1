"""A base from a registry: which bytes a name means today, and what is in them that the rest of a lock hangs on."""

from launcher.resolve.base.facts import Resolved, look_into
from launcher.resolve.base.installed import hidden
from launcher.resolve.base.pull import pin_base, resolve_base

__all__ = ["Resolved", "hidden", "look_into", "pin_base", "resolve_base"]
