"""Tiny sdists that tests build: one without a pyproject.toml, one with a C extension."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping

from tests.index_server import File, Index

PROJECT = '[build-system]\nrequires = ["setuptools>=61"]\nbuild-backend = "setuptools.build_meta"\n'
SETUP_PURE = """
import os, pathlib, socket
from setuptools import setup
try:
    socket.create_connection(("127.0.0.1", {port}), timeout=2)
    seen = "network"
except OSError as e:
    seen = "none"
pathlib.Path("tinypure.py").write_text(f"network = {{seen!r}}\\nhome = {{os.environ['HOME']!r}}\\n")
setup(name="tinypure", version="{version}", py_modules=["tinypure"])
"""
SETUP_C = """
from setuptools import Extension, setup
setup(name="tinyc", version="1.0", ext_modules=[Extension("tinyc", ["tinyc.c"])])
"""
C = """
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "tinyc", NULL, -1, methods};
PyMODINIT_FUNC PyInit_tinyc(void) { return PyModule_Create(&module); }
"""


def sdist_bytes(name: str, version: str, files: Mapping[str, str]) -> bytes:
    """Return a .tar.gz as a sdist is, owned by a user that no sandbox knows."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, text in {"PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", **files}.items():
            info = tarfile.TarInfo(f"{name}-{version}/{path}")
            info.size, info.uid, info.gid, info.uname = len(text.encode()), 4321, 4321, "nobody-knows"
            archive.addfile(info, io.BytesIO(text.encode()))
    return gzip.compress(out.getvalue(), mtime=0)


def offer(index: Index, name: str, version: str, files: Mapping[str, str]) -> File:
    """Put a sdist on an index."""
    data = sdist_bytes(name, version, files)
    file = File(filename=f"{name}-{version}.tar.gz", data=data, sha256=hashlib.sha256(data).hexdigest())
    index.files.setdefault(name, {})[file.filename] = file
    return file


def pure(port: int, version: str = "1.0") -> dict[str, str]:
    return {"setup.py": SETUP_PURE.format(port=port, version=version)}


def with_c() -> dict[str, str]:
    return {"setup.py": SETUP_C, "tinyc.c": C, "pyproject.toml": PROJECT}
