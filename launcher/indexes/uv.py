"""Find the uv program that came with launcher, and the index that it asks when nothing is configured."""

from __future__ import annotations

import functools
import os
import re
import shutil
import sys
from pathlib import Path

from launcher.errors import FetchError, ProcessError
from launcher.process import run

DEFAULT_INDEX = re.compile(r"default package index \(by default:\s*<(https?://[^>\s]+)>")
INSTALL = "install it beside launcher: `python -m pip install uv`"


def uv_binary() -> str:
    """Return the path of uv: the one of this Python environment, else the one on PATH. Raises ProcessError."""
    beside = Path(sys.executable).parent / "uv"
    if os.access(beside, os.X_OK):
        return str(beside)
    try:
        import uv

        return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        pass
    if found := shutil.which("uv"):
        return found
    raise ProcessError("there is no program `uv` on this machine", hint=INSTALL)


@functools.cache
def default_index() -> str:
    """Ask uv for the index that it uses by itself, so that resolving and fetching mean the same one.

    Raises FetchError when it doesn't tell.
    """
    said = run([uv_binary(), "help", "pip", "compile", "--no-pager"], timeout_s=30).stdout.decode(errors="replace")
    if found := DEFAULT_INDEX.search(said):
        return found[1]
    raise FetchError("uv doesn't tell its default index", hint="set `index-url` in pip's or uv's settings")
