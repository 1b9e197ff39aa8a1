"""Foreign layers in the sandbox: whiteouts, hard links, devices, odd names and owners, for root and for anybody."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.digest import sha256_bytes
from tests.bases import Content, device, hard_link, layer
from tests.rootfs import tiny_image
from tests.test_target_sandbox import DRIVER, PACKAGES, ordinary_user

ODD = b"caf\xe9".decode("utf-8", "surrogateescape")
LOOK = """
import json, os, stat
found = {}
for folder, folders, files in os.walk(b"/odd"):
    for name in folders + files:
        path = os.path.join(folder, name)
        info = os.lstat(path)
        told = [stat.filemode(info.st_mode)]
        if stat.S_ISREG(info.st_mode):
            told += [open(path).read(), info.st_nlink > 1]
        found[path.decode("latin-1")] = told
print(json.dumps(found, sort_keys=True))
"""


def set_user_id(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid = 0o4755, 1234, 1234
    return info


LOWER: dict[str, Content] = {
    "odd": None,
    "odd/gone": b"",
    "odd/kept": b"kept",
    "odd/folder": None,
    "odd/folder/gone": b"",
    "odd/opaque": None,
    "odd/opaque/gone": b"",
    "odd/replaced": None,
    "odd/replaced/gone": b"",
    "odd/again": b"1",
    f"odd/{ODD}": b"bytes",
}
UPPER: dict[str, Content] = {
    "odd": None,
    "odd/.wh.gone": b"",
    "odd/.wh.folder": b"",
    "odd/opaque/.wh..wh..opq": b"",
    "odd/opaque/own": b"own",
    "odd/replaced": b"a file",
    "odd/again": b"2",
    "odd/linked": hard_link("odd/linked", "odd/again"),
    "odd/program": set_user_id("odd/program"),
    "odd/null": device("odd/null"),
}
SEEN: dict[str, list[object]] = {
    "/odd/again": ["-rw-r--r--", "2", True],
    "/odd/caf\xe9": ["-rw-r--r--", "bytes", False],
    "/odd/kept": ["-rw-r--r--", "kept", False],
    "/odd/linked": ["-rw-r--r--", "2", True],
    "/odd/opaque": ["drwxr-xr-x"],
    "/odd/opaque/own": ["-rw-r--r--", "own", False],
    "/odd/program": ["-rwxr-xr-x", "", False],
    "/odd/replaced": ["-rw-r--r--", "a file", False],
}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that every user may read, with launcher, the driver and the layers in it."""
    folder = Path(tempfile.mkdtemp(prefix="launcher-base-"))
    folder.chmod(0o755)
    shutil.copytree(PACKAGES / "launcher", folder / "launcher", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(DRIVER, folder)
    layers = [(each.diff_id, str(each.path)) for each in tiny_image(Cache(folder / "own")).layers]
    for members in (LOWER, UPPER):
        data = layer(members)
        path = folder / sha256_bytes(data)
        path.write_bytes(data)
        layers.append((path.name, str(path)))
    (folder / "layers.json").write_text(json.dumps(layers))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("overlay", [True, False])
@pytest.mark.parametrize("ordinary", [False, True])
def test_the_sandbox_shows_what_engines_show(place: Path, overlay: bool, ordinary: bool) -> None:
    user = ordinary_user()
    if ordinary and user is None:
        pytest.skip("needs root, setpriv and a Python that everybody may run")
    cache = Path(tempfile.mkdtemp(prefix="cache-", dir=place))
    if ordinary:
        os.chown(cache, 65534, 65534)
    told = {
        "packages": str(place),
        "layers": json.loads((place / "layers.json").read_text()),
        "argv": ["python3", "-I", "-S", "-c", LOOK],
        "mounts": [],
        "cache": str(cache),
        "overlay": overlay,
    }
    (place / "told.json").write_text(json.dumps(told))
    python = user if ordinary and user else [sys.executable]
    words = [*python, str(place / DRIVER.name), str(place / "told.json")]
    done = subprocess.run(words, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    if overlay:
        assert seen == SEEN
    else:  # one merged tree is made by hard links, so their number says nothing
        assert {path: told[:2] for path, told in seen.items()} == {path: told[:2] for path, told in SEEN.items()}
