"""What plain (unquoted) scalars mean: YAML 1.2's core schema, and the traps where older readers differ.

PyYAML's own rules (YAML 1.1) read `no` as false, `010` as 8, `1:30` as 90 and `1e-3` as text. Where 1.1 and 1.2
disagree in a way that changes a result silently, a scalar has a trap: the reason why it has to be written otherwise.
"""

from __future__ import annotations

import re

from launcher.spec.model import Param

INTEGER = re.compile(r"[-+]?[0-9]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
PREFIXED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
OLD_BOOLEAN = re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
OLD_OCTAL = re.compile(r"[-+]?0[0-9]+")
OLD_SEXAGESIMAL = re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?")
OLD_UNDERSCORES = re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?")
FIXED: dict[str, Param] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def meaning(text: str) -> Param:
    """Return what a plain (unquoted) scalar means by YAML 1.2.2, section 10.3 (core schema)."""
    if text in FIXED:
        return FIXED[text]
    if INTEGER.fullmatch(text) and len(text) < 1000:  # int() refuses more than 4300 digits
        return int(text)
    if PREFIXED.fullmatch(text):
        return int(text, 0)
    if FLOAT.fullmatch(text):
        return float(text)
    if SPECIAL_FLOAT.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


def trap(text: str) -> str | None:
    """Return why a plain scalar is read differently by YAML 1.1 and 1.2, or None when it is not."""
    if OLD_BOOLEAN.fullmatch(text):
        return f"{text} is true or false for some YAML readers and text for others; write true or false, or quote it"
    if OLD_OCTAL.fullmatch(text):
        if int(text) == 0:
            return None
        return f"{text} is octal for some YAML readers and decimal for others; write {int(text)}, or quote it"
    if OLD_SEXAGESIMAL.fullmatch(text):
        return f"{text} is a number in base 60 for some YAML readers and text for others; quote it"
    if OLD_UNDERSCORES.fullmatch(text):
        return f"{text} is a number for some YAML readers and text for others; write it without _, or quote it"
    return None


def word_meaning(text: str) -> Param:
    """Return what text means that stands outside of YAML, on a command line or in a table: quotes make it text."""
    return quoted(text) if text[:1] in ("'", '"') else meaning(text)


def word_trap(text: str) -> str | None:
    """Return why such text is ambiguous, or None when it is not; what is quoted never is."""
    return None if text[:1] in ("'", '"') else trap(text)


def quoted(text: str) -> str:
    """Return what a quoted YAML scalar means; text that only begins with a quote is itself."""
    if len(text) < 2 or text[-1] != text[0]:
        return text
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, str) else text
