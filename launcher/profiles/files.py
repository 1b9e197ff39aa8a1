"""Where targets are kept: for each one file of a person's and, beside it, one that `launcher doctor` writes.

$XDG_CONFIG_HOME/launcher/targets/<name>.toml         what a person says: never rewritten
$XDG_CONFIG_HOME/launcher/targets/<name>.found.toml   what was found there: written whole by doctor
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from launcher.errors import TargetError, UsageError
from launcher.profiles.model import Profile

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
RESERVED = ("local",)
FOUND = ".found.toml"


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where targets are kept (XDG Base Directory 0.8), beside launcher's config.toml."""
    xdg = environ.get("XDG_CONFIG_HOME", "")
    home = Path(xdg) if xdg.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".config"
    return home / "launcher" / "targets"


def file_of(name: str) -> Path:
    return folder() / f"{name}.toml"


def found_file_of(name: str) -> Path:
    return folder() / f"{name}{FOUND}"


def names() -> tuple[str, ...]:
    """Return the names of all targets but `local`."""
    try:
        files = sorted(folder().glob("*.toml"))
    except OSError:
        return ()
    return tuple(file.stem for file in files if not file.name.endswith(FOUND) and NAME.fullmatch(file.stem))


def load(name: str) -> Profile:
    """Return a target's profile: defaults, over them what doctor found, over that what a person says.

    Raises UsageError when there is no such target, TargetError with every mistake of its files.
    """
    from launcher.profiles.reading import profile

    if not NAME.fullmatch(name) or not file_of(name).exists():
        raise unknown(name)
    return profile(name, file_of(name), found_file_of(name))


def load_found(name: str) -> Profile | None:
    """Return what doctor found of a target, without what a person says; None where it hasn't looked.

    Raises TargetError.
    """
    from launcher.profiles.model import from_json
    from launcher.profiles.reading import facts

    found = facts(found_file_of(name))
    return from_json({**found, "name": name}) if found else None


def said_of(name: str) -> frozenset[str]:
    """Return what a person's file names of a target, as a profile calls it; nothing where there is no such file.

    Raises TargetError with every mistake of it.
    """
    from launcher.profiles.reading import as_fields, parsed_text, text_of

    file = file_of(name)
    return frozenset(as_fields(parsed_text(text_of(file), str(file))["target"]) if file.exists() else ())


def unknown(name: str) -> UsageError:
    import difflib

    if name in RESERVED:
        hint = "`launcher run` runs a spec here; `launcher target add` makes a target for this machine's own Slurm"
        return UsageError(f"`{name}` is this machine, and no cluster", hint=hint)
    known = [*RESERVED, *names()]
    near = difflib.get_close_matches(name, known, 1)
    others = f"besides {RESERVED[0]} there are {', '.join(known[1:])}; " if known[1:] else ""
    ways = f"`launcher target add {name} --slurm` or `--ssh HOST` makes one"
    hint = f"did you mean `{near[0]}`?" if near else f"{others}{ways}"
    return UsageError(f"there is no target `{name}`", hint=hint)


def save(name: str, text: str, *, replace: bool = False) -> Path:
    """Write what a person says of a target, and return its file.

    Raises UsageError when the name is taken (without `replace`) or no name, TargetError with every mistake in it.
    """
    from launcher.profiles.reading import parsed_text

    if not NAME.fullmatch(name) or name in RESERVED:
        hint = "letters, digits, _ and -; `local` is this machine"
        raise UsageError(f"a target can't be called `{name}`", hint=hint)
    file = file_of(name)
    parsed_text(text, str(file))
    if file.exists() and not replace:
        hint = f"edit {file}, or say --replace"
        raise UsageError(f"there is a target `{name}` already", hint=hint)
    written(file, text)
    return file


def save_found(profile: Profile) -> Path:
    """Write what doctor found of a target, whole; what a person says of it isn't touched. Raises TargetError."""
    from launcher.profiles.writing import found_text

    file = found_file_of(profile.name)
    written(file, found_text(profile))
    return file


def remove(name: str) -> None:
    """Forget a target: its two files. Nothing on the site is touched. Raises UsageError when there is none."""
    if not NAME.fullmatch(name) or not file_of(name).exists():
        raise unknown(name)
    for file in (found_file_of(name), file_of(name)):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()


def written(file: Path, text: str) -> None:
    """Write a file whole, through a rename. Raises TargetError."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise TargetError(f"{file} can't be written: {e.strerror}", hint="is the folder yours?") from e
