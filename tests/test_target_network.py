"""What the runner gets of this machine to reach a store over the network, and what the command sees of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.store.access import Access
from launcher.target import layout, network
from launcher.target.model import Container, Work
from tests.rootfs import tiny_image
from tests.test_target_local import Desk


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("network-cache"))


@pytest.fixture
def work(cache: Cache, tmp_path: Path) -> Work:
    return Desk(cache, tiny_image(cache), tmp_path).work("true")


def described(work: Work, cache: Cache, folder: Path, store: Access, handed: Path | None = None) -> Container:
    told = Work(job=work.job, image=work.image, code=work.code, store=store)
    return layout.container(told, cache, folder, user=0, group=0, handed=handed)


def test_a_bucket_is_reached_as_this_machine_does(
    work: Work, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.pem").write_text("certificates")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    monkeypatch.setenv("no_proxy", "localhost")
    store = Access("s3://bucket/lab", {"endpoint": "https://objects.example.org", "region": "x"})
    found = described(work, cache, tmp_path / "run", store, tmp_path / "handed")
    mounts = {mount.target: mount for mount in found.mounts}
    assert mounts["/run/launcher/secrets"].source == tmp_path / "handed"
    assert not mounts["/run/launcher/secrets"].writable and not mounts["/run/launcher/ca.pem"].writable
    assert mounts["/run/launcher/ca.pem"].source == tmp_path / "own.pem"
    assert found.env["SSL_CERT_FILE"] == "/run/launcher/ca.pem"
    assert (found.env["https_proxy"], found.env["no_proxy"]) == ("http://proxy.example.org:3128", "localhost")
    told = json.loads((tmp_path / "run" / "inside" / "attempt.json").read_bytes())
    assert told["store"] == {**store.to_json(), "secrets": "/run/launcher/secrets/store.json"}
    assert not {"SSL_CERT_FILE", "https_proxy"} & set(told["environment"])


def test_a_folder_needs_nothing_of_it(
    work: Work, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    found = described(work, cache, tmp_path / "run", Access(str(tmp_path / "store")))
    assert not {"SSL_CERT_FILE", "https_proxy"} & set(found.env)
    assert not [mount for mount in found.mounts if mount.target.endswith(("secrets", "ca.pem"))]
    told = json.loads((tmp_path / "run" / "inside" / "attempt.json").read_bytes())
    assert (told["store"], told["claim"]) == ("file:///run/launcher/store", "wait")


def test_without_credentials_the_node_s_own_role_is_asked(work: Work, cache: Cache, tmp_path: Path) -> None:
    found = described(work, cache, tmp_path / "run", Access("gs://bucket"))
    assert not [mount for mount in found.mounts if mount.target.endswith("secrets")]
    assert json.loads((tmp_path / "run" / "inside" / "attempt.json").read_bytes())["store"]["secrets"] is None


def test_a_proxy_s_login_is_shown_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.example.org:3128")
    assert network.proxies() == {}


def test_who_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    (tmp_path / "link.pem").symlink_to("real.pem")
    (tmp_path / "real.pem").write_text("x")
    monkeypatch.setattr(network, "BUNDLES", (str(tmp_path / "no.pem"), str(tmp_path / "link.pem")))
    assert network.bundle() == tmp_path / "real.pem", "a link would point to nothing inside"
    monkeypatch.setattr(network, "BUNDLES", ())
    assert network.bundle() is None
