"""Unpacking layers: every dialect of tar that layers come in, whiteouts, and archives that try to get out."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.digest import sha256_file
from launcher.errors import ImageError, IntegrityError
from launcher.target import trees
from launcher.target.sandbox import merged
from launcher.target.untar import OPAQUE_MARK, unpack

LONG = "d" * 90 + "/" + "e" * 90 + "/" + "f" * 200


def archive(path: Path, *members: tuple[str, bytes | str | None, int], form: int = tarfile.PAX_FORMAT) -> Path:
    """Write an archive. Content: bytes of a file, text of a link, None for a folder."""
    with tarfile.open(path, "w", format=form) as out:
        for name, content, mode in members:
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = mode, 1_000_000_000
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            out.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_everything_comes_out(tmp_path: Path, form: int) -> None:
    big = os.urandom(300_000)
    names = [("./", None, 0o755), ("a", None, 0o555), ("a/f", b"x", 0o4750), ("a/big", big, 0o644), (LONG, b"l", 0o600)]
    source = archive(tmp_path / "t", *names, ("s", "x" * 150, 0o777), ("ü", b"", 0o644), form=form)
    (tmp_path / "o").mkdir()
    unpack(source, tmp_path / "o")
    out = tmp_path / "o"
    assert (out / "a" / "big").read_bytes() == big
    assert (out / LONG).read_bytes() == b"l"
    assert str((out / "s").readlink()) == "x" * 150
    assert stat.S_IMODE((out / "a" / "f").stat().st_mode) == 0o750  # set-user-id is dropped
    assert stat.S_IMODE((out / "a").stat().st_mode) == 0o555
    for name in ("a", "a/f", "s", "ü"):
        assert (out / name).lstat().st_mtime == 1_000_000_000


def test_hard_links(tmp_path: Path) -> None:
    source = archive(tmp_path / "t", ("f", b"x", 0o644))
    with tarfile.open(source, "a") as out:
        info = tarfile.TarInfo("g")
        info.type, info.linkname = tarfile.LNKTYPE, "./f"
        out.addfile(info)
    (tmp_path / "o").mkdir()
    unpack(source, tmp_path / "o")
    assert (tmp_path / "o" / "g").samefile(tmp_path / "o" / "f")


@pytest.mark.parametrize(
    "members",
    [
        [("../x", b"", 0o644)],
        [("/x", b"", 0o644)],
        [("a/../../x", b"", 0o644)],
        [("l", "/tmp", 0o777), ("l/x", b"", 0o644)],
        [("f", b"", 0o644), ("f/x", b"", 0o644)],
    ],
)
def test_what_leads_out_is_refused(tmp_path: Path, members: list[tuple[str, bytes | str, int]]) -> None:
    (tmp_path / "o").mkdir()
    with pytest.raises(ImageError):
        unpack(archive(tmp_path / "t", *members), tmp_path / "o")
    assert {path.name for path in tmp_path.iterdir()} == {"o", "t"}


def test_of_two_files_with_one_name_the_later_counts(tmp_path: Path) -> None:
    members: list[tuple[str, bytes | str | None, int]] = [
        ("f", b"1", 0o644),
        ("f", b"22", 0o644),
        ("l", "a", 0o777),
        ("l", "b", 0o777),
    ]
    (tmp_path / "o").mkdir()
    unpack(archive(tmp_path / "t", *members), tmp_path / "o")
    assert (tmp_path / "o" / "f").read_bytes() == b"22"
    assert str((tmp_path / "o" / "l").readlink()) == "b"


def test_devices_and_pipes_are_passed_over(tmp_path: Path) -> None:
    from tests.bases import device

    source = archive(tmp_path / "t", ("f", b"x", 0o644))
    with tarfile.open(source, "a") as out:
        out.addfile(device("dev/null"))
    (tmp_path / "o").mkdir()
    unpack(source, tmp_path / "o")
    assert not (tmp_path / "o" / "dev" / "null").exists()


def test_a_whiteout_of_what_the_layer_has_itself(tmp_path: Path) -> None:
    """A folder that takes a folder's place shows its own files only; a file in a file's place needs no mark."""
    members: list[tuple[str, bytes | str | None, int]] = [
        ("d/.wh.x", b"", 0),
        ("d/x", b"new", 0o644),
        (".wh.e", b"", 0),
        ("e", None, 0o755),
        ("e/f", b"", 0o644),
    ]
    (tmp_path / "o").mkdir()
    unpack(archive(tmp_path / "t", *members), tmp_path / "o")
    assert (tmp_path / "o" / "d" / "x").read_bytes() == b"new"
    assert os.getxattr(tmp_path / "o" / "e", OPAQUE_MARK) == b"y"


def test_a_hard_link_to_another_layer_is_told(tmp_path: Path) -> None:
    from tests.bases import hard_link

    source = archive(tmp_path / "t", ("f", b"x", 0o644))
    with tarfile.open(source, "a") as out:
        out.addfile(hard_link("g", "elsewhere"))
    (tmp_path / "o").mkdir()
    with pytest.raises(ImageError, match="contradicts itself"):
        unpack(source, tmp_path / "o")


@pytest.mark.parametrize("cut", [100, 600, 1100])
def test_broken_archives(tmp_path: Path, cut: int) -> None:
    source = archive(tmp_path / "t", ("f", b"x" * 900, 0o644))
    source.write_bytes(source.read_bytes()[:cut])
    (tmp_path / "o").mkdir()
    with pytest.raises(ImageError, match="not a whole tar archive"):
        unpack(source, tmp_path / "o")


def test_whiteouts(tmp_path: Path) -> None:
    """Lower layer: a/1 a/2 b/1. Upper: takes away a/1, and everything of b but its own."""
    trees = []
    layers = [
        [("a", None, 0o755), ("a/1", b"", 0o644), ("a/2", b"", 0o644), ("b", None, 0o755), ("b/1", b"", 0o644)],
        [
            ("a", None, 0o755),
            ("a/.wh.1", b"", 0o644),
            ("b", None, 0o755),
            ("b/.wh..wh..opq", b"", 0),
            ("b/2", b"", 0o644),
        ],
    ]
    for number, layer in enumerate(layers):
        trees.append(tmp_path / str(number))
        trees[-1].mkdir()
        unpack(archive(tmp_path / f"{number}.tar", *layer), trees[-1])
    assert (trees[1] / "a" / "1").lstat().st_rdev == 0
    assert stat.S_ISCHR((trees[1] / "a" / "1").lstat().st_mode)
    assert os.getxattr(trees[1] / "b", OPAQUE_MARK) == b"y"
    folder = merged.tree(Cache(tmp_path / "cache"), [str(trees[1]), str(trees[0])])
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == ["a", "a/2", "b", "b/2"]


def test_code_that_is_not_what_its_digest_says_is_not_run(tmp_path: Path, cache: Cache) -> None:
    told = archive(tmp_path / "code", ("train.py", b"print(1)", 0o644))
    digest = sha256_file(told)[0]
    told.write_bytes(told.read_bytes().replace(b"print(1)", b"print(2)"))
    with pytest.raises(IntegrityError, match="damaged"):
        trees.code(cache, digest, told)
    told.write_bytes(told.read_bytes().replace(b"print(2)", b"print(1)"))
    assert (trees.code(cache, digest, told) / "train.py").read_bytes() == b"print(1)"
