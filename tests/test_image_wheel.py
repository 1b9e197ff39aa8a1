"""Wheels become entries as the binary distribution format says, and bad ones are refused by name."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.errors import ImageError
from launcher.image import wheel
from launcher.image.tree import Entry
from tests.wheels import member, wheel_bytes

SITE = "opt/env/lib/python3.11/site-packages"


def read(tmp_path: Path, data: bytes, filename: str = "tiny-1.0-py3-none-any.whl") -> dict[str, Entry]:
    path = tmp_path / filename
    path.write_bytes(data)
    return {entry.path: entry for entry in wheel.read(path, filename, "3.11")}


def content(entry: Entry) -> str:
    assert entry.content is not None
    return b"".join(entry.content.chunks()).decode()


def test_files_go_to_site_packages_with_the_executable_bit_only(tmp_path: Path) -> None:
    files = {"tiny/a.py": b"a", "tiny/tool.sh": b"#!/bin/sh\n", "tiny/__pycache__/a.cpython-311.pyc": b"no"}
    found = read(tmp_path, wheel_bytes(files=files, executable=("tiny/tool.sh",)))
    assert {path.removeprefix(SITE + "/") for path in found} == {
        "tiny/a.py",
        "tiny/tool.sh",
        *(f"tiny-1.0.dist-info/{name}" for name in ("INSTALLER", "METADATA", "RECORD", "WHEEL")),
    }
    assert found[f"{SITE}/tiny/a.py"].mode == 0o644
    assert found[f"{SITE}/tiny/tool.sh"].mode == 0o755


def test_data_schemes(tmp_path: Path) -> None:
    files = {
        "tiny-1.0.data/purelib/pure.py": b"",
        "tiny-1.0.data/platlib/plat.so": b"",
        "tiny-1.0.data/headers/tiny.h": b"",
        "tiny-1.0.data/data/share/man/man1/tiny.1": b"",
        "tiny-1.0.data/scripts/old": b"#!python -u\nprint(1)\n",
        "tiny-1.0.data/scripts/gui": b"#!pythonw\n",
        "tiny-1.0.data/scripts/shell": b"#!/bin/sh\n",
    }
    found = read(tmp_path, wheel_bytes(files=files))
    assert {
        f"{SITE}/pure.py",
        f"{SITE}/plat.so",
        "opt/env/include/site/python3.11/tiny/tiny.h",
        "opt/env/share/man/man1/tiny.1",
    } <= found.keys()
    assert content(found["opt/env/bin/old"]) == "#!/opt/env/bin/python -u\nprint(1)\n"
    assert content(found["opt/env/bin/gui"]) == "#!/opt/env/bin/python\n"
    assert content(found["opt/env/bin/shell"]) == "#!/bin/sh\n"
    assert found["opt/env/bin/shell"].mode == 0o755


def test_entry_points_become_programs_that_run(tmp_path: Path) -> None:
    points = b"[console_scripts]\ntell = tiny.cli:Main.run\n[gui_scripts]\nshow = tiny.cli:show [extra]\n"
    files = {"tiny/cli.py": b"class Main:\n    run = staticmethod(lambda: 7)\ndef show(): pass\n"}
    found = read(tmp_path, wheel_bytes(files={**files, "tiny-1.0.dist-info/entry_points.txt": points}))
    text = content(found["opt/env/bin/tell"])
    assert text.startswith("#!/opt/env/bin/python\n")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "cli.py").write_bytes(files["tiny/cli.py"])
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 7
    assert "opt/env/bin/show" in found


def test_the_record_is_sorted_and_complete(tmp_path: Path) -> None:
    points = b"[console_scripts]\ntell = tiny:main\n"
    found = read(tmp_path, wheel_bytes(files={"tiny/b.py": b"", "tiny-1.0.dist-info/entry_points.txt": points}))
    lines = content(found[f"{SITE}/tiny-1.0.dist-info/RECORD"]).splitlines()
    paths = [line.split(",")[0] for line in lines]
    assert paths == sorted(paths)
    assert "../../../bin/tell" in paths
    assert len(paths) == len(found)
    assert "tiny-1.0.dist-info/RECORD,," in lines
    assert all(line.split(",")[1].startswith("sha256=") for line in lines if not line.endswith("RECORD,,"))


def test_the_tree_is_what_pip_installs(tmp_path: Path) -> None:
    """A wheel with everything in it, installed by pip into a virtual environment, has the same files and modes."""
    files = {
        "tiny/__init__.py": b"def main(): pass\n",
        "tiny/tool.sh": b"#!/bin/sh\n",
        "tiny-1.0.data/scripts/old": b"#!python\nprint(1)\n",
        "tiny-1.0.data/data/share/x.txt": b"x",
        "tiny.pth": b"import os\n",
        "tiny-1.0.dist-info/entry_points.txt": b"[console_scripts]\ntell = tiny:main\n",
    }
    found = read(tmp_path, wheel_bytes(files=files, executable=("tiny/tool.sh", "tiny-1.0.data/scripts/old")))
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    before = set(home.rglob("*"))
    args = [sys.executable, "-m", "pip", "--python", str(home), "install", "-q", "--no-index", "--no-compile"]
    subprocess.run([*args, str(tmp_path / "tiny-1.0-py3-none-any.whl")], check=True)
    here = f"python{sys.version_info.major}.{sys.version_info.minor}"
    by_pip = {
        f"opt/env/{path.relative_to(home)}".replace(here, "python3.11"): stat.S_IMODE(path.stat().st_mode)
        for path in home.rglob("*")
        if path.is_file() and path not in before
    }
    asked_by_name = {f"{SITE}/tiny-1.0.dist-info/{name}" for name in ("REQUESTED", "direct_url.json")}
    umask = os.umask(0)
    os.umask(umask)
    assert {path: mode & 0o111 for path, mode in by_pip.items() if path not in asked_by_name} == {
        path: entry.mode & 0o111 & ~umask for path, entry in found.items()
    }


def absolute() -> bytes:
    return wheel_bytes(extra=((member("/etc/passwd"), b"x"),))


def symlink() -> bytes:
    return wheel_bytes(extra=((member("tiny/link", 0o777, stat.S_IFLNK), b"/etc/passwd"),))


def twice() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate name"):
        return wheel_bytes(extra=((member("tiny/__init__.py"), b"other"),))


def damaged() -> bytes:
    data = bytearray(wheel_bytes(files={"tiny/a.py": bytes(range(256)) * 40}))
    at = data.index(b"tiny/a.py") + 60
    data[at] ^= 0xFF
    return bytes(data)


def wrong_size() -> bytes:
    data = wheel_bytes(files={"tiny/a.py": b"0123456789" * 100})
    return data.replace((1000).to_bytes(4, "little"), (999).to_bytes(4, "little"))


def bomb() -> bytes:
    data = wheel_bytes(files={"tiny/a.bin": bytes(1000)})
    return data.replace((1000).to_bytes(4, "little"), (0xFFFFFFF0).to_bytes(4, "little"))


def lzma_member() -> bytes:
    info = member("tiny/x")
    info.compress_type = zipfile.ZIP_LZMA
    return wheel_bytes(extra=((info, b"x"),))


INFO = "tiny-1.0.dist-info"
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "absolute": (absolute, "'/etc/passwd' is an absolute path"),
    "drive": (lambda: wheel_bytes(extra=((member("C:/x"), b""),)), "'C:/x' is an absolute path"),
    "dots": (lambda: wheel_bytes(extra=((member("tiny/../../x"), b""),)), "'tiny/../../x' leads out of its folder"),
    "dots-at-end": (lambda: wheel_bytes(extra=((member("tiny/.."), b""),)), "'tiny/..' leads out of its folder"),
    "backslash": (lambda: wheel_bytes(extra=((member("..\\x"), b""),)), "isn't a path that can be installed"),
    "empty-part": (lambda: wheel_bytes(extra=((member("tiny//x"), b""),)), "isn't a path that can be installed"),
    "symlink": (symlink, "'tiny/link' is a link or a device, which wheels have not"),
    "twice": (twice, "'tiny/__init__.py' is there twice"),
    "file-and-folder": (
        lambda: wheel_bytes(extra=((member("tiny/__init__.py/x"), b""),)),
        "'tiny/__init__.py' is a file and a folder at once",
    ),
    "lzma": (lzma_member, "'tiny/x' is packed by method 14; wheels have stored and deflated members"),
    "not-a-zip": (lambda: b"nothing", "it isn't a zip archive: File is not a zip file"),
    "truncated": (lambda: wheel_bytes()[:-30], "it isn't a zip archive: File is not a zip file"),
    "damaged": (damaged, "tiny/a.py is damaged: it isn't what the archive's directory says"),
    "wrong-size": (wrong_size, "tiny/a.py is damaged: it isn't what the archive's directory says"),
    "bomb": (bomb, "that is a zip bomb, not a package"),
    "no-dist-info": (
        lambda: wheel_bytes(drop=(f"{INFO}/METADATA", f"{INFO}/WHEEL", f"{INFO}/RECORD")),
        "it has 0 .dist-info folders (none), a wheel has one",
    ),
    "two-dist-infos": (
        lambda: wheel_bytes(extra=((member("x-1.dist-info/METADATA"), b""),)),
        "it has 2 .dist-info folders (tiny-1.0.dist-info, x-1.dist-info), a wheel has one",
    ),
    "other-name": (
        lambda: wheel_bytes("other"),
        "its .dist-info folder is named other-1.0.dist-info, not after the wheel",
    ),
    "other-version": (lambda: wheel_bytes(version="1.1"), "its .dist-info folder is named tiny-1.1.dist-info"),
    "no-record": (lambda: wheel_bytes(drop=(f"{INFO}/RECORD",)), f"{INFO}/RECORD is missing"),
    "no-wheel": (lambda: wheel_bytes(drop=(f"{INFO}/WHEEL",)), f"{INFO}/WHEEL is missing"),
    "wheel-2": (lambda: wheel_bytes(replace={f"{INFO}/WHEEL": b"Wheel-Version: 2.0\n"}), "its Wheel-Version is 2.0"),
    "wheel-none": (lambda: wheel_bytes(replace={f"{INFO}/WHEEL": b"Tag: x\n"}), "its Wheel-Version is not told"),
    "metadata-encoding": (lambda: wheel_bytes(replace={f"{INFO}/METADATA": b"\xff"}), "METADATA isn't UTF-8"),
    "scheme": (
        lambda: wheel_bytes(files={"tiny-1.0.data/etc/x": b""}),
        "tiny-1.0.data/etc/x: there is no installation scheme 'etc'",
    ),
    "same-place": (
        lambda: wheel_bytes(files={"tiny.py": b"1", "tiny-1.0.data/purelib/tiny.py": b"2"}),
        f"two of its files would be /{SITE}/tiny.py",
    ),
    "entry-point-path": (
        lambda: wheel_bytes(files={f"{INFO}/entry_points.txt": b"[console_scripts]\n../../evil = tiny:main\n"}),
        "entry point '../../evil' isn't a program's name",
    ),
    "entry-points-text": (
        lambda: wheel_bytes(files={f"{INFO}/entry_points.txt": b"no section\n"}),
        "its entry_points.txt can't be read",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_wheels_are_refused(case: str, tmp_path: Path) -> None:
    make, message = BAD[case]
    with pytest.raises(ImageError) as caught:
        for entry in read(tmp_path, make()).values():
            content(entry)
    assert str(caught.value).startswith("tiny-1.0-py3-none-any.whl: ")
    assert message in str(caught.value)
