"""Object stores as fixtures: `s3`, `faulty_s3`, `s3_with_users`, `rclone_s3`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault_proxy import fault_proxy
from tests.object_stores import (
    Faulty,
    ObjectStore,
    WithUsers,
    admin,
    behind,
    clear,
    forget_settings,
    moto,
    new_bucket,
    rclone,
)


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """Start the moto that all tests of the session share; `bucket` is empty. Who needs one that is never reset starts
    `moto()`."""
    with moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> ObjectStore:
    """Give the server that `s3` uses: moto, or Ceph with LAUNCHER_TEST_S3=ceph (in tests/services)."""
    name = os.environ.get("LAUNCHER_TEST_S3", "moto")
    server: ObjectStore = request.getfixturevalue(f"{name}_server")
    return server


@pytest.fixture
def s3(s3_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A fresh bucket. The machine's own AWS_* variables are gone; `s3.use(monkeypatch)` sets this one's."""
    forget_settings(monkeypatch)
    store = new_bucket(s3_server)
    yield store
    clear(store)


@pytest.fixture
def faulty_s3(s3: ObjectStore) -> Iterator[Faulty]:
    """A fresh bucket behind a proxy without faults yet: `faulty_s3.proxy.fault(...)`."""
    with fault_proxy(s3.endpoint) as proxy:
        yield behind(s3, proxy)


@pytest.fixture
def rclone_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A bucket of `rclone serve s3`."""
    forget_settings(monkeypatch)
    with rclone(tmp_path) as store:
        yield store


@pytest.fixture(scope="session")
def moto_with_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """Start a moto that checks secrets and rights: from its fourth request on, the three being what makes its admin."""
    with moto(tmp_path_factory.mktemp("moto-users"), INITIAL_NO_AUTH_ACTION_COUNT="3") as server:
        yield admin(server)


@pytest.fixture
def s3_with_users(moto_with_users: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> WithUsers:
    """A fresh bucket of a server that refuses wrong secrets; `.read_only` and `.wrong` are less trusted views."""
    forget_settings(monkeypatch)
    made = new_bucket(moto_with_users)
    return WithUsers(endpoint=made.endpoint, bucket=made.bucket, key=made.key, secret=made.secret)
