"""Run the console blocks of a page and compare what they print; `...` in the page stands for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
MARK = "--- end of command "


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of a page and what it should print."""

    text: str
    expected: str


def commands(page: Path) -> Iterator[Command]:
    """Yield the commands of a page: `$ ` begins one, `> ` goes on with it."""
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            lines = part.splitlines()
            size = 1 + next((at for at, line in enumerate(lines[1:]) if line[:2] not in ("> ", ">")), len(lines) - 1)
            text = "\n".join([lines[0], *(line[2:] for line in lines[1:size])])
            yield Command(text=text, expected="\n".join(lines[size:]))


def run(found: list[Command], cwd: Path, env: Mapping[str, str]) -> list[str]:
    """Run commands one after another in one shell; return what each printed, stdout and stderr as they came.

    `launcher` is that of this interpreter. The shell stops at the first command that fails.
    """
    script = "set -e\n" + "".join(f"{command.text}\necho '{MARK}'\n" for command in found)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=cwd,
        env=os.environ | env | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    printed = done.stdout.decode().split(MARK + "\n")
    assert done.returncode == 0, f"{found[len(printed) - 1].text}\n{printed[-1]}"
    return printed[:-1]


def fits(expected: str, printed: str) -> bool:
    """Compare with `...` standing for anything and white space counting once."""
    parts = [re.escape(" ".join(part.split())) for part in expected.split("...")]
    return re.fullmatch(r" ?.*? ?".join(parts), " ".join(printed.split())) is not None


def differences(found: list[Command], printed: list[str]) -> list[str]:
    """Return the commands that printed something else, each with both texts."""
    return [
        f"$ {command.text}\n--- the page says\n{command.expected}\n--- it printed\n{text}"
        for command, text in zip(found, printed, strict=True)
        if not fits(command.expected, text)
    ]
