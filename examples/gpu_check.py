"""`make gpu-check`: what this machine's GPU is, whether launcher can use it, and whether strict runs agree on it.

Exit codes: 0 two strict runs gave the same bits, 1 they differ or something failed, 69 there is no GPU here.

With --host-python the training runs in an interpreter of this machine that has torch, outside any container and with no
network: for a bare machine. Without it, the spec examples/gpu is locked, checked and run twice by launcher.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a bare machine has no launcher installed; the two rooms below need nothing else

from launcher.gpu.probe import probe  # noqa: E402
from launcher.runner import determinism  # noqa: E402

SPEC = ROOT / "examples" / "gpu"
JOB = {"determinism": "strict", "seed": 7, "resources": {"cpus": 1}}
COMPARED = ("weights", "matmul")
DIFFERENT, NO_GPU = 1, 69


class Failed(Exception):
    """A step did not work; the message is for a person."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host-python", metavar="PYTHON", help="train in this interpreter, which has torch")
    parser.add_argument("--steps", type=int, default=60, help="of the training (%(default)s)")
    parser.add_argument("--cpu", action="store_true", help="go on without a GPU: to try the script itself")
    args = parser.parse_args()
    if not report_gpus() and not args.cpu:
        print("no GPU on this machine: nothing to check")
        return NO_GPU
    try:
        with tempfile.TemporaryDirectory() as folder:
            first, second = (once(args, Path(folder), number) for number in (1, 2))
    except Failed as e:
        print(f"failed: {e}", file=sys.stderr)
        return DIFFERENT
    return report(first, second)


def report_gpus() -> bool:
    """Print what the probe finds; return whether there is a GPU."""
    node = probe()
    print(f"driver {node.driver or 'none'}, CUDA {node.cuda or 'unknown'}, told by {node.source or 'nobody'}")
    for device in node.devices:
        memory = f"{device.memory_bytes / 2**30:.1f} GiB" if device.memory_bytes else "memory unknown"
        print(f"  {device.index}: {device.model}, {device.capability}, {memory}, {device.multiprocessors} SMs")
    return bool(node.devices)


def once(args: argparse.Namespace, folder: Path, number: int) -> dict[str, object]:
    """Run the training once; return its summary. Raises Failed."""
    out = folder / str(number)
    told = by_host(args, out) if args.host_python else by_launcher(args, folder)
    print(f"run {number}: {json.dumps(told)}")
    return told


def by_host(args: argparse.Namespace, out: Path) -> dict[str, object]:
    """Run in the host's Python, with the variables that the runner would set."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LAUNCHER_"))}
    determinism.add(env, JOB, str(out.with_suffix(".frameworks")))
    env["LAUNCHER_SEED"] = str(JOB["seed"])
    call([args.host_python, SPEC / "train.py", "--steps", str(args.steps), "--out", out], env)
    found: dict[str, object] = json.loads((out / "summary.json").read_text())
    return found


def by_launcher(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Lock, check and run the example; its results come from the store. Lock and store are this check's own."""
    copied, store = folder / "gpu", folder / "store"
    if not copied.exists():
        copied.mkdir()
        (copied / "train.py").write_bytes((SPEC / "train.py").read_bytes())
        spec = (SPEC / "experiment.yaml").read_text()
        (copied / "experiment.yaml").write_text(spec.replace("gpus: 1", "gpus: 0") if args.cpu else spec)
        call([sys.executable, "-m", "launcher", "check", copied, "--on", "local", "--store", store])
    run = [sys.executable, "-m", "launcher", "run", copied, "--store", store, "-p", f"steps={args.steps}", "--json"]
    record = json.loads(call(run, capture=True))
    files = (store / record["outputs"]["key"]).parent / "files"
    found: dict[str, object] = json.loads((files / "summary.json").read_text())
    return found


def call(words: list[object], env: dict[str, str] | None = None, *, capture: bool = False) -> str:
    """Run a program from the checkout. Raises Failed with what it was."""
    told = [str(word) for word in words]
    done = subprocess.run(told, cwd=ROOT, env=env, stdout=subprocess.PIPE if capture else None, text=True)
    if done.returncode:
        raise Failed(f"`{' '.join(told[:5])} ...` ended with {done.returncode}")
    return done.stdout or ""


def report(first: dict[str, object], second: dict[str, object]) -> int:
    if not first["deterministic"]:
        print("strict was not in force: torch's deterministic mode is off")
        return DIFFERENT
    different = [name for name in COMPARED if first[name] != second[name]]
    for name in COMPARED:
        print(f"{name}: {'differ' if name in different else 'the same bits'}")
    return DIFFERENT if different else 0


if __name__ == "__main__":
    sys.exit(main())
