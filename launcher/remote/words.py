"""Words for another machine's shell: whatever they hold, and whatever that shell is, they arrive as they are.

sshd gives one text to the user's login shell, which may be bash, tcsh or fish. Single quotes mean nearly the same to
all of them; what they don't agree on (backslashes, `!`, newlines, bytes that are no ASCII) goes as octal numbers, which
a POSIX `printf %b` turns back (POSIX.1-2017, printf).
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import zlib
from collections.abc import Sequence

from launcher.errors import TargetError

LONGEST = 120_000  # Linux takes no argument of 128 KiB (execve(2), MAX_ARG_STRLEN), and the whole command is one
PLAIN = re.compile(rb"[A-Za-z0-9 _./:=,@+;{}()\[\]<>&|*?#~^'\"$%-]*")
KEPT = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 _./:=,@+-")
WENT_ITSELF = "launcher: the command ended with 255"  # ssh says 255 for troubles of its own, too
SCRIPT = f"""{{}}; c=$?; if [ $c = 255 ]; then printf %s '{WENT_ITSELF}' >&2; fi; exit $c"""


def command_line(argv: Sequence[str]) -> bytes:
    """Return the one text that makes any login shell run these words. Raises TargetError when it would be too long."""
    script = os.fsencode(SCRIPT.format(shlex.join(argv)))
    if not PLAIN.fullmatch(script):
        script = b'eval "$(printf %b "' + b"".join(map(octal, script)) + b'")"'
    line = b"sh -c " + single_quoted(script)
    if len(line) > LONGEST:
        raise TargetError(f"a command of {len(line)} bytes is longer than Linux takes", hint="send less by its words")
    return line


def single_quoted(text: bytes) -> bytes:
    return b"'" + text.replace(b"'", b"'\"'\"'") + b"'"


def octal(byte: int) -> bytes:
    return bytes([byte]) if byte in KEPT else b"\\0%03o" % byte


def without_mark(stderr: bytes) -> tuple[bytes, bool]:
    """Return what a command said on stderr, and whether it was the command itself that ended with 255."""
    said, mark, rest = stderr.partition(WENT_ITSELF.encode())
    return said + rest, bool(mark)


def packed(source: str) -> str:
    """Return a Python program that does the same, in a third of the bytes, and of characters that go as they are."""
    data = base64.b64encode(zlib.compress(source.encode(), 9)).decode()
    return f'import base64, zlib; exec(zlib.decompress(base64.b64decode("{data}")))'


def after_setup(setup: Sequence[str], argv: Sequence[str]) -> list[str]:
    """Return the words that run a command after a site's own lines, such as `module load python/3.11`.

    Modules are functions of login shells, so bash is one then. What the lines print goes to stderr.
    """
    if not setup:
        return list(argv)
    lines = "\n".join(setup)
    return ["bash", "-lc", f'{{\n{lines}\n}} >&2\nexec "$@"', "bash", *argv]
