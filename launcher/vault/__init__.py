"""The vault: the part of a store that keeps artifacts, so that a rebuild needs no package index."""

from launcher.vault.adding import Added, add, put, stay
from launcher.vault.collecting import collect, look
from launcher.vault.contents import files, listings
from launcher.vault.healing import heal
from launcher.vault.source import VaultSource
from launcher.vault.summary import artifacts, holdings
from launcher.vault.verifying import verify

__all__ = [
    "Added",
    "VaultSource",
    "add",
    "artifacts",
    "collect",
    "files",
    "heal",
    "holdings",
    "listings",
    "look",
    "put",
    "stay",
    "verify",
]
