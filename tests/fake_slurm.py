"""A Slurm of three small programs and a file, for tests that need no cluster: sbatch, squeue and scancel.

The queue is a text file: one line for each array, `id|name|first-last|state`. Further files beside it change what the
programs do: `limit` (a number of tasks), `max_array`, `sbatch-says` (words to fail with), `sbatch-slow` (seconds before
it submits), `dies` (it submits, and ends by SIGKILL before it says so), `silent` (squeue fails).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAM = """#!{python} -S
import fcntl, os, re, signal, sys, time
home, name, words = {home!r}, os.path.basename(sys.argv[0]), sys.argv[1:]
def told(file):
    try:
        with open(os.path.join(home, file)) as stream:
            return stream.read().strip()
    except OSError:
        return None
def fail(text):
    sys.stderr.write(name + ": error: " + text + "\\n")
    sys.exit(1)
def option(flag, text):
    for word in words:
        if word.startswith("--" + flag + "="):
            return word.partition("=")[2]
    found = re.search("^#SBATCH --" + flag + "=(.*)$", text, re.M)
    return found.group(1) if found else None
queue = open(os.path.join(home, "queue"), "a+")
def lines():
    queue.seek(0)
    return [line.split("|") for line in queue.read().split()]
if name == "sbatch":
    with open(words[-1]) as stream:
        script = stream.read()
    time.sleep(float(told("sbatch-slow") or 0))
    if told("sbatch-says"):
        fail(told("sbatch-says"))
    fcntl.flock(queue, fcntl.LOCK_EX)
    with open(os.path.join(home, "calls"), "a") as calls:
        calls.write(" ".join(words) + "\\n")
    array = (option("array", script) or "0-0").partition("%")[0]
    low, high = (int(part) for part in array.split("-"))
    if high >= int(told("max_array") or 1001):
        fail("Batch job submission failed: Invalid job array specification")
    used = sum(int(l[2].split("-")[1]) + 1 for l in lines() if l[3] != "COMPLETED")
    if told("limit") and used + high + 1 > int(told("limit")):
        fail("AssocMaxSubmitJobLimit")
    job = 100 + len(lines())
    kind = "array" if option("array", script) else "one"
    queue.write("|".join([str(job), option("job-name", script), array, "PENDING", kind]) + "\\n")
    queue.flush()
    if told("dies") is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    print(job)
elif name == "squeue":
    if told("silent") is not None:
        fail("Unable to contact slurm controller (connect failure)")
    names = [word.partition("=")[2].split(",") for word in words if word.startswith("--name=")]
    shape = [word for word in words if word.startswith("--format=")][0]
    for job, called, array, state, kind in lines():
        if names and called not in names[0] or not names and state == "COMPLETED":
            continue
        index = "[%s]" % array if kind == "array" else "N/A"
        print("%s|%s" % (job, called) if "%A" in shape else "|".join([job, index, called, state, "", "Priority"]))
elif name == "scancel":
    with open(os.path.join(home, "cancelled"), "a") as stream:
        stream.write(" ".join(words) + "\\n")
else:
    fail("Unable to contact slurm controller (connect failure)")
"""


@dataclass(frozen=True, kw_only=True)
class FakeSlurm:
    """The folder of the programs and of what they know."""

    home: Path

    @property
    def programs(self) -> Path:
        return self.home / "bin"

    @property
    def jobs(self) -> list[tuple[str, str, int]]:
        """What was submitted: id, name, tasks."""
        found = [line.split("|") for line in self.text("queue").split()]
        return [(job, name, int(array.split("-")[1]) + 1) for job, name, array, _, _ in found]

    @property
    def calls(self) -> list[str]:
        return self.text("calls").splitlines()

    def text(self, name: str) -> str:
        path = self.home / name
        return path.read_text() if path.exists() else ""

    def say(self, name: str, text: str = "") -> None:
        (self.home / name).write_text(text)

    def forget(self, *names: str) -> None:
        for name in names:
            (self.home / name).unlink(missing_ok=True)

    def end(self, job: str) -> None:
        """Let all tasks of a job be over."""
        found = [line.split("|") for line in self.text("queue").split()]
        ended = [[one[0], one[1], one[2], "COMPLETED", one[4]] if one[0] == job else one for one in found]
        self.say("queue", "".join("|".join(one) + "\n" for one in ended))


def install(home: Path) -> FakeSlurm:
    """Write the programs into `home`/bin."""
    fake = FakeSlurm(home=home)
    fake.programs.mkdir(parents=True)
    for name in ("sbatch", "squeue", "scancel", "scontrol", "sacct"):
        path = fake.programs / name
        path.write_text(PROGRAM.format(python=sys.executable, home=str(home)))
        path.chmod(0o755)
    return fake
