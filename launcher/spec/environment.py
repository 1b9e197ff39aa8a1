"""The forms of what makes the environment, requirements apart: base, apt, python, env, platform."""

from __future__ import annotations

import re
from pathlib import Path

from launcher.spec.forms import Form, list_of, mapping_of
from launcher.spec.nodes import Node, Scalar
from launcher.spec.reading import Reading, kind_of, path_hint, said, shortened, text_of

SUITE = r"debian:[a-z][a-z]*"
# OCI Distribution Specification 1.1, "Pulling manifests": names, tags and digests; hosts as RFC 3986 has them.
NAME_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
REGISTRY = rf"docker://{HOST}(?:/{NAME_PART})+(?::[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
# Debian Policy 5.6.7 (package names) and 5.6.12 (versions).
APT_NAME = r"[a-z0-9][a-z0-9+.-]+"
APT_VERSION = r"(?:[0-9]+:)?[0-9][A-Za-z0-9.+~-]*"
APT = f"{APT_NAME}(?:={APT_VERSION})?"
ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
OLDEST_PYTHON = (3, 10)
PYTHON = 'a quoted version such as "3.11"'


def read_base(node: Node, reading: Reading) -> str | None:
    expected = BASE_EXPECTED
    text = text_of(node, reading, expected)
    if text is None or re.fullmatch(f"{SUITE}|{REGISTRY}", text):
        return text
    if text.startswith(("docker:", "oci:")) or "/" in text:
        reading.add(node.where, f"expected {expected}, not {shortened(text)}", registry_hint(text))
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
        hint = registry_hint(text) if ":" in text and not text.startswith("debian") else None
        reading.add(node.where, f"expected {expected}, not {shortened(text)}", hint)
    return None


BASE_EXPECTED = "a Debian suite such as debian:bookworm, or an image as docker://HOST/NAME:TAG"


def registry_hint(text: str) -> str:
    """Guess how an image of a registry was meant. Docker's own short names stand for its hub's."""
    name = re.sub(r"^[a-z]+:/*", "", text) if re.match(r"(docker|oci|https?):", text) else text
    first = name.partition("/")[0]
    if "/" not in name:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    guess = f"docker://{name}"
    if re.fullmatch(REGISTRY, guess):
        return f"did you mean {guess}?"
    return "a name is lower case; a tag follows `:`, a digest `@sha256:`"


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
    text = text_of(node, reading, PLATFORM_EXPECTED)
    if text is None or text in PLATFORMS:
        return text
    meant = MEANT.get(text.removeprefix("linux/"))
    hint = f"did you mean {meant}?" if meant else "GPU nodes are one of these; leave `platform` out for linux/amd64"
    reading.add(node.where, f"expected {PLATFORM_EXPECTED}, not {shortened(text)}", hint)
    return None


PLATFORMS = ("linux/amd64", "linux/arm64")
PLATFORM_EXPECTED = "linux/amd64 or linux/arm64"
MEANT = {"x86_64": "linux/amd64", "amd64": "linux/amd64", "aarch64": "linux/arm64", "arm64": "linux/arm64"}


def read_containerfile(node: Node, reading: Reading) -> Path | None:
    """Check that the file is there."""
    text = text_of(node, reading, CONTAINERFILE_EXPECTED)
    if text is None:
        return None
    if (kind := kind_of(path := reading.path(text))) != "file":
        wrong = "is not there" if kind is None else "is no file"
        reading.add(node.where, f"{shortened(text)} {wrong}", path_hint(text, reading))
        return None
    return path


CONTAINERFILE_EXPECTED = "the path of a Containerfile"


def read_version(node: Node, reading: Reading) -> str | None:
    """Read a version that YAML would take for a number."""
    if isinstance(node, Scalar) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        hint = f'quote it: "{node.text}"'
        reading.add(node.where, f"expected {VERSION_EXPECTED}, not the number {node.text}", hint)
        return None
    text = text_of(node, reading, VERSION_EXPECTED)
    if text is None or re.fullmatch(VERSION_PATTERN, text):
        return text
    reading.add(node.where, f"expected {VERSION_EXPECTED}, not {shortened(text)}")
    return None


VERSION_EXPECTED = 'a quoted version such as "12.6"'
VERSION_PATTERN = r"[0-9]+(\.[0-9]+)*"


def read_distribution(node: Node, reading: Reading) -> str | None:
    """Read the name of a Python distribution, in its normal form (PEP 503)."""
    expected = "the name of a distribution, such as flash-attn"
    text = text_of(node, reading, expected)
    if text is None or re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", text):
        return text and re.sub(r"[-_.]+", "-", text).lower()
    hint = "the name alone; versions are written under `pip`" if re.search(r"[<>=~!]", text) else None
    reading.add(node.where, f"expected {expected}, not {shortened(text)}", hint)
    return None


BASE = Form(
    expected=BASE_EXPECTED,
    schema={"type": "string", "pattern": f"^(?:{SUITE}|{REGISTRY})$"},
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
PLATFORM = Form(expected=PLATFORM_EXPECTED, schema={"enum": list(PLATFORMS)}, read=read_platform)
CONTAINERFILE = Form(expected=CONTAINERFILE_EXPECTED, schema={"type": "string"}, read=read_containerfile)
VERSION = Form(
    expected=VERSION_EXPECTED, schema={"type": "string", "pattern": f"^{VERSION_PATTERN}$"}, read=read_version
)
DISTRIBUTION = Form(
    expected="the name of a distribution",
    schema={"type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"},
    read=read_distribution,
)
BUILD_PACKAGES = list_of(DISTRIBUTION, "a list of names of distributions")
