"""How long `ls`, `table` and `status` take on a store of ten thousand runs: a folder, moto, or a store of one's own.

    python -m benchmarks listing [--runs 10000] [--rounds 5] [--store URL] [--json]

Without --store: a folder, and moto on loopback, which is filled in its memory and scans all its keys for every listing.
With --store the runs are written to that (empty) store, with the settings of this machine, and left there. Goals that
the project set itself: warm under 1 s as whole commands; cold (no index, a snapshot there) listing itself plus 2 s.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measure import process, tell  # noqa: E402
from benchmarks.synthetic import fill, objects  # noqa: E402

VERBS = {
    "ls": ["ls"],
    "ls --all": ["ls", "--all"],
    "status": ["status"],
    "table": ["table"],
    "table --name": ["table", "--name", "experiment-01", "--metric", "loss", "--best", "min"],
}
WARM_S, COLD_S = 1.0, 2.0
BUCKET = "listing"
LISTS = "from launcher import access; from launcher.store import keys; s = access.open_to_read({url!r}); "
LISTS += "s.folders(keys.runs()); s.list(keys.journal())"


class Place:
    """A full store, and an index of one's own for it."""

    def __init__(self, url: str, cache: Path, env: Mapping[str, str]) -> None:
        self.url, self.cache = url, cache
        self.env = {**env, "LAUNCHER_CACHE": str(cache)}

    def run(self, verb: str) -> float:
        words = [sys.executable, "-m", "launcher", "-q", *VERBS[verb], "--store", self.url]
        return process(words, env=self.env, cwd=ROOT).wall_s

    def cold(self, verb: str) -> float:
        shutil.rmtree(self.cache, ignore_errors=True)
        return self.run(verb)

    def listing(self) -> float:
        """Time what is the least: a process that lists the runs and the journal."""
        return process([sys.executable, "-c", LISTS.format(url=self.url)], env=self.env, cwd=ROOT).wall_s


def measure(place: Place, rounds: int) -> dict[str, float]:
    """Return seconds by what was timed; medians of whole commands, but for the very first one."""
    found = {"very first": place.cold("ls")}
    for verb in VERBS:
        found[f"{verb}, warm"] = statistics.median(place.run(verb) for _ in range(rounds))
    found["listing alone"] = statistics.median(place.listing() for _ in range(3))
    for verb in ("ls", "table", "status"):
        found[f"{verb}, cold"] = statistics.median(place.cold(verb) for _ in range(3))
    return found


def goal(what: str, found: Mapping[str, float]) -> float | None:
    if what.endswith("warm"):
        return WARM_S
    return found["listing alone"] + COLD_S if what.endswith("cold") else None


def table(title: str, found: Mapping[str, float]) -> None:
    print(f"\n{title}\n{'':24}{'seconds':>9}{'goal':>8}")
    for what, seconds in found.items():
        most = goal(what, found)
        missed = "  missed" if most is not None and seconds > most else ""
        print(f"{what:24}{seconds:9.2f}{most or '':>8{'.2f' if most else ''}}{missed}")
    sys.stdout.flush()


@contextmanager
def moto(count: int) -> Iterator[dict[str, str]]:
    """Run a moto that holds `count` runs already; give the variables by which it is found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    args = [sys.executable, str(Path(__file__)), "--serve", str(port), "--runs", str(count)]
    server = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert server.stdout
    try:
        if server.stdout.readline() != b"ready\n":
            raise RuntimeError("moto did not start")
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
    finally:
        server.kill()
        server.wait()


def serve(port: int, count: int) -> None:
    """Be a moto whose bucket is full; end when nobody holds the other end of stdin."""
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    backend = s3_backends["123456789012"]["aws"]
    backend.create_bucket(BUCKET, "us-east-1")
    for key, data in objects(count, datetime.now(timezone.utc)):
        backend.put_object(BUCKET, key, data)
    ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False).start()
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


def folder(root: Path, count: int, rounds: int) -> dict[str, float]:
    from launcher import store as stores

    store = stores.open(str(root / "store"))
    tell(f"writing {fill(store, count)} files")
    return measure(Place(store.url, root / "cache", {}), rounds)


def named(url: str, root: Path, count: int, rounds: int) -> dict[str, float]:
    from launcher import access

    began = time.monotonic()
    written = fill(access.open(url), count)
    tell(f"wrote {written} objects in {time.monotonic() - began:.0f} s")
    return measure(Place(url, root / "cache", {}), rounds)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="listing")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.serve:
        serve(args.serve, args.runs)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="listing-") as name:
        root = Path(name)
        if args.store:
            found[args.store] = named(args.store, root, args.runs, args.rounds)
        else:
            found["a folder"] = folder(root, args.runs, args.rounds)
            tell("filling moto")
            with moto(args.runs) as env:
                found["moto"] = measure(Place(f"s3://{BUCKET}", root / "moto", env), args.rounds)
    if args.json:
        print(json.dumps({"runs": args.runs, **found}, indent=2))
        return
    for place, seconds in found.items():
        table(f"{args.runs} runs in {place}", seconds)


if __name__ == "__main__":
    main()
