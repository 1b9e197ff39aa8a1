"""Runs on boxes, put to the test: started as a person does it, disturbed, and judged by what is in the store."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher import records
from launcher.store import keys
from tests import chain_sweep
from tests.boxes import Box
from tests.clusters import wait_until
from tests.patience import PATIENCE
from tests.trials import PROGRAM, Person, must_have_ended, words

SPEC = """
name: {name}
image: {{base: debian:bookworm, python: "3.11"}}
run: {command}
params: {{start: {start}, steps: {steps}, pause: {pause}}}
resources: {{cpus: 1, memory: 256M{resources}}}
determinism: strict
outputs: [digest]
{more}
"""
CHAIN = "python chain_sweep.py {start} {steps} {pause}"
GATE = "/tmp/go"
WAIT = f"until [ -e {GATE} ]; do sleep 0.1; done"  # of a command that goes on when a test opens the gate
END_S = 240


@dataclass(kw_only=True)
class Renter(Person):
    """Somebody with targets that are boxes; each is called as the box is."""

    ssh_config: Path
    targets: dict[str, Box] = field(default_factory=dict)

    @property
    def surroundings(self) -> Mapping[str, str]:
        return {**os.environ, "LAUNCHER_SSH_CONFIG": str(self.ssh_config), "LAUNCHER_STORE": self.place}

    def add(self, box: Box, *words: str) -> None:
        """Make a box a target."""
        self.call("target", "add", box.name, "--ssh", box.name, *words)
        self.targets[box.name] = box

    def experiment(
        self, name: str, start: int = 0, *, steps: int = 12, pause: float = 0.5, resources: str = "", more: str = "",
        command: str = CHAIN,
    ) -> Path:  # fmt: skip
        """Write a spec and its script into a folder of their own."""
        folder = self.home / name
        folder.mkdir(parents=True)
        shutil.copy(chain_sweep.__file__, folder / "chain_sweep.py")
        words = {"name": name, "start": start, "steps": steps, "pause": pause, "resources": resources, "more": more}
        (folder / "experiment.yaml").write_text(SPEC.format(command=command, **words))
        return folder / "experiment.yaml"

    def detached(self, box: Box, spec: Path, *words: str) -> str:
        """Start a run on a box and let go of it; return its id."""
        return str(self.json("run", str(spec), "--on", box.name, "--detach", *words)["run"])

    def runs(self) -> list[str]:
        return [one.strip("/").rpartition("/")[2] for one in self.store.folders(keys.runs())]

    def state(self, run: str) -> str:
        return records.load(self.store, run).state

    def end(self, run: str, seconds: float = END_S) -> None:
        """Follow a run to its end, as a person who comes back does; what a box has for the store comes along."""
        process = Client(self, "attach", run)
        code = process.ended(seconds)
        assert code == 0, f"attach {run}: code {code}\n{process.said}\n{self.told(run)}"

    def told(self, run: str) -> str:
        """Return what one would look at when something went wrong."""
        found = [f"--- {event}" for event in events(self, run)]
        for box in self.targets.values():
            with contextlib.suppress(Exception):
                found += [f"--- {box.name}", box.exec(["sh", "-c", LOOK.format(run=run)], check=False).stdout.decode()]
                found.append(box.engine.said[-500:])
        return "\n".join(found)[-12000:]


LOOK = """
for folder in $(find /root -path '*/jobs/{run}' -type d); do
    cd $folder; ls -l; cat state.json; echo; tail -n 40 log
done
ps ax -o pid,stat,args --forest | cut -c 1-180; docker ps -a
"""


def events(person: Person, run: str) -> list[str]:
    store = person.store
    return [store.get(entry.key).decode()[:300] for entry in store.list(keys.events(run))]


class Client:
    """A launcher that runs beside the test; what it prints is kept as it comes."""

    def __init__(self, renter: Renter, *words: str) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [*PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=renter.env, cwd=renter.home,
            start_new_session=True,
        )  # fmt: skip
        self.out: list[str] = []
        self.err: list[str] = []
        streams = ((self.process.stdout, self.out), (self.process.stderr, self.err))
        self.threads = [threading.Thread(target=keep, args=pair, daemon=True) for pair in streams]
        for thread in self.threads:
            thread.start()

    @property
    def said(self) -> str:
        return f"{''.join(self.out)[-3000:]}\n{''.join(self.err)[-3000:]}"

    @property
    def lines(self) -> list[str]:
        """What the command printed."""
        return "".join(self.out).splitlines()

    def run(self, seconds: float = END_S) -> str:
        """Return the id of the run that it has started on a box: it says so in one line."""
        found = self.started_or_over(seconds)
        assert found, self.said
        return found

    def started_or_over(self, seconds: float = END_S) -> str | None:
        """Return the id of the run that it has started; None when it has ended without one."""
        wait_until(lambda: self.started() or self.process.poll() is not None, seconds, f"it starts a run: {self.said}")
        return self.started()

    def started(self) -> str | None:
        said = re.search(r"^(\S+) on \S+: ", "".join(self.err), re.M)
        return said[1] if said else None

    def wait_for(self, line: str, seconds: float = END_S) -> None:
        """Wait until the command has printed a line."""
        wait_until(lambda: line in self.lines or self.process.poll() is not None, seconds, f"{line}: {self.said}")
        assert line in self.lines, self.said

    def kill(self) -> None:
        """End it by SIGKILL, with all that it has started in its own session: its ssh, say."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.ended()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self, seconds: float = END_S) -> int:
        """Wait for its end; return its exit code. A second time changes nothing."""
        try:
            code = self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"a client did not end within {seconds * PATIENCE:.0f} s:\n{self.said}") from None
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive(), f"somebody holds a client's output open\n{self.said}"
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


def keep(stream: Any, kept: list[str]) -> None:
    with contextlib.suppress(ValueError):  # it is closed
        for line in stream:
            kept.append(line.decode(errors="replace"))


@contextlib.contextmanager
def on_it(renter: Renter, box: Box, spec: Path, *words: str) -> Iterator[Client]:
    """Run a spec on a box by a client that follows it; it is ended with the block."""
    client = Client(renter, "run", str(spec), "--on", box.name, *words)
    try:
        yield client
    finally:
        client.kill() if client.process.poll() is None else client.ended()


def judge(renter: Renter, run: str, start: int, steps: int) -> Any:
    """Judge a run that nobody meant to fail; return its record."""
    return must_have_ended(renter.store, run, start, steps=steps, told=lambda: renter.told(run))


def wait_for_phase(renter: Renter, run: str, state: str, seconds: float = 60) -> None:
    wait_until(lambda: renter.state(run) == state, seconds, f"{run} is {state}")


def open_gate(box: Box) -> None:
    """Let a gated run go on, by the file system that its shell sees."""
    wait_until(lambda: shells(box), 120, "a run waits at the gate")
    for pid in shells(box):
        Path(f"/proc/{pid}/root{GATE}").touch()


def shells(box: Box) -> list[int]:
    return [pid for pid in alive(box, f"until [ -e {GATE} ]") if len(words(pid)) == 3]


def alive(box: Box, text: str) -> list[int]:
    return [pid for pid in box.processes() if text in "\0".join(words(pid))]
