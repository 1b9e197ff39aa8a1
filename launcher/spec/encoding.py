"""The encodings that requirements files are found in."""

from __future__ import annotations

import codecs


def decode(data: bytes, errors: str = "strict") -> str:
    """Decode UTF-8, or UTF-16 when the first bytes say so: Windows' PowerShell writes `pip freeze > FILE` in it.

    pip reads both, too. Raises UnicodeDecodeError.
    """
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if wide else "utf-8-sig", errors)
