"""What `launcher submit` costs beside submitit's own map_array and a bare sbatch, on a small real cluster.

    python -m benchmarks slurm [--points 1,100,1000,5000] [--rounds 3] [--stores folder,moto] [--json]

Needs root, Slurm's Debian packages (slurm/dev/README.md) and Apptainer. While submitting is timed the nodes take no
jobs. Goals that the project set itself, for 1,000 points: at most 1 s over submitit's own time with a folder as store,
at most 3 s over it with S3; the client under 150 MB at 5,000; at most 0.5 s added to the first line of a program.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measure import Took, median, process, tell  # noqa: E402
from benchmarks.sites import TARGET, Site, site  # noqa: E402

OVER_S = {"folder": 1.0, "moto": 3.0}
CLIENT_MB = 150
FIRST_LINE_S = 0.5
BUCKET = "benchmark"
PROGRAM = "import time; print(time.time(), flush=True)"
# submitit as its users call it; the seconds of the call alone go to a file
SUBMITIT = """
import sys, time, submitit
folder, count, told = sys.argv[1:]
executor = submitit.SlurmExecutor(folder=folder)
executor.update_parameters(time=10, mem="200M", cpus_per_task=1)
began = time.perf_counter()
executor.map_array(abs, range(int(count)))
open(told, "w").write(str(time.perf_counter() - began))
"""


def ours(one: Site, count: int, name: str, store: str) -> Took:
    """Submit a sweep of a name of its own."""
    spec = one.spec(name, '["true"]', f"sweep: {{random: {{count: {count}, seed: 1, x: {{uniform: [0, 1]}}}}}}\n")
    with spec.open("a") as out:
        out.write("params: {x: 0.0}\n")
    return one.launcher("submit", spec, "--on", TARGET, "--store", store, "--json")


def submitit(one: Site, count: int) -> tuple[float, Took]:
    """Return the seconds of map_array, and the whole process."""
    with tempfile.TemporaryDirectory(dir=one.shared) as folder:
        told = Path(folder, "seconds")
        took = process([sys.executable, "-c", SUBMITIT, folder, str(count), told], env=one.env)
        return float(told.read_text()), took


def sbatch(one: Site, count: int) -> Took:
    args = ["sbatch", "--parsable", f"--array=0-{count - 1}", "--mem=200M", "--time=10", "--output=/dev/null"]
    return process([*args, "--wrap", "true"], env=one.env)


def submitting(one: Site, counts: Sequence[int], rounds: int, stores: dict[str, str]) -> list[dict[str, object]]:
    """Time all ways of submitting; medians."""
    one.hold()
    found: list[dict[str, object]] = []
    for count in counts:
        tell(f"slurm: {count} points")
        theirs = [submitit(one, count) for _ in range(rounds)]
        one.empty()
        bare = median(lambda n=count: sbatch(one, n), rounds, before=one.empty)  # type: ignore[misc]
        row: dict[str, object] = {
            "points": count,
            "sbatch_s": bare.wall_s,
            "map_array_s": statistics.median(call for call, _ in theirs),
            "submitit_s": statistics.median(took.wall_s for _, took in theirs),
            "submitit_mb": max(took.peak_mb for _, took in theirs),
        }
        for name, url in stores.items():
            rest = iter(range(rounds))
            took = median(
                lambda n=count, s=name, u=url, r=rest: ours(one, n, f"of-{n}-{s}-{next(r)}", u),  # type: ignore[misc]
                rounds,
                before=one.empty,
            )
            row |= {f"{name}_s": took.wall_s, f"{name}_mb": took.peak_mb}
        found.append(row)
    one.empty()
    one.release()
    return found


def first_line(one: Site, rounds: int) -> dict[str, float]:
    """Return the seconds from the start of each command to the first line of the program; medians."""
    sif = one.shared / "bench.sif"
    one.launcher("build", one.folder / "first" / "experiment.lock", "-o", sif)
    bare = ["apptainer", "--silent", "exec", "--no-privs", "--containall", "--no-home", "--pwd", "/", str(sif)]
    bare += ["python3", "-c", PROGRAM]
    ways: dict[str, Callable[[int], Sequence[float]]] = {
        "srun apptainer": lambda _: [since(lambda: one.slurm("srun", "--mem=200M", "--quiet", *bare))],
        "sbatch apptainer": lambda _: [since(lambda: batch(one, bare))],
        "launcher submit": lambda number: launched(one, number),
    }
    found = {}
    for name, way in ways.items():
        tell(f"slurm: first line, {name}")
        way(-1)  # a first time, for caches
        names = (name, f"{name}, from sbatch on")
        for what, seconds in zip(names, zip(*(way(number) for number in range(rounds)), strict=True), strict=False):
            found[what] = statistics.median(seconds)
    return found


def since(run: Callable[[], str]) -> float:
    """Return how long after the call the time was that a program printed."""
    began = time.time()
    return float(run().split()[0]) - began


def batch(one: Site, bare: Sequence[str]) -> str:
    """Submit a script as a person would; wait for its output."""
    script, out = one.shared / "bare.sh", one.shared / "bare.out"
    out.unlink(missing_ok=True)
    script.write_text(f"#!/bin/sh\nexec {shlex.join(bare)}\n")
    one.slurm("sbatch", "--wait", "--mem=200M", f"--output={out}", str(script))
    return out.read_text()


def launched(one: Site, number: int) -> tuple[float, float]:
    """Submit a sweep of one point; return seconds from the command, and from when its batch script was written."""
    spec = one.spec(f"line-{number + 1}", json.dumps(["python3", "-c", PROGRAM]))
    began = time.time()
    sweep = json.loads(one.asked("submit", spec, "--on", TARGET, "--json"))["sweep"]
    one.asked("wait", sweep)
    line = float(one.asked("logs", sweep, "--point", "0", "--stdout"))
    [script] = (one.shared / "launcher" / "sweeps" / sweep).glob("*/*.sh")
    return line - began, line - script.stat().st_mtime


@contextlib.contextmanager
def moto(one: Site) -> Iterator[dict[str, str]]:
    """Run moto where the nodes reach it; give the variables by which it is found."""
    import boto3

    with socket.socket() as probe:
        probe.bind((one.address, 0))
        port = probe.getsockname()[1]
    args = [sys.executable, "-m", "moto.server", "-H", one.address, "-p", str(port)]
    server = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    env = {
        "AWS_ENDPOINT_URL": f"http://{one.address}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    try:
        while server.poll() is None and not listens(one.address, port):
            time.sleep(0.1)
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=env["AWS_ENDPOINT_URL"], **keys).create_bucket(Bucket=BUCKET)
        yield env
    finally:
        server.kill()
        server.wait()


def listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def told(rows: Sequence[dict[str, object]], line: dict[str, float], stores: Sequence[str]) -> None:
    """Print the tables, and what missed its goal."""
    head = ["points", "sbatch_s", "map_array_s", "submitit_s", *(f"{s}_{u}" for s in stores for u in ("s", "mb"))]
    print("\nSubmitting\n" + "".join(f"{name:>13}" for name in head))
    for row in rows:
        print("".join(f"{row[name]:13.2f}" if name != "points" else f"{row[name]:13}" for name in head))
        for text in missed(row, stores):
            print(f"  missed: {text}")
    print("\nFirst line of the program, from the start of the command")
    for name, seconds in line.items():
        print(f"{name:>33}{seconds:8.2f} s")
    over = line["launcher submit, from sbatch on"] - line["srun apptainer"]
    if over > FIRST_LINE_S:
        print(f"  missed: {over:.2f} s over srun, the goal is {FIRST_LINE_S} s")
    sys.stdout.flush()


def missed(row: dict[str, object], stores: Sequence[str]) -> Iterator[str]:
    number = {name: float(str(value)) for name, value in row.items()}
    for store in stores:
        over = number[f"{store}_s"] - number["map_array_s"]
        if number["points"] == 1000 and over > OVER_S[store]:
            yield f"{over:.2f} s over map_array with {store}, the goal is {OVER_S[store]} s"
        if number[f"{store}_mb"] > CLIENT_MB:
            yield f"{number[f'{store}_mb']:.0f} MB with {store}, the goal is {CLIENT_MB} MB"


def measured(args: argparse.Namespace, names: Sequence[str]) -> tuple[list[dict[str, object]], dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="bench-slurm-") as name, contextlib.ExitStack() as stack:
        one = stack.enter_context(site(Path(name), str(shutil.which("apptainer"))))
        urls = {"folder": one.env["LAUNCHER_STORE"]}
        if "moto" in names:
            one.env.update(stack.enter_context(moto(one)))
            urls["moto"] = f"s3://{BUCKET}"
        stores = {name: urls[name] for name in names}
        for name, url in stores.items():
            ours(one, 1, f"warm-{name}", url)  # which delivers tools, image and code
        line = first_line(one, args.rounds)
        one.empty()
        return submitting(one, [int(n) for n in args.points.split(",")], args.rounds, stores), line


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="slurm")
    parser.add_argument("--points", default="1,100,1000,5000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stores", default="folder,moto")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(words)
    from benchmarks.containers import add_apptainer

    add_apptainer()
    names = args.stores.split(",")
    rows, line = measured(args, names)
    if args.json:
        print(json.dumps({"submitting": rows, "first_line": line}, indent=2))
    else:
        told(rows, line, names)


if __name__ == "__main__":
    main()
