"""What all tests share: nothing of this machine's caches and stores is touched, and artifacts are fetched once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.progress import Silent
from tests.debian_mirror import Signer

pytest_plugins = ["tests.spreading", "tests.certificates", "tests.store_fixtures", "tests.services.ceph"]
FOLDERS = {"LAUNCHER_CACHE": "cache", "LAUNCHER_STORE": "store", "XDG_CACHE_HOME": "xdg-cache", "XDG_DATA_HOME": "xdg"}


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Point caches and stores at a folder of this session, for this process and all that it starts.

    pip's and uv's settings stay what they are: tests against real indexes use the ones that this machine is
    configured for.
    """
    root = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in FOLDERS.items():
            patch.setenv(name, str(root / folder))
        patch.delenv("SOURCE_DATE_EPOCH", raising=False)
        yield root


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache that outlives the session when the Makefile names one ($LAUNCHER_TEST_CACHE): real .debs and wheels
    are fetched into it once. A test of cold behaviour makes its own cache and copies artifacts over."""
    kept = os.environ.get("LAUNCHER_TEST_CACHE")
    return Cache(Path(kept) if kept else tmp_path_factory.mktemp("shared-cache"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """A cache of this test's own."""
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    """A key that signs mirrors."""
    one = Signer.make(tmp_path_factory.mktemp("gpg") / "home", "mirror")
    yield one
    one.stop()


class Notes(Silent):
    """Keeps what long work tells."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)
