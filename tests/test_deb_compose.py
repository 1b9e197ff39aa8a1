"""Packages over each other: one tree whatever their order, and who owns what."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from launcher.errors import ImageError
from launcher.image.debian import DebianTree, compose
from launcher.image.debian.replaces import names_in
from launcher.image.tree import Entry
from launcher.lock.debian_version import key
from tests.debs import Package, file, folder, hardlink, symlink


def tree_of(tmp_path: Path, *packages: Package | tuple[Package, str], workers: int = 2) -> DebianTree:
    """Write packages and compose them; a pair gives the group, which is "base" otherwise."""
    pairs = [package if isinstance(package, tuple) else (package, "base") for package in packages]
    return compose([package.write(tmp_path, group) for package, group in pairs], tmp_path, workers=workers)


def data(entry: Entry) -> bytes:
    assert entry.content is not None
    return b"".join(entry.content.chunks())


def plain(tree: DebianTree) -> dict[str, tuple[object, ...]]:
    """A tree as values that can be compared."""
    return {
        path: (e.kind, e.mode, e.target, data(e) if e.content else b"", tree.owners[path])
        for path, e in tree.entries.items()
    }


def refused(tmp_path: Path, *packages: Package) -> str:
    messages = set()
    for order in itertools.permutations(packages):
        with pytest.raises(ImageError) as caught:
            tree_of(tmp_path, *order)
        messages.add(str(caught.value))
    assert len(messages) == 1, "the message depends on the order of the packages"
    return messages.pop()


MANY = (
    Package(name="a", items=[folder("./usr/"), folder("./usr/share/", 0o700), file("./usr/share/a", "a")]),
    Package(name="b", items=[folder("./usr/"), folder("./usr/share/"), file("./lib/b", "b"), symlink("./bin/b", "a")]),
    Package(name="c", items=[symlink("./usr/share/c", "d"), file("./usr/share/c/inside", "c")]),
    Package(name="d", items=[folder("./usr/share/d/"), file("./usr/share/d/x", "x")]),
    Package(name="e", items=[file("./usr/share/e", "e"), hardlink("./usr/share/e2", "./usr/share/e")]),
)


def test_neither_order_nor_workers_change_the_tree(tmp_path: Path) -> None:
    wanted = plain(tree_of(tmp_path, *MANY, workers=1))
    for number, order in enumerate(itertools.permutations(MANY)):
        if number % 11 == 0:
            assert plain(tree_of(tmp_path, *order, workers=1 + number % 3)) == wanted


def test_usr_is_merged(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, Package(items=[folder("./lib/"), file("./lib/x", "x"), file("./sbin/y", "y")]))
    links = {name: tree.entries[name].target for name in ("bin", "sbin", "lib", "lib64")}
    assert links == {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
    assert data(tree.entries["usr/lib/x"]) == b"x" and "lib/x" not in tree.entries
    assert tree.entries["usr/lib"].kind == "dir"


def test_a_file_lands_behind_the_symlink_that_another_package_ships(tmp_path: Path) -> None:
    tree = tree_of(
        tmp_path,
        Package(name="a", items=[folder("./opt/"), folder("./opt/real/"), symlink("./opt/link", "real")]),
        Package(name="b", items=[folder("./opt/"), folder("./opt/link/"), file("./opt/link/file", "b")]),
    )
    assert tree.entries["opt/link"].kind == "symlink"
    assert data(tree.entries["opt/real/file"]) == b"b" and tree.owners["opt/real/file"] == "b"


def test_absolute_symlinks_stay_inside(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, Package(items=[symlink("./link", "/etc"), file("./link/passwd", "x")]))
    assert data(tree.entries["etc/passwd"]) == b"x"


def test_a_symlink_that_leads_out_is_no_way_for_a_file(tmp_path: Path) -> None:
    message = refused(tmp_path, Package(items=[symlink("./link", "../../etc"), file("./link/passwd", "x")]))
    assert message == "/link/passwd: lies behind a symlink that leads out of the image (../../etc)"


def test_symlinks_in_a_circle_are_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, Package(items=[symlink("./a", "b"), symlink("./b", "a"), file("./a/x", "x")]))
    assert "in a circle" in message


def test_a_file_below_a_file_is_refused(tmp_path: Path) -> None:
    one, two = Package(name="a", items=[file("./x", "1")]), Package(name="b", items=[file("./x/y", "2")])
    assert refused(tmp_path, one, two) == "/x/y: b ships it, but /x of a is no folder"


def test_two_contents_for_one_path_are_refused(tmp_path: Path) -> None:
    one, two = Package(name="a", items=[file("./x", "1")]), Package(name="b", items=[file("./x", "2")])
    assert refused(tmp_path, one, two) == (
        "/x: a 1.0-1 and b 1.0-1 ship it, and it has different contents\n"
        "  hint: neither Replaces the other and neither diverts it; leave one of them out of `image.apt`"
    )


def test_one_package_may_not_ship_two_contents_through_merged_usr(tmp_path: Path) -> None:
    message = refused(tmp_path, Package(items=[file("./bin/x", "1"), file("./usr/bin/x", "2")]))
    assert message.startswith("/usr/bin/x: hello 1.0-1 ships it as /bin/x and /usr/bin/x")


def test_a_file_where_another_has_a_folder_is_refused(tmp_path: Path) -> None:
    one, two = Package(name="a", items=[file("./x", "1")]), Package(name="b", items=[folder("./x/")])
    assert "is a folder only once" in refused(tmp_path, one, two)


def test_the_same_content_twice_is_fine(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, Package(name="b", items=[file("./x", "1")]), Package(name="a", items=[file("./x", "1")]))
    assert tree.owners["x"] == "a"


@pytest.mark.parametrize(("replaces", "owner"), [("a", "b"), ("a (<< 2)", "b"), ("z, a (= 1.0-1)", "b")])
def test_who_replaces_wins(tmp_path: Path, replaces: str, owner: str) -> None:
    one = Package(name="a", items=[file("./x", "1")])
    two = Package(name="b", items=[file("./x", "2")], fields={"Replaces": replaces})
    for order in ((one, two), (two, one)):
        assert tree_of(tmp_path, *order).owners["x"] == owner


def test_replaces_counts_for_its_versions_only(tmp_path: Path) -> None:
    one = Package(name="a", items=[file("./x", "1")])
    two = Package(name="b", items=[file("./x", "2")], fields={"Replaces": "a (<< 1.0-1)"})
    assert "ship it" in refused(tmp_path, one, two)


def test_a_diverted_file_makes_room(tmp_path: Path) -> None:
    script = "#!/bin/sh\ndpkg-divert --package b --add --rename \\\n  --divert /usr/bin/x.real /usr/bin/x\n"
    one = Package(name="a", items=[file("./usr/bin/x", "1")])
    two = Package(name="b", items=[file("./usr/bin/x", "2")], scripts={"preinst": script})
    for order in ((one, two), (two, one)):
        tree = tree_of(tmp_path, *order)
        assert (data(tree.entries["usr/bin/x"]), data(tree.entries["usr/bin/x.real"])) == (b"2", b"1")
    assert data(tree.entries["var/lib/dpkg/diversions"]) == b"/usr/bin/x\n/usr/bin/x.real\nb\n"


def test_a_hard_link_whose_target_went_to_another_package_becomes_a_file(tmp_path: Path) -> None:
    one = Package(name="a", items=[file("./x", "old"), hardlink("./y", "./x")])
    two = Package(name="b", items=[file("./x", "new")], fields={"Replaces": "a"})
    tree = tree_of(tmp_path, one, two)
    assert tree.entries["y"].kind == "file" and data(tree.entries["y"]) == b"old"


def test_a_hard_link_points_at_the_real_place(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, Package(items=[file("./bin/x", "1"), hardlink("./bin/y", "./bin/x")]))
    assert (tree.entries["usr/bin/y"].kind, tree.entries["usr/bin/y"].target) == ("hardlink", "usr/bin/x")


def test_apt_packages_change_nothing_that_base_packages_own(tmp_path: Path) -> None:
    base = tree_of(tmp_path, *MANY[:4])
    both = tree_of(tmp_path, *MANY[:4], *((package, "apt") for package in MANY[4:]))
    for path, owner in base.owners.items():
        if owner:
            assert (both.entries[path], both.owners[path]) == (base.entries[path], owner)


def test_every_folder_is_there(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, *MANY)
    for path in tree.entries:
        head = path.rpartition("/")[0]
        assert not head or tree.entries[head].kind == "dir"


def test_one_version_and_one_architecture(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    twice = [Package().write(tmp_path), Package(version="2").write(tmp_path / "other")]
    with pytest.raises(ImageError, match="two packages are named hello"):
        compose(twice, tmp_path)
    with pytest.raises(ImageError, match="packages of amd64 and arm64"):
        tree_of(tmp_path, Package(name="a"), Package(name="b", architecture="arm64"))


ORDER = ("1.0~rc1-1", "1.0-1", "1.0-1+b1", "1.0-1.1", "1.0-2", "1.0a-1", "1.0+git-1", "1.2-1", "1.10-1", "1:0.1-1")


def test_versions_are_ordered_as_policy_says() -> None:
    for (i, a), (j, b) in itertools.product(enumerate(ORDER), repeat=2):
        assert (key(a) < key(b), key(a) == key(b)) == (i < j, i == j), (a, b)


@pytest.mark.parametrize(
    ("field", "named"), [("x (<< 2)", True), ("x:any (>= 2)", False), ("y, z", False), ("", False)]
)
def test_relation_fields(field: str, named: bool) -> None:
    assert names_in(field, "x", "1.5") is named


def test_a_symlink_bomb_takes_no_time(tmp_path: Path) -> None:
    """Each link leads through the next twice: walked naively, that is 2 to the power of 30 steps."""
    bomb = [symlink(f"./l{n}", f"l{n + 1}/../l{n + 1}") for n in range(30)]
    message = refused(tmp_path, Package(items=[*bomb, folder("./l30/"), file("./l0/x", "x")]))
    assert "in a circle" in message


def test_links_that_lie_in_links_are_followed(tmp_path: Path) -> None:
    items = [symlink("./a", "real"), symlink("./a/b", "../other"), file("./a/b/x", "x")]
    tree = tree_of(tmp_path, Package(items=items))
    assert tree.entries["real/b"].kind == "symlink" and data(tree.entries["other/x"]) == b"x"


def test_every_bad_package_is_told_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, *(Package(name=name, items=[file("/x", "x")]) for name in "cab"))
    assert [line.split("_")[0] for line in message.splitlines()] == ["a", "b", "c"]
