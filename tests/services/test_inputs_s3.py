"""Inputs in object storage: pinned once, staged once per node, shared by digest, refused when they changed."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher import access
from launcher.cache import Cache
from launcher.errors import AccessError, DiskFullError, FetchError, IntegrityError, UnreachableError
from launcher.inputs import Staged, add, fit, pin, room, stage
from launcher.inputs.shelf import Shelf
from launcher.lock import DataPin, Lock
from launcher.lock.inputs import inputs
from launcher.spec.model import CodeSpec, DataSpec, ImageSpec, Spec
from launcher.store import keys
from tests.conftest import Notes
from tests.object_stores import Faulty, ObjectStore
from tests.patience import LONG_S

pytestmark = pytest.mark.services
FILES = {"a.txt": b"a", "sub/b.bin": b"bb" * 1000, "sub/ü and space.txt": b"c", "x%20y#z.txt": b"d", "empty": b""}


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("LAUNCHER_INPUTS", "LAUNCHER_INPUTS_MAX"):
        monkeypatch.delenv(name, raising=False)
    yield


@pytest.fixture
def bucket(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    s3.use(monkeypatch)
    yield s3


def upload(store: ObjectStore, prefix: str, files: dict[str, bytes]) -> None:
    """Put objects there by another hand than ours."""
    client = store.client()
    for name, data in files.items():
        client.put_object(Bucket=store.bucket, Key=prefix + name, Body=data)
    client.close()


def local(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def spec_of(tmp_path: Path, *data: DataSpec) -> Spec:
    file = tmp_path / "x.yaml"
    return Spec(name="x", image=ImageSpec(), code=CodeSpec(root=tmp_path), run="true", data=data, file=file)


def lock_of(spec: Spec, *pins: DataPin) -> Lock:
    return Lock(inputs=inputs(spec), suite="bookworm", architecture="amd64", python=None, libc="glibc 2.36", data=pins)


def contents(staged: Staged) -> dict[str, bytes]:
    files = (path for path in staged.path.rglob("*") if path.is_file())
    return {path.relative_to(staged.path).as_posix(): path.read_bytes() for path in files}


def test_a_prefix_has_the_digest_of_the_same_folder(bucket: ObjectStore, cache: Cache, tmp_path: Path) -> None:
    upload(bucket, "set/v1/", FILES)
    upload(bucket, "set/v1/", {"": b"", "sub/": b"", "no files/": b""})  # as web consoles make folders
    upload(bucket, "set/v1-not/", {"z": b"z"})
    source = DataSpec(name="d", url=f"{bucket.url}/set/v1/")
    pinned = pin(source, cache)
    assert pinned == pin(DataSpec(name="d", path=local(tmp_path / "same", FILES)), cache)
    staged = stage(pinned, source, cache)
    assert (staged.origin, contents(staged)) == ("cache", FILES)


def test_one_object_is_a_file(bucket: ObjectStore, cache: Cache) -> None:
    data = os.urandom(3 << 20)
    upload(bucket, "models/", {"w.bin": data})
    source = DataSpec(name="m", url=f"{bucket.url}/models/w.bin")
    pinned = pin(source, cache)
    assert (pinned.kind, pinned.size, pinned.sha256) == ("file", len(data), hashlib.sha256(data).hexdigest())
    assert stage(pinned, source, cache).path.read_bytes() == data
    given = DataSpec(name="m", url=source.url, sha256=pinned.sha256)
    assert pin(given, cache) == pinned
    with pytest.raises(IntegrityError, match="and the spec says"):
        pin(DataSpec(name="m", url=source.url, sha256="0" * 64), cache)


def test_what_is_not_there_is_told(bucket: ObjectStore, cache: Cache) -> None:
    upload(bucket, "set/", {"a": b"a"})
    with pytest.raises(FetchError, match=r"there is no object .*\n.*write .*/set/ with a slash"):
        pin(DataSpec(name="d", url=f"{bucket.url}/set"), cache)
    with pytest.raises(FetchError, match="there is nothing below"):
        pin(DataSpec(name="d", url=f"{bucket.url}/no/"), cache)
    with pytest.raises(AccessError):
        pin(DataSpec(name="d", url="s3://no-such-bucket-here/x/"), cache)


def test_what_was_read_once_is_not_read_again(
    faulty_s3: Faulty, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_s3.use(monkeypatch)
    upload(faulty_s3.direct, "set/", {**FILES, "big": os.urandom(3 << 20)})
    source = DataSpec(name="d", url=f"{faulty_s3.url}/set/")
    pinned = pin(source, cache)
    before = faulty_s3.proxy.down
    assert before > 3 << 20
    room.trim(Shelf.of(cache), 1 << 40)
    assert pin(source, cache) == pinned
    spec = spec_of(tmp_path, source)
    assert not fit(lock_of(spec, pinned), spec, cache).changed
    assert faulty_s3.proxy.down - before < 100_000
    assert room.used(Shelf.of(cache)) == 0, "a pin that is known takes no room"
    assert stage(pinned, source, cache).origin == "source"


def test_a_changed_source_is_refused_with_what_changed(bucket: ObjectStore, cache: Cache, tmp_path: Path) -> None:
    upload(bucket, "set/", FILES)
    source = DataSpec(name="d", url=f"{bucket.url}/set/")
    spec = spec_of(tmp_path, source)
    pinned = pin(source, cache)
    upload(bucket, "set/", {"a.txt": b"A", "new": b"n", "sub/b.bin": b"short"})
    client = bucket.client()
    client.delete_object(Bucket=bucket.bucket, Key="set/empty")
    client.close()
    room.remove(Shelf.of(cache), pinned.sha256)
    room.sweep(Shelf.of(cache), 0)
    [problem] = fit(lock_of(spec, pinned), spec, cache).changed
    told = ["removed: empty", "added: new", "changed: sub/b.bin (2000 bytes, now 5)"]
    assert [line.strip() for line in problem.message.splitlines()[1:]] == told
    with pytest.raises(IntegrityError, match="is not what was locked"):
        stage(pinned, source, cache)
    upload(bucket, "set/", {**FILES, "a.txt": b"A"})
    client = bucket.client()
    client.delete_object(Bucket=bucket.bucket, Key="set/new")
    client.close()
    elsewhere = fit(lock_of(spec, pinned), spec, Cache(tmp_path / "new"))
    assert not elsewhere.changed and not elsewhere.unknown, (
        "a machine that never read it sees the same sizes, and goes by the digest when it stages"
    )
    [changed] = fit(lock_of(spec, pinned), spec, cache).changed
    assert changed.message.endswith("\n  changed: a.txt")
    room.sweep(Shelf.of(cache), 0)
    with pytest.raises(IntegrityError, match=r"\n  changed: a.txt"):  # of the same size: found by its bytes
        stage(pinned, source, cache)


def test_an_unreachable_source_leaves_the_lock_alone(
    faulty_s3: Faulty, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_s3.use(monkeypatch)
    upload(faulty_s3.direct, "set/", FILES)
    source = DataSpec(name="d", url=f"{faulty_s3.url}/set/")
    pinned, spec = pin(source, cache), spec_of(tmp_path, source)
    stage(pinned, source, cache)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = fit(lock_of(spec, pinned), spec, cache)
    assert not found.changed and "can't be asked" in found.unknown[0]
    assert stage(pinned, source, cache).origin == "cache"


def test_another_machine_finds_what_was_added(bucket: ObjectStore, cache: Cache, tmp_path: Path) -> None:
    folder = local(tmp_path / "data", {**FILES, "big": os.urandom(2 << 20)})
    (folder / "link").symlink_to("a.txt")
    source, store = DataSpec(name="d", path=folder), access.open(f"{bucket.url}/store")
    pinned = pin(source, cache)
    here = stage(pinned, source, cache)
    first = add(pinned, here, source, cache, store)
    assert (first.sent, first.present) == (6, 0)
    again = add(pinned, here, source, cache, store)
    assert (again.sent, again.present, again.bytes) == (0, 6, 0)
    elsewhere = Cache(tmp_path / "elsewhere")
    with pytest.raises(FetchError, match="is not on this node"):
        stage(pinned, None, elsewhere)
    staged = stage(pinned, None, elsewhere, store=store)
    assert staged.origin == "store" and (staged.path / "link").readlink() == Path("a.txt")
    assert contents(staged)["big"] == (folder / "big").read_bytes()
    assert stage(pinned, None, elsewhere, store=store).origin == "cache"


def test_a_damaged_content_in_the_store_is_named_and_passed_over(
    bucket: ObjectStore, cache: Cache, tmp_path: Path
) -> None:
    upload(bucket, "set/", FILES)
    source, store = DataSpec(name="d", url=f"{bucket.url}/set/"), access.open(f"{bucket.url}/store")
    pinned = pin(source, cache)
    add(pinned, stage(pinned, source, cache), source, cache, store)
    damaged = keys.artifact(hashlib.sha256(b"a").hexdigest())
    store.put(damaged, b"!")
    with pytest.raises(FetchError, match=f"has other bytes under {damaged}"):
        stage(pinned, None, Cache(tmp_path / "one"), store=store)
    staged = stage(pinned, source, Cache(tmp_path / "two"), store=store)
    assert staged.origin == "source" and contents(staged) == FILES


def test_trouble_on_the_way_is_ridden_out(
    faulty_s3: Faulty, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_s3.use(monkeypatch)
    monkeypatch.setattr("launcher.inputs.gather.PAUSES_S", (0.1,) * 6)
    files = {**{f"{n:03}": str(n).encode() * 100 for n in range(60)}, "big": os.urandom(3 << 20)}
    upload(faulty_s3.direct, "set/", files)
    source = DataSpec(name="d", url=f"{faulty_s3.url}/set/")
    faulty_s3.proxy.fault("answer", only="GET .*/set/0", status=503, code="SlowDown", times=40)
    faulty_s3.proxy.fault("cut-response", only="GET .*/set/big", after=200_000, times=2)
    pinned = pin(source, cache)
    assert pinned == pin(DataSpec(name="d", path=local(tmp_path / "same", files)), cache)
    other = Cache(tmp_path / "other")
    Shelf.of(other).note_list(pinned.sha256, Shelf.of(cache).listed(pinned.sha256) or [])
    faulty_s3.proxy.fault("flip-response", only="GET .*/set/005", after=3, times=1)
    assert contents(stage(pinned, source, other)) == files, "a bit that flipped on the way is no change"


def test_no_room_is_told_before_anything_is_fetched(
    faulty_s3: Faulty, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_s3.use(monkeypatch)
    upload(faulty_s3.direct, "set/", {"big": os.urandom(2 << 20)})
    monkeypatch.setenv("LAUNCHER_INPUTS_MAX", "1M")
    with pytest.raises(DiskFullError, match=r"takes 2.1 MB, and inputs may take 1.0 MB .*\n.*LAUNCHER_INPUTS_MAX"):
        pin(DataSpec(name="d", url=f"{faulty_s3.url}/set/"), cache)
    assert room.used(Shelf.of(cache)) == 0


CHILD = """
import sys, time
from pathlib import Path
from launcher.cache import Cache
from launcher.inputs import pin, stage
from launcher.spec.model import DataSpec
source = DataSpec(name="d", url=sys.argv[2])
cache = Cache(Path(sys.argv[1]))
print("begun", flush=True)
staged = stage(pin(source, cache), source, cache)
print(staged.origin, len(list(staged.path.rglob("*"))), flush=True)
"""


def child(cache: Path, url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(cache), url], stdout=subprocess.PIPE)


def test_a_killed_download_goes_on(bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access.open(bucket.url).put_many((f"set/{n:04}", str(n).encode() * 10) for n in range(400))
    url, root = f"{bucket.url}/set/", tmp_path / "cache"
    first = child(root, url)
    assert first.stdout and first.stdout.readline() == b"begun\n"
    files = root / "inputs" / "files" / "sha256"
    until = time.monotonic() + LONG_S
    while time.monotonic() < until and (not files.exists() or len(list(files.glob("*/*"))) < 20):
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    with child(root, url) as second:
        assert second.stdout and second.stdout.read().split() == [b"begun", b"cache", b"400"]
    room.sweep(Shelf.of(Cache(root)), 0)
    assert not list((root / "inputs" / "partial").iterdir())


def test_a_big_object_goes_on_piece_by_piece(faulty_s3: Faulty, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty_s3.use(monkeypatch)
    monkeypatch.setattr("launcher.inputs.pieces.FROM_BYTES", 1 << 20)
    monkeypatch.setattr("launcher.inputs.pieces.PIECE_BYTES", 1 << 20)
    monkeypatch.setattr("launcher.inputs.gather.PAUSES_S", ())
    data = os.urandom((10 << 20) + 5)
    upload(faulty_s3.direct, "", {"big": data})
    source, shelf = DataSpec(name="d", url=f"{faulty_s3.url}/big"), Shelf.of(cache)
    broken = faulty_s3.proxy.fault("answer", only="GET .*/big", status=503, code="SlowDown", skip=6)
    with pytest.raises(UnreachableError):
        pin(source, cache)
    [part] = (shelf.root / "partial").glob("*.pieces")
    there = len(part.read_text().splitlines())
    assert 3 <= there <= 6
    faulty_s3.proxy.faults.remove(broken)
    before = faulty_s3.proxy.down
    assert pin(source, cache).sha256 == hashlib.sha256(data).hexdigest()
    assert faulty_s3.proxy.down - before < len(data) - (there << 20) + 100_000
    assert not list((shelf.root / "partial").iterdir())


def test_one_process_fetches_for_all(faulty_s3: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty_s3.use(monkeypatch)
    upload(faulty_s3.direct, "set/", {f"{n:03}": os.urandom(20_000) for n in range(100)})
    running = [child(tmp_path / "cache", f"{faulty_s3.url}/set/") for _ in range(3)]
    for process in running:
        with process:
            assert process.stdout and process.stdout.read().split()[-1] == b"100"
    assert 2_000_000 <= faulty_s3.proxy.down < 2_500_000, "each file came once"


def dvc_repository(root: Path, files: dict[str, bytes], remote: str, endpoint: str) -> tuple[Path, dict[str, bytes]]:
    """Write what `dvc add data && dvc push` leaves: the pin, the settings, and the remote's objects."""
    rows = [{"md5": hashlib.md5(data).hexdigest(), "relpath": name} for name, data in sorted(files.items())]
    listing = json.dumps(rows).encode()
    digest = hashlib.md5(listing).hexdigest()
    size = sum(map(len, files.values()))
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").write_text(
        f"[core]\n    remote = far\n['remote \"far\"']\n    url = {remote}\n    endpointurl = {endpoint}\n"
    )
    pinned = root / "data.dvc"
    pinned.write_text(
        f"outs:\n- md5: {digest}.dir\n  size: {size}\n  nfiles: {len(files)}\n  hash: md5\n  path: data\n"
    )
    named = {hashlib.md5(data).hexdigest(): data for data in files.values()}
    objects = {f"files/md5/{md5[:2]}/{md5[2:]}": data for md5, data in named.items()}
    return pinned, {**objects, f"files/md5/{digest[:2]}/{digest[2:]}.dir": listing}


