"""The forms of what makes the environment, requirements apart: base, apt, python, env, platform."""

from __future__ import annotations

import re

from launcher.spec.forms import Form, list_of, mapping_of
from launcher.spec.nodes import Node, Scalar
from launcher.spec.reading import Reading, said, shortened, text_of

SUITE = r"debian:[a-z][a-z]*"
# Debian Policy 5.6.7 (package names) and 5.6.12 (versions).
APT_NAME = r"[a-z0-9][a-z0-9+.-]+"
APT_VERSION = r"(?:[0-9]+:)?[0-9][A-Za-z0-9.+~-]*"
APT = f"{APT_NAME}(?:={APT_VERSION})?"
ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
OLDEST_PYTHON = (3, 10)
PYTHON = 'a quoted version such as "3.11"'


def read_base(node: Node, reading: Reading) -> str | None:
    expected = "a Debian suite such as debian:bookworm"
    text = text_of(node, reading, expected)
    if text is None or re.fullmatch(SUITE, text):
        return text
    if text.startswith(("docker:", "oci:")) or "/" in text:
        reading.add(
            node.where, f"images from a registry are not supported yet, and {shortened(text)} is one", BASE_HINT
        )
    elif re.fullmatch(r"debian:[0-9.]+(-slim)?", text):
        reading.add(
            node.where,
            f"expected {expected}, not {shortened(text)}",
            "write the suite's name: 12 is bookworm, 13 is trixie",
        )
    elif re.fullmatch(r"[a-z]+", text):
        reading.add(
            node.where,
            f"expected {expected}, not {shortened(text)}",
            f"write debian:{text} if that is a suite of Debian",
        )
    else:
        hint = BASE_HINT if ":" in text and not text.startswith("debian") else None
        reading.add(node.where, f"expected {expected}, not {shortened(text)}", hint)
    return None


BASE_HINT = "until then, start from debian:bookworm and list what you need below apt and pip"


def read_apt(node: Node, reading: Reading) -> str | None:
    expected = "a Debian package, as name or name=version"
    text = text_of(node, reading, expected)
    if text is None or re.fullmatch(APT, text):
        return text
    hint = None
    if len(text.split()) > 1:
        hint = "write one package an item"
    elif re.fullmatch(APT, text.lower()):
        hint = f"names of Debian packages are lower case: {text.lower()}"
    elif re.search(r"[<>~]=?|==", text):
        hint = "an exact version is written name=version; leave it out to have the suite's"
    elif text.endswith(".deb") or "/" in text:
        hint = "a package is taken from the suite by its name"
    elif ":" in text:
        hint = "packages of another architecture are not supported; write the name alone"
    reading.add(node.where, f"expected {expected}, not {shortened(text)}", hint)
    return None


def read_python(node: Node, reading: Reading) -> str | None:
    if isinstance(node, Scalar) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        reading.add(node.where, f"expected {PYTHON}, not the number {node.text}", python_hint(node))
        return None
    text = text_of(node, reading, PYTHON)
    if text is None:
        return None
    if not (found := re.fullmatch(r"([0-9]+)\.([0-9]+)", text)):
        hint = "two numbers; the suite decides the third" if re.match(r"[0-9]+\.[0-9]+\.", text) else None
        reading.add(node.where, f"expected {PYTHON}, not {shortened(text)}", hint)
        return None
    if (int(found[1]), int(found[2])) < OLDEST_PYTHON or int(found[1]) != 3:
        reading.add(node.where, f"Python {text} is not supported", "3.10 is the oldest that is")
        return None
    return text


def python_hint(node: Scalar) -> str:
    """Say why a bare 3.10 is refused: YAML drops its zero."""
    known = f"; to YAML it is the number {node.value}" if str(node.value) != node.text else ""
    return (
        f'quote it: "{node.text}"{known}' if "." in node.text else f'quote it, with its minor version: "{node.text}.11"'
    )


def read_env(node: Node, reading: Reading) -> str | None:
    """Environment variables are text; a number is taken as it is written."""
    number = isinstance(node, Scalar) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
    if isinstance(node, Scalar) and (number or (isinstance(node.value, str) and not node.trap)):
        return node.text
    hint = (
        f'quote it to have text: "{node.text}"'
        if isinstance(node, Scalar) and node.text
        else 'write "" for an empty value'
    )
    reading.add(node.where, f"expected text or a number, not {said(node)}", hint)
    return None


def read_platform(node: Node, reading: Reading) -> str | None:
    text = text_of(node, reading, "linux/amd64")
    if text is None or text == "linux/amd64":
        return text
    later = re.fullmatch(r"(linux/)?(arm64|aarch64|ppc64le|s390x|riscv64|arm/v7|386)", text)
    message = f"{text} is not supported yet" if later else f"expected linux/amd64, not {shortened(text)}"
    reading.add(node.where, message, "leave `platform` out, or write linux/amd64")
    return None


BASE = Form(
    expected="a Debian suite such as debian:bookworm",
    schema={"type": "string", "pattern": f"^{SUITE}$"},
    read=read_base,
)
APT_ITEM = Form(expected="a Debian package", schema={"type": "string", "pattern": f"^{APT}$"}, read=read_apt)
APT_LIST = list_of(APT_ITEM, "a list of Debian packages")
PYTHON_FORM = Form(expected=PYTHON, schema={"type": "string", "pattern": r"^3\.[1-9][0-9]+$"}, read=read_python)
ENV_VALUE = Form(expected="text or a number", schema={"type": ["string", "number"]}, read=read_env)
ENV = mapping_of(
    ENV_VALUE,
    "a mapping from variables to values",
    rf"(?!LAUNCHER_){ENV_NAME}",
    "a variable",
    "a variable has letters, digits and _, and LAUNCHER_... are launcher's own",
)
PLATFORM = Form(expected="linux/amd64", schema={"const": "linux/amd64"}, read=read_platform)
