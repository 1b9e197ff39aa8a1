"""TLS: a registry's certificate is checked unless this machine says otherwise, and never by trying in clear."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import FetchError
from launcher.registry import session
from launcher.registry.pull import manifest
from launcher.registry.reference import parse
from launcher.registry.session import Session
from launcher.registry.settings import Place
from tests.certificates import Certificate
from tests.registry_server import Registry, serve


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FIRST_PAUSE_S", 0.0)


@pytest.fixture
def registry(certificate: Certificate) -> Iterator[Registry]:
    with serve(tls=certificate.server) as running:
        running.add_image([b"layer"])
        yield running


def ask(registry: Registry, home: Path, *, insecure: bool = False, **env: str) -> int:
    """Ask for the image's manifest; loopback is no exception unless `insecure` says so."""
    place = Place(reference=parse(f"{registry.host}/team/x:1"), insecure=insecure)
    one = Session(place, environ={"HOME": str(home), **env})
    with one.request("GET", one.url("manifests/1")) as response:
        return response.status_code


def test_an_unknown_certificate_is_refused_at_once(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(registry, tmp_path)
    assert not registry.requests


def test_bundles_and_certs_d_are_trusted(registry: Registry, tmp_path: Path, certificate: Certificate) -> None:
    assert ask(registry, tmp_path, REQUESTS_CA_BUNDLE=str(certificate.path)) == 200
    folder = tmp_path / ".config" / "containers" / "certs.d" / registry.host
    folder.mkdir(parents=True)
    shutil.copy(certificate.path, folder / "ca.crt")
    assert ask(registry, tmp_path) == 200


def test_a_bundle_that_is_not_there_is_named(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"nothing\.pem can't be read"):
        ask(registry, tmp_path, PIP_CERT=str(tmp_path / "nothing.pem"))


def test_an_insecure_registry_may_speak_tls(registry: Registry, cache: Cache, tmp_path: Path) -> None:
    assert ask(registry, tmp_path, insecure=True) == 200
    found = manifest(parse(f"{registry.host}/team/x:1"), "linux/amd64", cache, environ={"HOME": str(tmp_path)})
    assert len(found.layers) == 1


def test_a_secure_registry_is_never_asked_in_clear(tmp_path: Path) -> None:
    with serve() as registry:
        with pytest.raises(FetchError):
            ask(registry, tmp_path)
        assert not registry.requests


def test_nothing_leads_out_of_tls(tmp_path: Path, registry: Registry, certificate: Certificate) -> None:
    with serve() as storage:
        registry.blobs["a" * 64] = b"x"
        registry.elsewhere = f"http://{storage.host}"
        place = Place(reference=parse(f"{registry.host}/x"), insecure=False)
        one = Session(place, environ={"HOME": str(tmp_path), "REQUESTS_CA_BUNDLE": str(certificate.path)})
        with pytest.raises(FetchError, match="is not https"), one.request("GET", one.url(f"blobs/sha256:{'a' * 64}")):
            pass
        assert not storage.requests
