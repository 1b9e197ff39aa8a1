"""A base without the python3 that starts a run is refused early; a base that its registry lost comes from the vault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import store as stores
from launcher import vault
from launcher.cache import Cache
from launcher.cli.executed import bring_back
from launcher.cli.interpreter import finding, refuse_without_python
from launcher.errors import FetchError, ResolveError, TargetError
from launcher.lock import Deb
from launcher.progress import SILENT
from launcher.resolve import resolve
from launcher.resolve.system import DPKG_SAYS
from tests import bases
from tests.bases import Registry
from tests.test_base import spec

STATUS = b"Package: %s\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with bases.serve() as running:
        yield running


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_a_base_without_python_runs_nothing(registry: Registry, cache: Cache, tmp_path: Path) -> None:
    lock = resolve(spec(tmp_path, registry.push("1", bases.made(bases.system()))), cache=cache)
    found = finding(lock, cache)
    assert found is not None and found.verdict == "refused"
    assert "team/base 1 has no python3" in found.says and "`image: {python: X.Y}`" in (found.hint or "")
    with pytest.raises(TargetError, match="has no python3 on its PATH"):
        refuse_without_python(lock, cache)

    unseen = finding(lock, Cache(tmp_path / "cold"))
    assert unseen is not None and unseen.verdict == "unknown"
    refuse_without_python(lock, Cache(tmp_path / "cold"))
    python = Deb(
        name="python3", version="3", filename="x", size=1, sha256="0" * 64, architecture="amd64", group="apt", pool="x"
    )
    assert finding(replace(lock, debs=(python,)), cache) is None


def test_a_base_with_python_needs_no_word(registry: Registry, cache: Cache, tmp_path: Path) -> None:
    image = bases.made(bases.system(), bases.python())
    lock = resolve(spec(tmp_path, registry.push("1", image)), cache=cache)
    assert lock.python is None and finding(lock, cache) is None
    elsewhere = finding(replace(lock, env={"PATH": "/nowhere"}), cache)
    assert elsewhere is not None and elsewhere.verdict == "refused"


def test_a_python_that_only_dpkg_knows_of_is_refused(registry: Registry, cache: Cache, tmp_path: Path) -> None:
    names = (b"libc6", b"python3", b"python3-minimal", b"python3.11", b"python3.11-minimal")
    image = bases.made(bases.system(**{"var/lib/dpkg/status": b"".join(STATUS % name for name in names)}))
    with pytest.raises(ResolveError) as caught:
        resolve(spec(tmp_path, registry.push("1", image), python="3.11"), cache=cache)
    assert DPKG_SAYS.format(name="team/base") in str(caught.value)


def test_what_a_registry_lost_comes_from_the_vault(registry: Registry, cache: Cache, tmp_path: Path) -> None:
    asked = spec(tmp_path, registry.push("1", bases.made(bases.system())))
    lock = resolve(asked, cache=cache)
    vault.add(lock, cache, stores.open(str(tmp_path / "store")))
    registry.blobs.clear()
    cold = Cache(tmp_path / "cold")
    with pytest.raises(FetchError, match=r"`launcher rebuild LOCK --from STORE`"):
        resolve(asked, cache=cold, previous=lock)
    bring_back(lock, replace(asked, store=str(tmp_path / "store")), cold, SILENT)
    assert resolve(asked, cache=cold, previous=lock) == lock
