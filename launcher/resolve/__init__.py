"""Ask the indexes what a spec means today. Building never comes here: it works from the lock alone."""

from launcher.resolve.spec import resolve
from launcher.resolve.upgrade import Upgrade

__all__ = ["Upgrade", "resolve"]