def test_a_dvc_file_is_read_from_its_remote(bucket: ObjectStore, cache: Cache, tmp_path: Path) -> None:
    files = {name: data for name, data in FILES.items() if "%" not in name}
    pinned_by, objects = dvc_repository(tmp_path / "repo", files, f"{bucket.url}/dvc", bucket.endpoint)
    upload(bucket, "dvc/", objects)
    source = DataSpec(name="d", path=pinned_by)
    pinned = pin(source, cache)
    assert pinned == pin(DataSpec(name="d", path=local(tmp_path / "same", files)), cache)
    assert contents(stage(pinned, source, cache)) == files
    damaged = next(key for key, data in objects.items() if data == b"a")
    upload(bucket, "dvc/", {damaged: b"!"})
    with pytest.raises(IntegrityError, match=r"and .* is pinned"):
        pin(source, Cache(tmp_path / "other"))


@pytest.mark.slow
def test_thousands_of_files_come_quickly_in_bounded_memory(bucket: ObjectStore, cache: Cache) -> None:
    store = access.open(bucket.url)
    store.put_many((f"many/{n % 50}/{n:05}", n.to_bytes(4, "big") * 500) for n in range(2000))
    source = DataSpec(name="d", url=f"{bucket.url}/many/")
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pinned = pin(source, cache)
    read = time.monotonic()
    staged = stage(pinned, source, cache)
    ready = time.monotonic()
    again = stage(pinned, source, cache)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"2000 files: pinned in {read - began:.1f} s, staged in {ready - read:.1f} s, {grown} KiB more")
    assert len(list(staged.path.glob("*/*"))) == 2000 and again.path == staged.path
    assert grown < 60_000


