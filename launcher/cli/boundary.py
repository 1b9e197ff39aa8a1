"""Turns whatever was raised into text on stderr and an exit code. Imported only when something was raised."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shlex
import sys
import tempfile
import traceback
from dataclasses import asdict, replace

import click

from launcher import __version__
from launcher.cli.output import json_text
from launcher.errors import DiskFullError, FetchError, IntegrityError, LauncherError, UsageError

INTERRUPTED = 128 + 2
BROKEN_PIPE = 128 + 13
BUG = 70
MOST_LOST = 5  # artifacts that are told of by name
# A group that was called alone tells its help; click before 8.2 has no such error, and prints it itself.
NO_ARGUMENTS: tuple[type[click.UsageError], ...] = tuple(
    kind for kind in (getattr(click.exceptions, "NoArgsIsHelpError", None),) if kind
)
# What a machine may refuse to any program: nobody's bug. A missing file is not here: its verb has to tell it better.
OF_THE_MACHINE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE)
OF_THE_GROUP = ("-q", "--quiet", "-v", "--verbose", "--debug")


def tell(error: BaseException, args: list[str]) -> int:
    """Tell of an error on stderr; return the exit code."""
    own = args[: args.index("--")] if "--" in args else args
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        say("interrupted")
        return INTERRUPTED
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        silence_stdout()
        return BROKEN_PIPE
    if isinstance(error, NO_ARGUMENTS):
        say(error.format_message())
        return UsageError.exit_code
    if isinstance(error, click.ClickException):
        error = usage_error(error)
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
        error = machine_error(error)
    if "--debug" in own:
        say("".join(traceback.format_exception(error)).rstrip())
    if not isinstance(error, LauncherError):
        error = bug(error, args, keep="--debug" not in own)
        return refuse(error, BUG, as_json="--json" in own)
    return refuse(error, error.exit_code, as_json="--json" in own)


def refuse(error: LauncherError, code: int, *, as_json: bool) -> int:
    """Print the problems of an error."""
    if as_json:
        problems = [asdict(problem) for problem in error.problems]
        say(json_text({"error": {"kind": type(error).__name__, "exit_code": code, "problems": problems}}))
        return code
    for line in shown(error):
        say(f"{styled('error:', fg='red', bold=True)} {line}")
    return code


def shown(error: LauncherError) -> list[str]:
    """Return the problems as text: a hint that several in a row share once, and of many lost artifacts the first few.

    A network that is away loses every artifact in the same way, and nobody reads that a hundred times.
    """
    most = MOST_LOST if isinstance(error, (FetchError, IntegrityError)) else len(error.problems)
    told, left = error.problems[:most], len(error.problems) - most
    hints = [*(problem.hint for problem in told[1:]), None]
    lines = [str(replace(p, hint=None if p.hint == after else p.hint)) for p, after in zip(told, hints, strict=True)]
    return [*lines, f"and {left} more of the same kind (`--json` tells of all)"] if left > 0 else lines


def usage_error(error: click.ClickException) -> UsageError:
    """Say click's complaint in our words."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "launcher"
    near = list(getattr(error, "possibilities", None) or ())
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    if isinstance(error, click.NoSuchOption) and error.option_name in OF_THE_GROUP:
        hint = f"it stands before the verb: `launcher {error.option_name} ...`. "
    message = getattr(error, "message", "") or error.format_message()
    if isinstance(error, (click.BadParameter, click.NoSuchOption)):
        message = error.format_message().partition(" (Possible")[0].partition(" Did you mean")[0]
    message = message[:1].lower() + message[1:].rstrip(".")
    return UsageError(message, hint=f"{hint}`{path} --help` tells what it takes")


def machine_error(error: OSError) -> LauncherError:
    """Say what the operating system refused."""
    place = f"{error.filename}: " if error.filename else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return (DiskFullError if full else LauncherError)(f"{place}{error.strerror}")


def bug(error: BaseException, args: list[str], *, keep: bool) -> LauncherError:
    """Describe an error that nobody foresaw, and keep its traceback in a file."""
    what = traceback.format_exception_only(type(error), error)[-1].strip()
    hint = "please report it with the traceback"
    if keep:
        with contextlib.suppress(OSError):
            hint = f"please report it with {keep_traceback(error, args)}"
    return LauncherError(f"this is a bug in launcher: {what}", hint=hint)


def keep_traceback(error: BaseException, args: list[str]) -> str:
    """Write what a report needs to a file that only its owner can read; return the path."""
    descriptor, path = tempfile.mkstemp(prefix="launcher-bug-", suffix=".txt")
    with open(descriptor, "w", errors="backslashreplace") as stream:
        stream.write(f"launcher {__version__}, Python {platform.python_version()}, {platform.platform()}\n")
        stream.write(f"launcher {shlex.join(args)}\n\n")
        stream.writelines(traceback.format_exception(error))
    return path


def say(text: str) -> None:
    """Write a line to stderr, if anybody still listens there."""
    with contextlib.suppress(OSError):
        stream = sys.stderr
        stream.write(
            text.encode(stream.encoding or "utf-8", "backslashreplace").decode(stream.encoding or "utf-8") + "\n"
        )
        stream.flush()


def styled(text: str, **style: object) -> str:
    """Colour text for a terminal. NO_COLOR (no-color.org) and TERM=dumb are honoured."""
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty()
    return text if plain else click.style(text, **style)  # type: ignore[arg-type]


def silence_stdout() -> None:
    """Point stdout at nothing, so that Python's own flush at exit does not complain a second time."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
