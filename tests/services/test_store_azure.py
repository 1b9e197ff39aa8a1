"""Azure's protocol, spoken to Azurite, its emulator: installed by npm as the machine is configured for it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from launcher import access
from launcher.access import probing, reach
from launcher.access.azure import EMULATOR, EMULATOR_KEY
from launcher.cache import Cache
from launcher.errors import AccessError, ObjectExistsError, ObjectMissingError
from tests.object_stores import forget_settings, started
from tests.registries import free_port

pytestmark = [pytest.mark.services, pytest.mark.heavy]


@pytest.fixture(scope="session")
def azurite(shared_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run Azurite; give its endpoint."""
    if os.environ.get("LAUNCHER_HEAVY") != "1":
        pytest.skip("fetches 190 MB: set LAUNCHER_HEAVY=1")
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("needs node and npm")
    folder = shared_cache.root / "azurite"
    program = folder / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "azurite"], cwd=folder, check=True, capture_output=True
        )
    port = free_port()
    args = [str(program), "--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    args += ["--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    with started(args, f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("azurite") / "log"):
        yield f"http://127.0.0.1:{port}/{EMULATOR}"


@pytest.fixture
def container(azurite: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A container of this test's own, and the variables that lead to it; give its URL."""
    forget_settings(monkeypatch)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    use(monkeypatch, azurite, EMULATOR_KEY)
    name = "box" + os.urandom(4).hex()
    make(azurite, name)
    return f"az://{name}"


def use(patch: pytest.MonkeyPatch, endpoint: str, key: str) -> None:
    text = f"AccountName={EMULATOR};AccountKey={key};BlobEndpoint={endpoint}"
    patch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)


def make(endpoint: str, container: str) -> None:
    """Make a container ("Create Container", "Authorize with Shared Key" of Azure's REST reference)."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    told = "PUT" + "\n" * 12 + "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    told += f"/{EMULATOR}/{EMULATOR}/{container}\nrestype:container"
    digest = hmac.new(base64.b64decode(EMULATOR_KEY), told.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {EMULATOR}:{base64.b64encode(digest).decode()}"
    request = urllib.request.Request(f"{endpoint}/{container}?restype=container", method="PUT", headers=headers)
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).close()


def test_a_container_keeps_every_promise(container: str, cache: Cache) -> None:
    opened = access.open(container + "/below")
    found = probing.check(opened)
    assert {finding.subject: finding.says for finding in found.findings if finding.verdict != "ok"} == {}
    assert found.exit_code == 0
    assert opened.list() == []
    assert reach(access.of(container), cache).verdict == "ok"


def test_objects_files_and_lists(container: str, tmp_path: Path) -> None:
    opened = access.open(container + "/below")
    data = os.urandom(20_000_000)
    (tmp_path / "up").write_bytes(data)
    opened.put_file("a/big", tmp_path / "up")
    opened.get_file("a/big", tmp_path / "down", sha256=hashlib.sha256(data).hexdigest())
    assert (tmp_path / "down").read_bytes() == data
    opened.create("a/once", b"1")
    with pytest.raises(ObjectExistsError):
        opened.create("a/once", b"2")
    with pytest.raises(ObjectMissingError):
        opened.get("a/missing")
    assert [entry.key for entry in opened.list("a/", after="a/big")] == ["a/once"]
    assert opened.folders() == ("a",)
    opened.put("empty", b"")
    opened.get_file("empty", tmp_path / "empty")
    opened.delete_many(["a/big", "a/once", "a/missing", "empty"])
    assert opened.list() == []


def test_a_wrong_key_and_a_missing_container(container: str, azurite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AccessError, match="no such container"):
        access.open("az://nobody-made-this").list()
    wrong = base64.b64encode(b"x" * 64).decode()
    use(monkeypatch, azurite, wrong)
    with pytest.raises(AccessError) as caught:
        access.open(container).put("a", b"")
    assert wrong not in str(caught.value)


def test_credentials_reach_a_runner_by_a_file(container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from launcher import store

    reached = access.of(container)
    assert access.write_secrets(reached, tmp_path / "secrets")
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    reached.secrets = str(tmp_path / "secrets")
    opened = store.open(reached)
    opened.put("a", b"1")
    assert opened.get("a") == b"1"
