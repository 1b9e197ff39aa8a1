"""The distributions whose archives are known here: what their Release files call themselves, and who signs them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TRUSTED_PARTS = "/etc/apt/trusted.gpg.d"
TRUSTED = "/etc/apt/trusted.gpg"
SOURCES_VARIABLE = "LAUNCHER_APT_SOURCES"


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """An archive of .debs. `name` is its ID in os-release(5), `origin` what its Release files say.

    `keyrings` are the places of its keys, best first, and `keys` is the package that brings them. `everywhere` tells
    that any root of this machine may hold any of its suites, so that all are asked; else those that name the suite.
    """

    name: str
    origin: str
    keyrings: tuple[str, ...]
    keys: str
    everywhere: bool = False

    @property
    def mirror(self) -> str:
        return f"{'an' if self.origin[0] in 'AEIOU' else 'a'} {self.origin} mirror"

    @property
    def give_sources(self) -> str:
        """Return what to do on a machine whose apt sources know no mirror of it."""
        suite = "bookworm" if self.name == "debian" else "noble"
        return (
            f"set {SOURCES_VARIABLE} to a sources file (or a folder of them) with {self.mirror}, such as\n"
            f"    deb [signed-by={self.keyrings[0]}] https://mirror.example.org/{self.name} {suite} main"
        )

    @property
    def get_keys(self) -> str:
        return (
            f"install {self.origin}'s keys (package {self.keys}) or name the right keyring with Signed-By in the apt"
            " source; there is no way to skip the check"
        )

    def found_keyrings(self) -> list[Path]:
        """Return its keyring, and what apt trusts on this machine (apt-secure(8))."""
        parts = Path(TRUSTED_PARTS)
        own = sorted(p for p in parts.iterdir() if p.suffix in (".gpg", ".asc")) if parts.is_dir() else []
        return [path for path in [*map(Path, self.keyrings), Path(TRUSTED), *own] if path.is_file()]


DEBIAN = Distribution(
    name="debian",
    origin="Debian",
    keyrings=(
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "/usr/share/keyrings/debian-archive-keyring.pgp",
    ),
    keys="debian-archive-keyring",
    everywhere=True,
)
UBUNTU = Distribution(
    name="ubuntu",
    origin="Ubuntu",
    keyrings=("/usr/share/keyrings/ubuntu-archive-keyring.gpg",),
    keys="ubuntu-keyring, or ubuntu-archive-keyring on Debian",
)
DISTRIBUTIONS = {one.name: one for one in (DEBIAN, UBUNTU)}
