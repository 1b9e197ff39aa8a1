"""The files of a base: what its layers show together, and names that must not lead anywhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import ImageError
from launcher.image.base import read_tree
from tests.bases import Content, device, hard_link, layer, tree


def test_later_layers_win_and_folders_keep_what_is_in_them(tmp_path: Path) -> None:
    found = tree(tmp_path, {"etc": None, "etc/a": b"1", "etc/b": b"b"}, {"./etc/": None, "etc/a": b"22"})
    assert found.read("etc/a") == b"22"
    assert found.read("/etc/b") == b"b"
    assert (found.entries["etc/a"].layer, found.entries["etc/a"].size) == (1, 2)


def test_whiteouts_take_away_what_lies_below(tmp_path: Path) -> None:
    lower = {"a": None, "a/1": b"1", "a/2": b"2", "b": None, "b/1": b"1", "b/c": None, "b/c/d": b"d", "e/f/g": b"g"}
    upper: dict[str, Content] = {"a/.wh.1": b"", "b/2": b"own", "b/.wh..wh..opq": b"", ".wh.e": b"", "e": b"a file now"}
    found = tree(tmp_path, lower, upper)
    assert set(found.entries) == {"a", "a/2", "b", "b/2", "e"}
    assert found.entries["e"].kind == "file"


def test_a_file_in_a_folders_place_and_a_folder_in_a_files(tmp_path: Path) -> None:
    found = tree(tmp_path, {"a": None, "a/b": b"", "c": b"file"}, {"a": b"file", "c/d": b"deep"})
    assert set(found.entries) == {"a", "c", "c/d"}
    assert found.entries["c"].kind == "dir"


def test_links_are_followed_inside_the_root(tmp_path: Path) -> None:
    members: dict[str, Content] = {
        "usr/lib/x": b"x",
        "lib": "usr/lib",
        "opt": "/usr/../../usr/lib",
        "etc/os-release": "../usr/lib/x",
        "etc/up": "../../../lib/x",
    }
    found = tree(tmp_path, members)
    for path in ("lib/x", "opt/x", "etc/os-release", "/etc/up"):
        assert found.read(path) == b"x"
    assert found.place("lib/y") == "usr/lib/y"
    assert found.place("lib") == "lib"
    assert found.find("etc/os-release", follow=False).kind == "symlink"  # type: ignore[union-attr]
    assert found.names("lib") == ["x"]
    assert not found.exists("lib/y")


def test_a_loop_of_links_is_told(tmp_path: Path) -> None:
    found = tree(tmp_path, {"a": "b", "b": "a"})
    with pytest.raises(ImageError, match="a loop of symbolic links"):
        found.read("a/x")


def test_hard_links_share_their_content(tmp_path: Path) -> None:
    found = tree(tmp_path, {"a": b"below"}, {"c": b"c", "d": hard_link("d", "./c")})
    assert found.read("d") == b"c"
    assert (found.entries["d"].layer, found.entries["d"].offset) == (1, found.entries["c"].offset)


def test_a_hard_link_to_another_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a hard link to /a, which its layer"):
        tree(tmp_path, {"a": b""}, {"b": hard_link("b", "a")})


def test_a_hard_link_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a hard link to /nothing"):
        tree(tmp_path, {"b": hard_link("b", "nothing")})


def test_devices_and_odd_names(tmp_path: Path) -> None:
    odd = b"caf\xe9".decode("utf-8", "surrogateescape")
    members: dict[str, Content] = {"dev/null": device("dev/null"), odd: b"x", "ü": "n"}
    data = layer(members)
    (tmp_path / "layer").write_bytes(data)
    cache = Cache(tmp_path / "cache")
    first = read_tree([tmp_path / "layer"], cache, ["0" * 64])
    assert first.entries["dev/null"].kind == "other"
    assert first.read(odd) == b"x"
    again = read_tree([tmp_path / "layer"], cache, ["0" * 64])
    assert again.entries == first.entries


def test_a_noted_layer_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    path.write_bytes(layer({"a": b"x"}))
    cache = Cache(tmp_path / "cache")
    before = read_tree([path], cache, ["1" * 64])
    path.write_bytes(b"")
    assert read_tree([path], cache, ["1" * 64]).entries == before.entries


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a/.wh..."])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="the base's layer"):
        tree(tmp_path, {name: b""})


def test_a_layer_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(layer({"a": b"x" * 9000})[:5000])
    with pytest.raises(ImageError, match="ends too early"):
        read_tree([tmp_path / "layer"])


def test_asking_for_what_is_no_file(tmp_path: Path) -> None:
    found = tree(tmp_path, {"a": None})
    assert found.text("b") is None
    for path, why in (("a", "not a regular file"), ("b", "there is none")):
        with pytest.raises(ImageError, match=why):
            found.read(path)
