"""Packages over a base image: paths, conflicts, dpkg's database and the rules begin from what the base has."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.errors import ImageError
from launcher.image.base import BaseTree, read_tree
from launcher.image.debian import DebianTree, compose
from launcher.image.debian.linker import cache_bytes
from launcher.image.debian.linker_merge import read_cache
from launcher.image.debian.system import OF_BASE
from launcher.image.debian_layers import debian_layers
from launcher.image.tar import write_layer
from launcher.image.tree import Entry
from tests.bases import Content, hard_link
from tests.bases import tree as base_tree
from tests.debs import Package, file, folder, hardlink, symlink
from tests.test_debian_rules import SYSUSERS, cached, editor, library

STATUS = "Package: old\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0\nDescription: odd \u00fc\n"
SYSTEM: Mapping[str, Content] = {
    "usr": None,
    "usr/bin": None,
    "usr/lib": None,
    "bin": "usr/bin",
    "lib": "usr/lib",
    "var/lib/dpkg/status": STATUS.encode(),
    "var/lib/dpkg/info/old.list": b"/.\n/usr\n/bin\n/bin/old\n",
    "usr/bin/old!": b"old",
}


def over(work: Path, packages: list[Package], files: Mapping[str, Content] | None = None) -> DebianTree:
    base = base_tree(work, {**SYSTEM, **(files or {})})
    return compose([package.write(work, "apt") for package in packages], work, base=base)


def added(tree: DebianTree) -> dict[str, Entry]:
    return {path: entry for path, entry in tree.entries.items() if tree.owners[path] != OF_BASE}


def text(tree: DebianTree, path: str) -> str:
    content = tree.entries[path].content
    assert content is not None
    return b"".join(content.chunks()).decode()


def refused(work: Path, packages: list[Package], files: Mapping[str, Content] | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        over(work, packages, files)
    return str(caught.value)


def test_files_land_behind_the_links_of_the_base(tmp_path: Path) -> None:
    new = Package(name="new", items=[folder("./bin/"), file("./bin/new", "x", 0o755), file("./opt/x/y", "y")])
    tree = over(tmp_path, [new], {"opt": "/srv/opt", "srv/opt": None})
    files = {path: entry.kind for path, entry in added(tree).items() if not path.startswith("var/")}
    assert files == {"usr/bin/new": "file", "srv/opt/x": "dir", "srv/opt/x/y": "file"}


def test_a_base_that_is_not_merged_stays_so(tmp_path: Path) -> None:
    base = base_tree(tmp_path, {"bin": None, "usr/bin": None, "var/lib/dpkg/status": STATUS.encode()})
    new = Package(name="new", items=[file("./bin/new", "x"), file("./usr/bin/other", "y")])
    tree = compose([new.write(tmp_path, "apt")], tmp_path, base=base)
    assert {"bin/new", "usr/bin/other"} <= set(added(tree)) and tree.entries["bin"].kind == "dir"


def test_folders_of_the_base_keep_their_modes(tmp_path: Path) -> None:
    new = Package(name="new", items=[folder("./usr/", 0o700), file("./usr/share/new", "x")])
    base = base_tree(tmp_path, SYSTEM)
    plans = debian_layers([new.write(tmp_path, "apt")], tmp_path, 1, base)
    modes = {e.path: e.mode for plan in plans for e in plan.entries() if e.kind == "dir"}
    assert modes["usr"] == 0o755
    assert [plan.name for plan in plans] == ["packages", "system"]
    paths = {e.path for plan in plans for e in plan.entries()}
    assert "usr/share/new" in paths and "usr/bin/old" not in paths


def test_neither_order_nor_workers_change_the_tree(tmp_path: Path) -> None:
    packages = [editor("big", 30), editor("small", 40), Package(name="new", items=[file("./bin/new", "x")])]
    seen = {
        repr({p: (e.kind, e.mode, e.target, text(tree, p) if e.content else "") for p, e in added(tree).items()})
        for order in itertools.permutations(packages)
        for tree in [over(tmp_path, list(order))]
    }
    assert len(seen) == 1


CONFLICTS: dict[str, tuple[Package, str]] = {
    "another content": (
        Package(name="new", items=[file("./bin/old", "other")]),
        "/usr/bin/old: new 1.0-1 ships it as a file, and the base has it with another content (of old)",
    ),
    "a folder's place": (
        Package(name="new", items=[file("./usr/bin", "x")]),
        "/usr/bin: new 1.0-1 ships it as a file, and the base has it as a dir (of no package)",
    ),
    "a folder where a file is": (
        Package(name="new", items=[folder("./bin/old/")]),
        "/usr/bin/old: new 1.0-1 ships it as a dir, and the base has it as a file (of old)",
    ),
    "below a file": (
        Package(name="new", items=[file("./bin/old/below", "x")]),
        "/usr/bin/old: new 1.0-1 ships it as a dir, and the base has it as a file (of old)",
    ),
    "another link": (
        Package(name="new", items=[symlink("./lib", "elsewhere")]),
        "/lib: new 1.0-1 ships it as a symlink, and the base has it as a symlink (of no package)",
    ),
    "replaces an older one": (
        Package(name="new", items=[file("./bin/old", "other")], fields={"Replaces": "old (<< 1.0)"}),
        "/usr/bin/old: new 1.0-1 ships it as a file, and the base has it with another content (of old)",
    ),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_a_file_of_the_base_is_never_replaced_unasked(case: str, tmp_path: Path) -> None:
    package, message = CONFLICTS[case]
    said = refused(tmp_path, [package])
    assert message in said and "hint: the base is used as it is" in said


def test_the_same_file_twice_is_fine(tmp_path: Path) -> None:
    same = [file("./bin/old", "old"), hardlink("./bin/second", "./bin/old"), symlink("./lib", "usr/lib")]
    tree = over(tmp_path, [Package(name="new", items=same)])
    assert tree.owners["usr/bin/old"] == tree.owners["lib"] == OF_BASE
    assert (tree.entries["usr/bin/second"].kind, text(tree, "usr/bin/second")) == ("file", "old")


def test_a_hard_link_to_what_is_the_bases_counts_as_its_file(tmp_path: Path) -> None:
    items = [file("./usr/lib/a", "a"), hardlink("./usr/lib/b", "./usr/lib/a")]
    files: dict[str, Content] = {"usr/lib/a": b"a", "x": hard_link("usr/lib/b", "usr/lib/a")}
    assert not [p for p in added(over(tmp_path, [Package(name="new", items=items)], files)) if p.startswith("usr/")]


def test_who_replaces_an_owner_takes_its_file(tmp_path: Path) -> None:
    new = Package(name="new", items=[file("./bin/old", "new")], fields={"Replaces": "other, old (<< 2)"})
    assert text(over(tmp_path, [new]), "usr/bin/old") == "new"
    parts: dict[str, Content] = {
        "var/lib/dpkg/status": b"",
        "var/lib/dpkg/status.d/old": STATUS.replace("Status: install ok installed\n", "").encode(),
        "var/lib/dpkg/status.d/old.md5sums": b"0  usr/bin/old\n",
        "var/lib/dpkg/info/old.list": b"",
    }
    assert text(over(tmp_path, [new], parts), "usr/bin/old") == "new"


def test_configuration_of_the_base_is_kept_and_dpkg_knows_the_packages(tmp_path: Path) -> None:
    scripts = {"conffiles": "/etc/new.conf\n/etc/more.conf\n"}
    new = Package(name="new", items=[file("./etc/new.conf", "1\n"), file("./etc/more.conf", "2\n")], scripts=scripts)
    tree = over(tmp_path, [new], {"etc/new.conf": b"edited\n"})
    assert text(tree, "etc/new.conf") == "edited\n" and text(tree, "etc/more.conf") == "2\n"
    assert "/etc/new.conf b026324c6904b2a9cb4b88d6d61c81d1" in text(tree, "var/lib/dpkg/status")


def test_diversions_of_both_count(tmp_path: Path) -> None:
    theirs: dict[str, Content] = {"var/lib/dpkg/diversions": b"/usr/bin/tool\n/usr/bin/tool.real\n:\n"}
    script = "#!/bin/sh\ndpkg-divert --add --rename --divert /usr/bin/old.real /usr/bin/old\n"
    new = Package(
        name="new", items=[file("./bin/tool", "t"), file("./bin/old", "wrapper", 0o755)], scripts={"preinst": script}
    )
    tree = over(tmp_path, [new], theirs)
    assert text(tree, "usr/bin/tool.real") == "t" and "usr/bin/tool" not in tree.entries
    assert text(tree, "usr/bin/old") == "wrapper" and text(tree, "usr/bin/old.real") == "old"
    assert text(tree, "var/lib/dpkg/diversions") == (
        "/usr/bin/tool\n/usr/bin/tool.real\n:\n/usr/bin/old\n/usr/bin/old.real\nnew\n"
    )


def test_the_bases_status_is_kept_and_added_to(tmp_path: Path) -> None:
    raw = STATUS.encode() + b"Odd: \xff\n"
    tree = over(tmp_path, [Package(name="zz"), Package(name="aa")], {"var/lib/dpkg/status": raw + b"\n"})
    content = tree.entries["var/lib/dpkg/status"].content
    assert content is not None
    status = b"".join(content.chunks())
    assert status.startswith(raw + b"\nPackage: aa\nStatus: install ok installed\n") and status.endswith(b"\n\n")
    assert status.count(b"\n\n") == 3 and status.index(b"Package: aa") < status.index(b"Package: zz")
    assert tree.owners["var/lib/dpkg/info/aa.list"] == "aa"


def test_remains_of_a_removed_package_make_room(tmp_path: Path) -> None:
    remains = "\nPackage: new\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 0.9\n"
    foreign = "\nPackage: new\nStatus: install ok installed\nArchitecture: i386\nVersion: 0.8\n"
    tree = over(tmp_path, [Package(name="new")], {"var/lib/dpkg/status": (STATUS + remains + foreign).encode()})
    status = text(tree, "var/lib/dpkg/status")
    assert "0.9" not in status and status.startswith("Package: old\n")
    assert status.count("Package: new\n") == 2 and "Architecture: i386\nVersion: 0.8\n" in status


def test_a_link_of_the_base_may_climb_to_the_root(tmp_path: Path) -> None:
    tree = over(tmp_path, [Package(name="new", items=[file("./opt/x", "x")])], {"opt": "../../srv", "srv": None})
    assert text(tree, "srv/x") == "x"


def test_triggers_are_added_to(tmp_path: Path) -> None:
    new = Package(name="new", scripts={"triggers": "interest-noawait /usr/lib\ninterest named\n"})
    files: dict[str, Content] = {"var/lib/dpkg/triggers/File": b"/bin old\n", "var/lib/dpkg/triggers/named": b"old\n"}
    tree = over(tmp_path, [new], files)
    assert text(tree, "var/lib/dpkg/triggers/File") == "/bin old\n/usr/lib new/noawait\n"
    assert text(tree, "var/lib/dpkg/triggers/named") == "old\nnew\n"


PASSWD = b"root:x:0:0:root:/root:/bin/bash\nme:x:300:105:Me:/home/me:/bin/sh\nmessy:x:100:100::/:/bin/false\n+::::::\n"
GROUP = b"root:x:0:\nrender:x:44:me\nmine:x:105:\n+:::\n"
SHADOW = b"root:*:1:0:99999:7:::\nme:$6$secret:1:0:99999:7:::\n"


def test_accounts_come_behind_those_of_the_base(tmp_path: Path) -> None:
    files: dict[str, Content] = {"etc/passwd": PASSWD, "etc/group": GROUP, "etc/shadow": SHADOW}
    tree = over(tmp_path, [Package(name="one", items=[file("./usr/lib/sysusers.d/one.conf", SYSUSERS)])], files)
    assert text(tree, "etc/passwd").splitlines() == [
        *PASSWD.decode().splitlines()[:3],
        "daemonic:x:101:100:The Daemon:/var/lib/daemonic:/usr/sbin/nologin",
        "fixed:x:102:65534::/:/usr/sbin/nologin",  # 300 is taken
        "+::::::",
    ]
    groups = ["root:x:0:", "render:x:44:daemonic,me", "mine:x:105:", "daemonic:!:100:", "+:::"]
    assert text(tree, "etc/group").splitlines() == groups
    assert text(tree, "etc/shadow") == SHADOW.decode() + "daemonic:!:3652:0:99999:7:::\nfixed:!:3652:0:99999:7:::\n"
    assert "etc/passwd" not in added(over(tmp_path, [Package(name="new")], files))


def test_sysusers_of_the_base_are_not_made_again(tmp_path: Path) -> None:
    files: dict[str, Content] = {"etc/passwd": PASSWD, "etc/group": GROUP, "usr/lib/sysusers.d/a.conf": b"u left 200\n"}
    assert "etc/passwd" not in added(over(tmp_path, [Package(name="new")], files))


def state(mode: str, *choices: tuple[str, int]) -> bytes:
    lines = [mode, "/usr/bin/editor", "editor.1.gz", "/usr/share/man/editor.1.gz", ""]
    for name, priority in choices:
        lines += [f"/usr/bin/{name}", str(priority), f"/usr/share/man/{name}.1.gz"]
    return "\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("mode", "priority", "target"),
    [("auto", 20, "small"), ("auto", 30, "nano"), ("auto", 50, "nano"), ("manual", 1, "nano")],
)
def test_alternatives_are_chosen_among_all(mode: str, priority: int, target: str, tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "usr/bin/nano!": b"nano",
        "usr/bin/editor": "/etc/alternatives/editor",
        "etc/alternatives/editor": "/usr/bin/nano",
        "var/lib/dpkg/alternatives/editor": state(mode, ("nano", priority)),
    }
    tree = over(tmp_path, [editor("small", 30)], files)
    assert tree.entries["etc/alternatives/editor"].target == f"/usr/bin/{target}"
    ours = text(tree, "var/lib/dpkg/alternatives/editor")
    assert ours.startswith(f"{mode}\n/usr/bin/editor\n")
    assert f"\n/usr/bin/nano\n{priority}\n/usr/share/man/nano.1.gz\n" in ours
    assert "\n/usr/bin/small\n30\n/usr/share/man/small.1.gz\n" in ours


LIB = "usr/lib/x86_64-linux-gnu"


def test_the_linkers_cache_is_added_to(tmp_path: Path) -> None:
    before = {"libz.so.1": "/lib/x86_64-linux-gnu/libz.so.1", "libdup.so.1": f"/{LIB}/libdup.so.1"}
    files: dict[str, Content] = {
        "etc/ld.so.conf": f"/usr/local/lib\n/lib/x86_64-linux-gnu\n/{LIB}\n".encode(),
        "etc/ld.so.cache": cache_bytes(before, 0x0303),
        f"{LIB}/libunlisted.so.1": library("libunlisted.so.1"),
    }
    items = [
        file(f"./{LIB}/libnew.so.2", library("libnew.so.2")),
        file("./usr/local/lib/libdup.so.1", library("libdup.so.1")),
    ]
    tree = over(tmp_path, [Package(name="new", items=items)], files)
    content = tree.entries["etc/ld.so.cache"].content
    assert content is not None
    assert cached(b"".join(content.chunks())) == [
        ("libz.so.1", "/lib/x86_64-linux-gnu/libz.so.1"),
        ("libnew.so.2", "/lib/x86_64-linux-gnu/libnew.so.2"),
        ("libdup.so.1", "/usr/local/lib/libdup.so.1"),
    ]
    assert "etc/ld.so.cache" not in added(over(tmp_path, [Package(name="none", items=[file("./x")])], files))


def test_a_cache_of_both_formats_is_read_and_a_damaged_one_is_not() -> None:
    new = cache_bytes({"liba.so.1": "/usr/lib/liba.so.1"}, 0x0303)
    old = b"ld.so-1.7.0\0" + (1).to_bytes(4, "little") + bytes(12)
    both = old + bytes(-len(old) % 8) + new
    # offsets count from the beginning of the new part
    assert [(one.soname, one.path) for one in read_cache(both)] == [("liba.so.1", "/usr/lib/liba.so.1")]
    assert [one.soname for one in read_cache(new)] == ["liba.so.1"]
    for damaged in (b"", b"text", new[:60], new.replace(b"cache1.1", b"cache9.9"), old):
        assert read_cache(damaged) == []


def test_shells_are_added_to(tmp_path: Path) -> None:
    fish = Package(
        name="fish",
        items=[file("./bin/fish", "", 0o755), file("./usr/share/debianutils/shells.d/fish", "/bin/fish\n")],
        scripts={"postinst": "#!/bin/sh\nadd-shell /usr/bin/tmux\n"},
    )
    tree = over(tmp_path, [fish], {"etc/shells": b"# mine\n/bin/sh\n"})
    assert text(tree, "etc/shells") == "# mine\n/bin/sh\n/bin/fish\n/usr/bin/fish\n/usr/bin/tmux\n"


def test_mount_points_and_files_that_are_no_packages_are_left_to_the_runtime_layer(tmp_path: Path) -> None:
    tree = over(tmp_path, [Package(name="new", items=[file("./bin/new", "x")])])
    system = {path for path in added(tree) if tree.owners[path] == ""}
    assert {path for path in system if not path.startswith("var/lib/dpkg")} == set()


def test_two_layers_of_added_packages_give_the_tree_that_was_planned(tmp_path: Path) -> None:
    base = base_tree(tmp_path, SYSTEM)
    new = Package(
        name="new", items=[file("./bin/new", "x"), hardlink("./bin/again", "./bin/new"), symlink("./l", "lib")]
    )
    pair = [new.write(tmp_path, "apt")]
    planned = compose(pair, tmp_path, base=base)
    paths = []
    for plan in debian_layers(pair, tmp_path, 1, base):
        paths.append(tmp_path / plan.name)
        write_layer(plan.entries(), paths[-1])
    shown: BaseTree = read_tree([*base.layers, *paths])
    assert set(shown.entries) == set(planned.entries)
    for path, entry in shown.entries.items():
        assert entry.mode == (planned.entries[path].mode if entry.kind != "symlink" else 0o777)
