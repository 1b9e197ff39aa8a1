"""The supervisor of one attempt, inside the container: standard library and obstore only, and quick to start.

Started as `python3 -I -S -B /opt/launcher/run.py /run/launcher/attempt.json`.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(argv: list[str] | None = None) -> NoReturn:
    """Supervise the attempt that the first argument describes, and end this process with the command's exit code.

    125 means that the attempt could not be supervised at all. `-I` hides PYTHONPYCACHEPREFIX from the interpreter;
    it is honoured here, because an image carries no byte code and compiling json and threading takes 100 ms.
    """
    if prefix := os.environ.get("PYTHONPYCACHEPREFIX"):
        sys.pycache_prefix, sys.dont_write_bytecode = prefix, False
    from launcher.runner.supervise import run

    try:
        code = run(sys.argv[1] if argv is None else argv[0])
    except BaseException:  # a bug: tell it, but never as if it were the command's own end
        sys.excepthook(*sys.exc_info())
        code = 125
    os._exit(code)  # at once: background threads that hang on a store must not hold the exit code back
