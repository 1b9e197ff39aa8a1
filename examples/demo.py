"""`make demo`: the whole street once, with the commands that a person would type. What it makes lies in .demo/."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAUNCHER = [sys.executable, "-m", "launcher"]
SPEC, LOCK = "examples/digits", "examples/digits/experiment.lock"
UNAVAILABLE = 69  # docs/reference/exit-codes.md


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where cache and store go (%(default)s)")
    folder = parser.parse_args().folder
    os.chdir(ROOT)
    os.environ |= {"LAUNCHER_CACHE": str(folder / "cache"), "LAUNCHER_STORE": str(folder / "store")}
    start, before = time.monotonic(), fetched_bytes()
    tour(folder)
    fetched = (fetched_bytes() - before) / 1e6
    say(f"\nThat took {time.monotonic() - start:.0f} s, with {fetched:.0f} MB of packages fetched.")
    say(f"Everything lies in {folder}; `rm -r {folder}` removes it. Next: docs/tutorial/first-run.md")
    return 0


def tour(folder: Path) -> None:
    step(1, "A spec says what is wanted: an environment, a command, its parameters.")
    lines = Path(SPEC, "experiment.yaml").read_text().splitlines()
    say(f"$ cat {SPEC}/experiment.yaml", "bold")
    print("\n".join(line for line in lines if line and not line.startswith("#")))
    step(2, "Its lock pins every package by sha256. `run` makes the image of them, without Docker or root, and trains.")
    first_run("lr=0.02")
    step(3, "Another step size. The image is there: the program starts at once.")
    launcher("run", SPEC, "-p", "lr=0.1")
    step(4, "What happened?")
    launcher("ls", "--limit", "2")
    launcher("show", "--curve", "loss")
    step(5, "The record: who, what, with which bytes, where.")
    launcher("show")
    step(
        6,
        "In some years: keep the packages, and make the same image from nothing, with no network.",
    )
    launcher("vault", "add", LOCK)
    shutil.rmtree(folder / "empty", ignore_errors=True)
    again = ["rebuild", LOCK, "--from", str(folder / "store"), "--offline"]
    launcher(*again, LAUNCHER_CACHE=str(folder / "empty"))
    shutil.rmtree(folder / "empty")


def first_run(param: str) -> None:
    """Run; when a mirror no longer has the versions that the lock pins, pin today's first."""
    code = call("run", SPEC, "-p", param)
    if code == UNAVAILABLE:
        say("    The mirror has dropped a package that the lock pins, and nobody kept it in a vault: lock anew.")
        launcher("lock", SPEC, "--upgrade")
        code = call("run", SPEC, "-p", param)
    stop_unless_well(code)


def launcher(*args: str, **env: str) -> None:
    stop_unless_well(call(*args, **env))


def call(*args: str, **env: str) -> int:
    """Show a command, call it, and return its exit code."""
    say("$ " + " ".join([*(f"{name}={value}" for name, value in env.items()), "launcher", shlex.join(args)]), "bold")
    return subprocess.run([*LAUNCHER, *args], env=os.environ | env).returncode


def stop_unless_well(code: int) -> None:
    if code:
        say(f"\nThat ended with code {code}, so the demo stops here. docs/how-to/ may help.")
        sys.exit(code)


def step(number: int, text: str) -> None:
    say(f"\n{number}/6  {text}", "cyan")


def say(text: str, style: str = "") -> None:
    codes = {"bold": "1", "cyan": "36"}
    colour = style and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print(f"\x1b[{codes[style]}m{text}\x1b[0m" if colour else text, flush=True)


def fetched_bytes() -> int:
    """Return the size of all packages in the demo's cache."""
    cache = Path(os.environ["LAUNCHER_CACHE"])
    return sum(path.stat().st_size for path in cache.glob("artifacts/sha256/*/*"))


if __name__ == "__main__":
    sys.exit(main())
