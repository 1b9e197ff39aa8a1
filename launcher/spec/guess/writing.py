"""Writes the guesses down as a commented spec."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from packaging.utils import canonicalize_name

from launcher.spec.guess.project import Project
from launcher.spec.guess.script import Entry, Option
from launcher.spec.model import Param

METRICS_OPTION = re.compile(r"metrics([-_](file|path))?")
OUTPUT_OPTION = re.compile(r"(out|output|save|log|results?)[-_]?(dir|path|folder|directory)?|output")
CHECKPOINT_OPTION = re.compile(r"(ckpt|checkpoints?)[-_]?(dir|path|folder|directory)")
DATA_OPTION = re.compile(r"(data|dataset|datasets|inputs?)([-_]?(dir|path|folder|root|directory))?")


def text(about: Project, entry: Entry | None, wanted: Sequence[str]) -> str:
    """Return the whole spec."""
    options = entry.options if entry and not entry.subcommands else ()
    given = {option.name: place for option in options if (place := given_by_launcher(option, about))}
    params = [option for option in options if option.known and option.name not in given]
    parts = [header(about), image(about, wanted), run(entry, given, params), parameters(params, options, given)]
    return "\n".join(line for part in (*parts, rest(about)) for line in (*part, "")).rstrip() + "\n"


def header(about: Project) -> list[str]:
    return [
        "# What this experiment needs and what it runs. launcher's reference, spec.md, describes every key;",
        "# `launcher schema` prints a schema with which editors check and complete this file.",
        f"name: {scalar(about.name)}",
    ]


def image(about: Project, wanted: Sequence[str]) -> list[str]:
    lines = ["# The environment. `launcher lock` pins all of it by digest.", "image:", f"  base: debian:{about.suite}"]
    if about.asked:
        comment(lines, f"  # The project asks for Python {about.asked}, which no known Debian suite has.")
    lines.append(f'  python: "{about.python}"')
    lines += pip(about, wanted)
    return [*lines, "  apt: []  # Debian packages, such as [git, ffmpeg]", "  # env: {OMP_NUM_THREADS: 4}"]


def pip(about: Project, wanted: Sequence[str]) -> list[str]:
    """Return the requirements: the project's own file, or what the code imports."""
    if about.requirements_file:
        missing = [name for name in wanted if canonicalize_name(name) not in about.required]
        note = [f"  # Imported, but not named in {about.requirements_file}: {', '.join(missing)}"] if missing else []
        return [*note, f"  pip: {about.requirements_file}"]
    if not wanted:
        return ["  pip: []  # such as [numpy>=2]"]
    names = [f"    - {name}" for name in wanted]
    return ["  # Guessed from the imports of the code: check the names, and add versions.", "  pip:", *names]


def run(entry: Entry | None, given: dict[str, str], params: list[Option]) -> list[str]:
    if entry is None:
        return ["# The command. {name} stands for the value of a parameter.", "run: python train.py"]
    lines = ["# The command. {name} stands for the value of a parameter, quoted for the shell."]
    if entry.others:
        comment(lines, f"# It could as well begin with {', '.join(entry.others)}.")
    if entry.positional and not entry.subcommands:
        comment(lines, f"# The script also takes {', '.join(entry.positional)}: add it to the end.")
    if entry.subcommands:
        lines.append("# The script has subcommands: add one, with its options.")
    words = ["python", shlex.quote(entry.path).replace("{", "{{").replace("}", "}}")]
    words += [f"--{name} {place}" for name, place in given.items()]
    words += [f"--{option.name} {{{option.name}}}" for option in params]
    return [*lines, *folded(words)]


def folded(words: list[str]) -> Iterator[str]:
    """Write a command in one line, or with one option a line when it is long (YAML's `>-` joins them)."""
    line = " ".join(words)
    if len(line) <= 90 and is_plain(line):
        yield f"run: {line}"
        return
    yield "run: >-"
    yield f"  {' '.join(words[:2])}"
    yield from (f"  {word}" for word in words[2:])


def is_plain(line: str) -> bool:
    """Tell whether YAML reads a command as it stands."""
    return ": " not in line and " #" not in line and not line.endswith(":")


def parameters(params: list[Option], options: Sequence[Option], given: dict[str, str]) -> list[str]:
    lines = ["# Parameters, also in the JSON file $LAUNCHER_PARAMS and in LAUNCHER_PARAM_<NAME>."]
    lines += ["params:"] if params else ["params: {}  # such as {lr: 1e-3}"]
    lines += [f"  {scalar(option.name)}: {scalar(option.default)}" for option in params]
    left = [f"--{option.name}" for option in options if not option.known and option.name not in given]
    if left:
        comment(lines, f"# The script also has {', '.join(left)}, without a default that could be read.")
    return lines


def given_by_launcher(option: Option, about: Project) -> str | None:
    """Return what to fill in for an option that names a place which launcher gives to a run."""
    if option.known and not isinstance(option.default, str):
        return None
    name = option.name.lower()
    if CHECKPOINT_OPTION.fullmatch(name):
        return '"$LAUNCHER_CHECKPOINT_DIR"'
    if METRICS_OPTION.fullmatch(name):
        return '"$LAUNCHER_METRICS"'
    if OUTPUT_OPTION.fullmatch(name):
        return '"$LAUNCHER_OUTPUT_DIR"'
    folder = re.sub(r"^\./|/+$", "", str(option.default or ""))
    return f"/data/{folder}" if DATA_OPTION.fullmatch(name) and folder in about.data else None


def rest(about: Project) -> list[str]:
    lines: list[str] = []
    if about.data:
        lines += ["# Inputs, read-only at /data/<name>, and known by their digest.", "data:"]
        lines += [f"  {name}: {name}" for name in about.data]
        lines += ["code:", f"  exclude: [{', '.join(f'{name}/' for name in about.data)}]", ""]
    lines += ["# What one run needs.", "resources:", "  # gpus: H100:1", "  # cpus: 4", "  # memory: 16G"]
    lines += ["  # time: 2h30m", "", "# What is kept of $LAUNCHER_OUTPUT_DIR when the run ends."]
    return [*lines, 'outputs: ["**"]', "", "seed: 0"]


def scalar(value: Param) -> str:
    """Write a value so that YAML reads it back."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9._/-]*", value) and value.lower() not in WORDS:
        return value
    return double_quoted(value) if isinstance(value, str) else repr(value)


def double_quoted(value: str) -> str:
    """Write text in YAML's double-quoted style (YAML 1.2.2, section 5.7)."""
    return '"' + "".join(escaped(character) for character in value) + '"'


def escaped(character: str) -> str:
    if character in ('"', "\\"):
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"


WORDS = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))


def comment(lines: list[str], line: str) -> None:
    """Add a comment; names from code may hold anything, so it is kept to one printable line."""
    lines.append("".join(character if character.isprintable() else "?" for character in line))
