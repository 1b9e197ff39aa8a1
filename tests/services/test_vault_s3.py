"""The vault in a bucket: a lock is put in, indexes cut off, the cache removed, and its image comes back the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from launcher import access
from launcher.cache import Cache
from launcher.lock import Lock, digest, load
from launcher.records import sweeping
from launcher.store import keys
from launcher.store.uploads import Upload, Uploads
from tests.object_stores import ObjectStore, WithUsers

pytestmark = [pytest.mark.services, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples"
SPEC = """
name: kept
image:
  base: debian:bookworm
  python: "3.11"
  pip: [attrs, "pyyaml>=6"]
run: [python, -c, "import attrs"]
"""
DEAD = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, shared_cache: Cache) -> Path:
    """A locked project, its artifacts in the shared cache."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "experiment.yaml").write_text(SPEC)
    done = launcher("lock", cwd=folder, LAUNCHER_CACHE=str(shared_cache.root))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def lock(project: Path) -> Lock:
    return load(project / "experiment.lock")


@pytest.fixture
def bucket(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    s3.use(monkeypatch)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return s3


def launcher(*args: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launcher", *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=900)


def cut_off(folder: Path) -> dict[str, str]:
    """Return variables with which pip's, uv's and apt's configuration name nothing but a port where nobody listens."""
    (folder / "dead.list").write_text(f"deb {DEAD}/debian bookworm main\n")
    nothing = dict.fromkeys(("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS", "UV_INDEX_URL"), "")
    indexes = {"PIP_INDEX_URL": f"{DEAD}/simple", "UV_DEFAULT_INDEX": f"{DEAD}/simple"}
    files = {"PIP_CONFIG_FILE": os.devnull, "LAUNCHER_APT_SOURCES": str(folder / "dead.list")}
    return {**nothing, **indexes, **files, "UV_NO_CONFIG": "1", "LAUNCHER_CACHE": str(folder / "empty")}


def flip(store: ObjectStore, key: str) -> None:
    """Flip one bit in the middle of an object."""
    client = store.client()
    data = bytearray(client.get_object(Bucket=store.bucket, Key=key)["Body"].read())
    data[len(data) // 2] ^= 1
    client.put_object(Bucket=store.bucket, Key=key, Body=bytes(data))
    client.close()


def added(bucket: ObjectStore, project: Path, cache: Cache) -> str:
    """Put the project's lock into the bucket; return what was printed."""
    done = launcher("vault", "add", "experiment.lock", "--to", bucket.url, cwd=project, LAUNCHER_CACHE=str(cache.root))
    assert done.returncode == 0, done.stderr
    return done.stdout


def rebuilt_from(bucket: ObjectStore, lock: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Rebuild with every index cut off and an empty cache."""
    return launcher("rebuild", lock, "--from", bucket.url, "--offline", cwd=folder, **cut_off(folder))


def test_a_lock_comes_back_with_every_index_cut_off(
    bucket: ObjectStore, project: Path, lock: Lock, shared_cache: Cache, tmp_path: Path
) -> None:
    assert " 0 were there" in added(bucket, project, shared_cache)
    assert added(bucket, project, shared_cache).startswith("0 files copied")
    assert lock.image
    done = rebuilt_from(bucket, project / "experiment.lock", tmp_path)
    assert (done.stdout, done.returncode) == (f"identical sha256:{lock.image.id}\n", 0), done.stderr

    alone = {**cut_off(tmp_path), "LAUNCHER_CACHE": str(tmp_path / "empty too")}
    lost = launcher("build", project / "experiment.lock", cwd=tmp_path, **alone)
    assert lost.returncode == 69, "the indexes really are cut off"
    shutil.copy(project / "experiment.lock", tmp_path)
    (tmp_path / "experiment.yaml").write_text(SPEC + f"store: {bucket.url}\n")
    found = launcher("build", cwd=tmp_path, **alone)
    assert found.returncode == 0 and f"image sha256:{lock.image.id}" in found.stdout, found.stderr


def test_a_flipped_bit_is_found_named_and_healed(
    bucket: ObjectStore, project: Path, lock: Lock, shared_cache: Cache, tmp_path: Path
) -> None:
    added(bucket, project, shared_cache)
    [wheel] = [wheel for wheel in lock.wheels if wheel.name == "attrs"]
    flip(bucket, keys.artifact(wheel.sha256))

    found = launcher("vault", "verify", "--store", bucket.url, "--all", cwd=tmp_path)
    assert found.returncode == 76
    named = f"attrs {wheel.version}: {wheel.filename} (sha256 {wheel.sha256}, lock {digest(lock)[:12]}) is damaged"
    assert named in found.stderr

    rebuilt = rebuilt_from(bucket, project / "experiment.lock", tmp_path)
    assert rebuilt.returncode == 76 and "was only to be had with other bytes" in rebuilt.stderr
    online = {"LAUNCHER_CACHE": str(tmp_path / "online")}
    shutil.copytree(tmp_path / "empty", tmp_path / "online")  # all but what was damaged
    fallen = launcher("rebuild", project / "experiment.lock", "--from", bucket.url, cwd=tmp_path, **online)
    assert fallen.returncode == 0 and fallen.stdout.startswith("identical"), fallen.stderr
    assert f"gave a wrong {wheel.filename}" in fallen.stderr and "came from elsewhere" in fallen.stderr

    cold = {"LAUNCHER_CACHE": str(tmp_path / "cold")}
    healed = launcher("vault", "verify", "--store", bucket.url, "--all", "--heal", "--json", cwd=tmp_path, **cold)
    assert healed.returncode == 0, healed.stderr
    [cure] = json.loads(healed.stdout)["healed"]
    assert cure["key"] == keys.artifact(wheel.sha256) and cure["from"]
    again = launcher("vault", "verify", "--store", bucket.url, "--all", cwd=tmp_path)
    assert again.returncode == 0 and "everything is as it should be" in again.stdout
    assert rebuilt_from(bucket, project / "experiment.lock", tmp_path).returncode == 0


def test_a_vault_is_healed_from_another_and_from_this_machine(
    bucket: ObjectStore, project: Path, lock: Lock, shared_cache: Cache, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    warm = {"LAUNCHER_CACHE": str(shared_cache.root)}
    assert launcher("vault", "add", "experiment.lock", "--to", other, cwd=project, **warm).returncode == 0
    added(bucket, project, shared_cache)
    deb, wheel = lock.debs[0], lock.wheels[0]
    flip(bucket, keys.artifact(deb.sha256))
    client = bucket.client()
    client.delete_object(Bucket=bucket.bucket, Key=keys.artifact(wheel.sha256))
    client.close()
    verify = ("vault", "verify", project / "experiment.lock", "--store", bucket.url, "--all", "--heal")
    nowhere = launcher(*verify, cwd=tmp_path, **cut_off(tmp_path))
    assert nowhere.returncode == 76 and "0 of them healed" in nowhere.stdout
    assert f"{wheel.filename}" in nowhere.stderr and "is missing, and can't be healed" in nowhere.stderr
    healed = launcher(*verify, "--from", other, cwd=tmp_path, **cut_off(tmp_path))
    assert healed.returncode == 0 and healed.stdout.count(f"healed from the vault in {other}") == 2, healed.stderr
    flip(bucket, keys.artifact(deb.sha256))
    healed = launcher(*verify, cwd=tmp_path, **cut_off(tmp_path) | warm)
    assert "healed from this machine's cache" in healed.stdout, healed.stderr


def test_a_bucket_is_listed_and_swept(
    bucket: ObjectStore, project: Path, lock: Lock, shared_cache: Cache, tmp_path: Path
) -> None:
    added(bucket, project, shared_cache)
    store = access.open(bucket.url)
    store.put(keys.artifact("a" * 64), b"nobody's")
    told = json.loads(launcher("vault", "list", "--store", bucket.url, "--json", cwd=tmp_path).stdout)
    [line] = told["locks"]
    assert line["digest"] == digest(lock) and line["missing"] == 0 and line["own"] == line["size"] > 10_000_000
    assert (told["other"], told["other_size"]) == (1, 8)
    young = launcher("vault", "gc", "--store", bucket.url, cwd=tmp_path)
    assert "would delete 0 files" in young.stdout and "1 more (8 B) are younger than 1d" in young.stdout
    store.now()  # moto's clock has whole seconds
    done = launcher("vault", "gc", "--store", bucket.url, "--older-than", "1s", "--delete", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    if not told["files"]:  # both happened within one second
        done = launcher("vault", "gc", "--store", bucket.url, "--older-than", "1s", "--delete", "--json", cwd=tmp_path)
        told = json.loads(done.stdout)
    assert [found["key"] for found in told["found"]] == [keys.artifact("a" * 64)]
    assert rebuilt_from(bucket, project / "experiment.lock", tmp_path).stdout.startswith("identical")


def test_unfinished_uploads_are_found_and_aborted(bucket: ObjectStore, tmp_path: Path) -> None:
    begun = begin_uploads(bucket)
    [one] = sweep_uploads(bucket)
    assert one.id == begun and one.begun < datetime.now(timezone.utc)  # moto says the same time of all, years ago
    told = launcher("store", "gc", "--store", bucket.url, "--older-than", "1s", "--json", cwd=tmp_path)
    assert [found["key"] for found in json.loads(told.stdout)["found"]] == ["elsewhere"], told.stderr


def begin_uploads(store: ObjectStore) -> str:
    """Begin two uploads, one of them below a prefix with odd names; return its id."""
    client = store.client()
    key = f"a prefix/{keys.output('run', 1, 'a+b ~é')}"
    begun: str = client.create_multipart_upload(Bucket=store.bucket, Key=key)["UploadId"]
    client.upload_part(Bucket=store.bucket, Key=key, UploadId=begun, PartNumber=1, Body=b"x" * 1000)
    client.create_multipart_upload(Bucket=store.bucket, Key="elsewhere")
    client.close()
    return begun


def sweep_uploads(bucket: ObjectStore) -> list[Upload]:
    """Abort what was begun below the prefix, and nothing else; return what that was."""
    url = f"{bucket.url}/a prefix"
    reached = access.of(url)
    uploads = Uploads(reached, access.credentials(reached))
    listed = list(uploads.listed())
    store = access.open(url)
    [found] = sweeping.look(store, timedelta(seconds=-60), uploads=uploads)
    assert found.kind == "upload" and found.why == "an upload that was never ended"
    assert found.key == keys.output("run", 1, "a+b ~é")
    assert sweeping.clear(store, [found], timedelta(0), uploads) == (found,)
    client = bucket.client()
    left = client.list_multipart_uploads(Bucket=bucket.bucket)["Uploads"]
    client.close()
    assert [upload["Key"] for upload in left] == ["elsewhere"]
    return listed


def test_signatures_are_those_that_a_server_checks(
    s3_with_users: WithUsers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """This server refuses wrong signatures; whoever may only read is told what is missing, and the rest goes on."""
    s3_with_users.use(monkeypatch)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    client = s3_with_users.client()
    client.create_multipart_upload(Bucket=s3_with_users.bucket, Key="runs/a/blobs/x y")
    client.close()
    reached = access.of(s3_with_users.url)
    [one] = Uploads(reached, access.credentials(reached)).listed("runs/")
    assert one.key == "runs/a/blobs/x y"
    s3_with_users.read_only.use(monkeypatch)
    done = launcher("vault", "list", "--store", s3_with_users.url, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "0 locks, 0 files, 0 B\n", done.stderr


@pytest.mark.heavy
@pytest.mark.skipif(not os.environ.get("LAUNCHER_HEAVY"), reason="set LAUNCHER_HEAVY=1 to build an image with torch")
def test_the_torch_example_comes_back_with_every_index_cut_off(
    bucket: ObjectStore, shared_cache: Cache, tmp_path: Path
) -> None:
    """Put in, all indexes cut off, the cache removed, rebuilt identical; a flipped bit of torch is healed."""
    project = Path(shutil.copytree(EXAMPLES / "torch", tmp_path / "torch"))
    warm = {"LAUNCHER_CACHE": str(shared_cache.root)}
    locking = launcher("lock", cwd=project, **warm)
    assert locking.returncode == 0, locking.stderr
    added(bucket, project, shared_cache)
    lock = load(project / "experiment.lock")
    assert lock.image
    [torch] = [wheel for wheel in lock.wheels if wheel.name == "torch"]
    done = rebuilt_from(bucket, project / "experiment.lock", tmp_path)
    assert (done.stdout, done.returncode) == (f"identical sha256:{lock.image.id}\n", 0), done.stderr
    shutil.rmtree(tmp_path / "empty")
    flip(bucket, keys.artifact(torch.sha256))
    verify = ("vault", "verify", "experiment.lock", "--store", bucket.url, "--all")
    found = launcher(*verify, cwd=project, **cut_off(tmp_path))
    assert found.returncode == 76 and f"torch {torch.version}: {torch.filename}" in found.stderr
    healed = launcher(*verify, "--heal", cwd=project, **cut_off(tmp_path) | warm)
    assert healed.returncode == 0 and "healed from this machine's cache" in healed.stdout, healed.stderr
    assert launcher(*verify, cwd=project).returncode == 0
