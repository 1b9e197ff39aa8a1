"""One .deb: what is read from it, and what is refused."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import ImageError
from launcher.image.deb import unpack
from tests.debs import COMPRESS, Item, Package, ar, file, folder, hardlink, symlink, tar

GOLDEN = Path(__file__).parent / "golden" / "deb"
ITEMS = (
    folder("./usr/"),
    folder("./usr/bin/"),
    file("./usr/bin/hello", "#!/bin/sh\n", 0o755),
    hardlink("./usr/bin/hi", "./usr/bin/hello"),
    symlink("./usr/bin/hey", "hello"),
    file("./usr/share/" + "n" * 150 + "/file", "long"),
)


@pytest.mark.parametrize("compression", COMPRESS)
def test_members_are_listed_with_their_bytes(tmp_path: Path, compression: str) -> None:
    deb, path = Package(items=ITEMS, compression=compression).write(tmp_path)
    package = unpack(deb, path, tmp_path)
    found = {entry.path: entry for entry in package.members}
    assert list(found) == [item.name[2:].rstrip("/") for item in ITEMS]
    assert [entry.kind for entry in package.members] == ["dir", "dir", "file", "hardlink", "symlink", "file"]
    assert b"".join(found["usr/bin/hello"].content.chunks()) == b"#!/bin/sh\n"
    assert (found["usr/bin/hello"].mode, found["usr/bin/hi"].target, found["usr/bin/hey"].target) == (
        0o755,
        "usr/bin/hello",
        "hello",
    )


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_both_dialects_of_tar_are_read(tmp_path: Path, format: int) -> None:
    name = "./usr/share/" + "d" * 60 + "/" + "f" * 60
    deb, path = Package(data=tar([file(name, "x")], format)).write(tmp_path)
    assert [entry.path for entry in unpack(deb, path, tmp_path).members] == [name[2:]]


def test_setuid_and_setgid_are_dropped_and_sticky_stays_on_folders(tmp_path: Path) -> None:
    items = [folder("./tmp/", 0o1777), folder("./mail/", 0o2775), file("./su", "", 0o6755), file("./s", "", 0o1640)]
    deb, path = Package(items=items).write(tmp_path)
    modes = {entry.path: entry.mode for entry in unpack(deb, path, tmp_path).members}
    assert modes == {"tmp": 0o1777, "mail": 0o775, "su": 0o755, "s": 0o640}


def test_the_control_archive_comes_along(tmp_path: Path) -> None:
    fields = {"Description": "short\n long\n ."}
    deb, path = Package(fields=fields, scripts={"postinst": "#!/bin/sh\n"}).write(tmp_path)
    package = unpack(deb, path, tmp_path)
    assert package.fields["Description"] == "short\n long\n ."
    assert dict(package.control) == {"postinst": b"#!/bin/sh\n"}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([f"{deb.sha256}.tar", "hello.deb"])


def test_a_package_cut_anywhere_is_refused(tmp_path: Path) -> None:
    blob = ar(Package(items=ITEMS).members())
    for size in range(0, len(blob) - 1, 23):
        deb, path = Package().write_blob(tmp_path, blob[:size])
        with pytest.raises(ImageError):
            unpack(deb, path, tmp_path)


def test_a_package_with_one_byte_changed_is_refused_or_reads_within_its_bounds(tmp_path: Path) -> None:
    blob = ar(Package(items=ITEMS, compression="").members())
    for at in range(0, len(blob), 37):
        deb, path = Package().write_blob(tmp_path, blob[:at] + bytes([blob[at] ^ 0x41]) + blob[at + 1 :])
        try:
            entries = unpack(deb, path, tmp_path).members
        except ImageError:
            continue
        for entry in entries:
            assert not entry.path.startswith("/") and ".." not in entry.path.split("/")
            assert entry.content is None or len(b"".join(entry.content.chunks())) == entry.content.size


Blob = Callable[[], bytes]


def blob(*items: Item, **package: object) -> bytes:
    return ar(Package(items=items, **package).members())  # type: ignore[arg-type]


def parts(**changes: bytes | None) -> bytes:
    """An archive whose members are replaced, or left out when None."""
    members = {**Package(items=ITEMS).members(), **{key.replace("__", "-"): v for key, v in changes.items()}}
    return ar({name: data for name, data in members.items() if data is not None})


HOSTILE: dict[str, Blob] = {
    "absolute-name": lambda: blob(file("/etc/passwd", "x")),
    "parent-name": lambda: blob(file("./usr/../../etc/passwd", "x")),
    "device": lambda: blob(Item(name="./dev/null", type=tarfile.CHRTYPE), Item(name="./sda", type=tarfile.BLKTYPE)),
    "fifo": lambda: blob(Item(name="./run/pipe", type=tarfile.FIFOTYPE)),
    "duplicate": lambda: blob(file("./a", "1"), file("a", "2")),
    "not-utf8": lambda: blob(file("./caf\udce9", "x")),
    "line-break": lambda: blob(file("./a\nb", "x")),
    "hardlink-to-nothing": lambda: blob(hardlink("./a", "./b")),
    "hardlink-outside": lambda: blob(hardlink("./a", "../../etc/passwd")),
    "hardlink-to-a-symlink": lambda: blob(symlink("./b", "/etc/passwd"), hardlink("./a", "./b")),
    "symlink-to-nothing": lambda: blob(symlink("./a", "")),
    "folder-with-bytes": lambda: blob(Item(name="./a/", type=tarfile.DIRTYPE, size=1)),
    "size-beyond-the-end": lambda: blob(file("./a", "x"), Item(name="./b", data=b"x", size=1 << 20)),
    "pax": lambda: ar(Package(data=tar([file("./" + "é" * 120, "x")], tarfile.PAX_FORMAT)).members()),
    "many": lambda: blob(*(file(f"/etc/{n}", "x") for n in range(25))),
    "bomb": lambda: blob(file("./zeros", bytes(17 << 20))),
    "bomb-zst": lambda: blob(file("./zeros", bytes(17 << 20)), compression=".zst"),
    "tar-without-its-end": lambda: ar(Package(data=tar(ITEMS)[:-1024]).members()),
    "empty-tar": lambda: ar(Package(data=b"").members()),
    "broken-header": lambda: ar(Package(data=b"x" * 1024).members()),
    "not-ar": lambda: b"PK\x03\x04" + bytes(100),
    "ar-cut": lambda: ar(Package(items=ITEMS).members())[:-40],
    "ar-size-is-no-number": lambda: ar(Package().members()).replace(b"4         `", b"four      `", 1),
    "format-3": lambda: parts(debian__binary=b"3.0\n"),
    "no-format": lambda: ar({"control.tar.gz": b"", "data.tar.gz": b""}),
    "no-data": lambda: ar({k: v for k, v in Package().members().items() if not k.startswith("data")}),
    "unknown-packing": lambda: blob(compression="").replace(b"data.tar  ", b"data.tar.Z"),
    "damaged-xz": lambda: parts(**{"data.tar.xz": COMPRESS[".xz"](tar(ITEMS))[:-30] + bytes(30)}),
    "damaged-gzip": lambda: parts(**{"control.tar.gz": b"\x1f\x8b" + bytes(50)}),
    "no-control": lambda: parts(**{"control.tar.gz": COMPRESS[".gz"](tar([folder("./")]))}),
    "control-is-no-stanza": lambda: parts(**{"control.tar.gz": COMPRESS[".gz"](tar([file("./control", "hello\n")]))}),
    "another-package": lambda: ar(Package(name="other", version="2", architecture="arm64").members()),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_refused_and_why(tmp_path: Path, name: str) -> None:
    deb, path = Package().write_blob(tmp_path, HOSTILE[name]())
    with pytest.raises(ImageError) as caught:
        unpack(deb, path, tmp_path)
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(f"{caught.value}\n")
    assert f"{caught.value}\n" == golden.read_text()


def test_nothing_is_left_of_a_bomb_but_what_the_limit_allows(tmp_path: Path) -> None:
    deb, path = Package(items=[file("./zeros", bytes(40 << 20))], compression=".zst").write(tmp_path)
    with pytest.raises(ImageError, match="Installed-Size"):
        unpack(deb, path, tmp_path)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 18 << 20


def test_a_lock_that_says_otherwise_is_believed(tmp_path: Path) -> None:
    deb, path = Package().write(tmp_path)
    with pytest.raises(ImageError, match=r"Version is 1\.0-1, but the lock says 1\.0-2"):
        unpack(replace(deb, version="1.0-2"), path, tmp_path)
