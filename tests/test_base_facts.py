"""What is read out of a base: its system, its C library, its Python and what that has installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import ResolveError
from launcher.resolve.base.installed import installed
from launcher.resolve.base.python import find_python
from launcher.resolve.base.system import libc_of, os_release, suite_of
from tests.bases import GLIBC, Content, distribution, python, system, tree

LIBC6 = b"Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.39-0ubuntu8.4\n\n"
PYTHON_DEB = (
    b"Package: python3.11-minimal\nStatus: install ok installed\nArchitecture: amd64\nVersion: 3.11.2-6+deb12u6\n"
)


@pytest.mark.parametrize(
    ("files", "libc"),
    [
        ({"lib/x86_64-linux-gnu/libc.so.6": "libc-2.31.so", "lib/x86_64-linux-gnu/libc-2.31.so": GLIBC}, "glibc 2.36"),
        ({"usr/lib64/libc.so.6": GLIBC, "lib64": "usr/lib64", "opt/x/lib/libc.so.6": b"other"}, "glibc 2.36"),
        ({"var/lib/dpkg/status": LIBC6}, "glibc 2.39"),
        ({"lib/ld-musl-x86_64.so.1": b"", "lib/apk/db/installed": b"P:musl\nV:1.2.5-r0\n\n"}, "musl 1.2"),
    ],
)
def test_the_c_library(tmp_path: Path, files: dict[str, Content], libc: str) -> None:
    assert libc_of(tree(tmp_path, files), "x") == libc


@pytest.mark.parametrize(
    ("text", "suite"),
    [
        ('ID=ubuntu\nVERSION_CODENAME=noble\nVERSION_ID="24.04"\n', "noble"),
        ('# rocky\nID="rocky"\nVERSION_ID="9.3"\n', "rocky 9.3"),
        ("", "linux"),
    ],
)
def test_the_suite(tmp_path: Path, text: str, suite: str) -> None:
    assert suite_of(os_release(tree(tmp_path, {"etc/os-release": text.encode()}))) == suite


def conda() -> dict[str, Content]:
    return {
        "opt/conda/bin/python3.11!": b"\x7fELF",
        "opt/conda/bin/python": "python3.11",
        "opt/conda/conda-meta/python-3.11.9-h955ad1f_0.json": b'{"version": "3.11.9"}',
        "opt/conda/lib/python3.11/os.py": b"",
    }


def of_debian() -> dict[str, Content]:
    return {
        "usr/bin/python3.11!": b"\x7fELF",
        "usr/bin/python3": "/etc/alternatives/python3",
        "etc/alternatives/python3": "../../usr/bin/python3.11",
        "var/lib/dpkg/status": PYTHON_DEB,
        "bin": "usr/bin",
    }


def of_header() -> dict[str, Content]:
    return {
        "usr/local/bin/python3.13!": b"\x7fELF",
        "usr/local/bin/python3": "python3.13",
        "usr/local/include/python3.13/patchlevel.h": b'#define PY_VERSION      "3.13.0rc2+"\n',
    }


@pytest.mark.parametrize(
    ("files", "path", "found"),
    [
        (python(), "/usr/local/bin:/usr/bin", ("/usr/local/bin/python3.12", "3.12.4")),
        (conda(), "/opt/conda/bin:/usr/bin", ("/opt/conda/bin/python3.11", "3.11.9")),
        (of_debian(), "/bin", ("/usr/bin/python3.11", "3.11.2")),
        (of_header(), "", ("/usr/local/bin/python3.13", "3.13.0rc2")),
        ({**of_debian(), **conda()}, "/opt/conda/bin:/usr/bin", ("/opt/conda/bin/python3.11", "3.11.9")),
    ],
)
def test_the_python_on_the_path(tmp_path: Path, files: dict[str, Content], path: str, found: tuple[str, str]) -> None:
    interpreter = find_python(tree(tmp_path, files), {"PATH": path}, None, "x")
    assert interpreter
    assert (interpreter.path, interpreter.version) == found


def test_a_wanted_python_is_found_behind_another(tmp_path: Path) -> None:
    found = tree(tmp_path, {**python(version="3.12.4"), **of_debian()})
    interpreter = find_python(found, {"PATH": "/usr/local/bin:/usr/bin"}, "3.11", "x")
    assert interpreter
    assert interpreter.path == "/usr/bin/python3.11"
    with pytest.raises(ResolveError, match=r"3.12.4 \(/usr/local/bin/python3.12\), 3.11.2 \(/usr/bin/python3.11\)"):
        find_python(found, {"PATH": "/usr/local/bin:/usr/bin"}, "3.10", "x")


def test_what_is_no_python(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "usr/bin/python3": b"not executable",
        "usr/bin/python!": b"#!/bin/sh\n",
        "opt/env": None,
    }
    assert find_python(tree(tmp_path, {**system(), **files}), {}, None, "x") is None


def test_debians_python_sees_dist_packages_only(tmp_path: Path) -> None:
    files = {
        **of_debian(),
        **distribution("usr/lib/python3/dist-packages", "Py_YAML", "6.0"),
        **distribution("usr/local/lib/python3.11/dist-packages", "numpy", "2.0"),
        **distribution("usr/lib/python3/dist-packages", "numpy", "1.24"),
        **distribution("usr/lib/python3.11/site-packages", "unseen", "1"),
        "usr/lib/python3/dist-packages/six-1.16.0.egg-info": b"Metadata-Version: 1.2\nName: six\nVersion: 1.16.0\n",
        "usr/lib/python3/dist-packages/odd-x.egg-info/PKG-INFO": b"Name: odd\nVersion: not-a-version\n",
    }
    found = tree(tmp_path, files)
    interpreter = find_python(found, {}, None, "x")
    assert interpreter
    assert [(x.name, x.version) for x in installed(found, interpreter)] == [
        ("numpy", "2.0"),
        ("py-yaml", "6.0"),
        ("six", "1.16.0"),
    ]