def launcher(*args: str, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "launcher", *args], env={**os.environ, **env}, capture_output=True, timeout=120
    )


def told(done: subprocess.CompletedProcess[bytes]) -> Any:
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_the_command_line_adds_lists_and_prunes(bucket: ObjectStore, tmp_path: Path) -> None:
    upload(bucket, "set/", FILES)
    spec = tmp_path / "experiment.yaml"
    spec.write_text(f"name: x\nrun: 'true'\ndata:\n  d: {bucket.url}/set/\n  f: {bucket.url}/set/a.txt\n")
    env = {"LAUNCHER_CACHE": str(tmp_path / "cache"), "LAUNCHER_STORE": f"{bucket.url}/store"}
    added = told(launcher("data", "add", str(spec), "--json", env=env))
    assert [(one["name"], one["sent"]) for one in added["inputs"]] == [("d", 5), ("f", 0)]
    listed = told(launcher("data", "list", "--json", env=env))
    assert {entry["name"] for entry in listed["inputs"]} == {"d", "f"} and listed["used"] == 2003
    assert b"5 files" in launcher("data", "list", env=env).stdout
    pruned = told(launcher("data", "prune", "f", "--json", env=env))
    assert [entry["name"] for entry in pruned["removed"]] == ["f"] and pruned["freed"] == 0
    assert told(launcher("data", "prune", "--all", "--json", env=env))["freed"] == 2003
    assert launcher("data", "prune", "nothing", env=env).returncode == 2


def test_notes_name_no_secret(bucket: ObjectStore, cache: Cache) -> None:
    notes = Notes()
    upload(bucket, "set/", FILES)
    source = DataSpec(name="d", url=f"{bucket.url}/set/")
    stage(pin(source, cache, notes), source, cache, progress=notes)
    kept = b"".join(path.read_bytes() for path in cache.root.rglob("*") if path.is_file())
    assert bucket.secret.encode() not in kept and bucket.secret not in "".join(notes.said)
