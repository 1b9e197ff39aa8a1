"""What lands on a site: whole or not at all, only what is missing, in two round trips; and images."""

from __future__ import annotations

import ast
import fcntl
import io
import json
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.code import snapshot
from launcher.digest import sha256_bytes
from launcher.errors import DiskFullError, TargetError
from launcher.image.oci import Image
from launcher.image.sif import sif
from launcher.node.images import read
from launcher.profiles.model import Profile
from launcher.profiles.places import Places
from launcher.progress import SILENT
from launcher.remote import facts, receiving, tools
from launcher.remote.contact import contact
from launcher.remote.delivery import Delivery, deliver, judge, prepare
from launcher.remote.differences import code, difference
from launcher.remote.here import Here
from launcher.remote.images import delivery
from launcher.remote.items import BLOCK, Item, Link
from launcher.remote.model import Shell
from launcher.remote.sending import frames
from launcher.spec.model import CodeSpec
from tests.far import Far
from tests.rootfs import image
from tests.test_squashfs import LOWER, UPPER


@pytest.fixture(params=["here", "far"])
def shell(request: pytest.FixtureRequest) -> Here | Far:
    return Here() if request.param == "here" else Far()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "sh ared $x"


@pytest.fixture
def profile(shared: Path) -> Profile:
    return Profile(name="site", shared=str(shared))


@pytest.fixture
def one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold launcher's digest: somebody may be working on its files."""
    monkeypatch.setattr(tools, "own_digest", lambda cache: "0" * 64)


@pytest.fixture
def no_tools(monkeypatch: pytest.MonkeyPatch, one_version: None) -> None:
    """Leave the tools out: they have tests of their own."""
    monkeypatch.setattr(tools, "environment", lambda *_: {"bin/python": b"none"})


def test_items_of_all_kinds(shell: Here | Far, shared: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file" * 1000)
    (tmp_path / "folder/in").mkdir(parents=True)
    (tmp_path / "folder/in/side").write_bytes(b"x")
    (tmp_path / "folder/in/side").chmod(0o755)
    (tmp_path / "folder/li nk").symlink_to("in/side")
    items = [
        Item(path="a/b/file", source=tmp_path / "file"),
        Item(path="bytes", source=b"\0\1" * 700_000),
        Item(path="empty", source=b""),
        Item(path="tree", source=tmp_path / "folder", tree=True),
        Item(path="made", source={"x/y": b"1", "x/z": Link(target="y")}, tree=True),
        Item(path="secrets/k/store.json", source=b"secret", mode=0o600, replace=True),
    ]
    deliver(shell, Places(str(shared)), items)
    assert (shared / "a/b/file").read_bytes() == b"from a file" * 1000
    assert (shared / "bytes").read_bytes() == b"\0\1" * 700_000
    assert (shared / "empty").read_bytes() == b""
    assert (shared / "tree/li nk").readlink() == Path("in/side")
    assert (shared / "tree/in/side").stat().st_mode & 0o777 == 0o755
    assert (shared / "made/x/z").read_bytes() == b"1"
    assert (shared / "secrets/k/store.json").stat().st_mode & 0o777 == 0o600
    assert (shared / "secrets/k").stat().st_mode & 0o777 == 0o700
    assert list((shared / "tmp").iterdir()) == []
    assert shell.trips == 2


def test_what_is_there_stays_and_what_replaces_replaces(shell: Here | Far, shared: Path) -> None:
    deliver(shell, Places(str(shared)), [Item(path="a", source=b"1"), Item(path="b", source=b"1", replace=True)])
    trips = shell.trips
    deliver(shell, Places(str(shared)), [Item(path="a", source=b"1")])
    assert shell.trips - trips == 1, "one look, and no transfer"
    deliver(shell, Places(str(shared)), [Item(path="a", source=b"2"), Item(path="b", source=b"2", replace=True)])
    assert ((shared / "a").read_bytes(), (shared / "b").read_bytes()) == (b"1", b"2")


def test_only_what_is_missing_travels(shared: Path) -> None:
    big = os.urandom(2 << 20)
    far = Far()
    deliver(far, Places(str(shared)), [Item(path="one", source=big)])
    assert far.sent > len(big)
    far = Far()
    deliver(far, Places(str(shared)), [Item(path="one", source=big), Item(path="two", source=b"2" * (1 << 20))])
    assert far.sent < 20_000, "the second item, compressed, and two questions"
    far = Far()
    deliver(far, Places(str(shared)), [Item(path="three", source=big, unless=("one", "two"))])
    assert far.sent < 1_000 and not (shared / "three").exists()
    deliver(far, Places(str(shared)), [Item(path="three", source=big, unless=("one", "absent"))])
    assert (shared / "three").exists()


def test_files_of_this_machine_are_linked(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "file").chmod(0o644)
    deliver(Here(), Places(str(shared)), [Item(path="file", source=tmp_path / "file")])
    assert (shared / "file").samefile(tmp_path / "file")
    deliver(Here(), Places(str(shared)), [Item(path="private", source=tmp_path / "file", mode=0o600)])
    assert not (shared / "private").samefile(tmp_path / "file")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("at", [0, 1, 100, 5_000, 1_000_000, 2_300_000])
def test_a_stream_that_ends_early_leaves_nothing_half(shared: Path, at: int) -> None:
    def cut(chunks: Iterator[bytes]) -> Iterator[bytes]:
        left = at
        for chunk in chunks:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return

    random = os.urandom(1 << 20)
    items = [Item(path=f"{number}/file", source=random) for number in range(3)]
    items += [Item(path="tree", source={"a": b"1", "b": random}, tree=True)]
    far = Far()
    deliver(far, Places(str(shared)), [Item(path="zero", source=b"")])
    far.meddle = lambda chunks: cut(chunks) if far.trips % 2 == 0 else chunks
    with pytest.raises(TargetError, match="was cut") as raised:
        deliver(far, Places(str(shared)), items)
    assert "sends what is still missing" in str(raised.value)
    for number in range(3):
        file = shared / f"{number}/file"
        assert not file.exists() or file.read_bytes() == random
    assert not (shared / "tree").exists()
    assert [path for path in (shared / "tmp").iterdir() if path.suffix != ".part"] == []
    far = Far()
    deliver(far, Places(str(shared)), items)
    assert (shared / "tree/b").read_bytes() == random
    assert list((shared / "tmp").iterdir()) == []
    assert far.sent < 4.2 * (1 << 20) - (at // (1 << 20)) * (1 << 20)


@pytest.mark.parametrize("busy", [False, True])
def test_a_file_that_was_cut_goes_on_where_it_stopped(shared: Path, busy: bool) -> None:
    """Also with what somebody else is at: from a copy."""
    content = os.urandom(8 << 20)
    item, places, part = Item(path="a/blob", source=content), Places(str(shared)), shared / "tmp"
    part.mkdir(parents=True)
    part /= item.part
    part.write_bytes(content[: 5 << 20])
    far = Far()
    with part.open() as other:
        if busy:
            fcntl.flock(other, fcntl.LOCK_EX)
        deliver(far, places, [item])
    assert (shared / "a/blob").read_bytes() == content
    assert (shared / "a/blob").stat().st_mode & 0o777 == 0o644
    assert far.sent < 3.1 * (1 << 20)
    assert part.exists() == busy


def test_what_was_damaged_on_the_site_is_sent_anew(shared: Path) -> None:
    content = os.urandom(4 << 20)
    item, places = Item(path="a/blob", source=content), Places(str(shared))
    (shared / "tmp").mkdir(parents=True)
    (shared / "tmp" / item.part).write_bytes(bytes(2 << 20))
    with pytest.raises(TargetError, match="other bytes than were sent"):
        deliver(Far(), places, [item])
    assert list((shared / "tmp").iterdir()) == []
    deliver(Far(), places, [item])
    assert (shared / "a/blob").read_bytes() == content


def test_bytes_that_changed_on_the_way_are_not_believed(shared: Path) -> None:
    def flipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk[:-1] + bytes([chunk[-1] ^ 1]) if len(chunk) > 100_000 else chunk

    far = Far()
    far.meddle = lambda chunks: flipped(chunks) if far.trips == 2 else chunks
    with pytest.raises(TargetError, match="other bytes than were sent"):
        deliver(far, Places(str(shared)), [Item(path="file", source=os.urandom(200_000))])
    assert not (shared / "file").exists()


def test_many_at_once_are_harmless(shared: Path) -> None:
    items = [Item(path="file", source=os.urandom(1 << 20)), Item(path="tree", source={"a": b"1"}, tree=True)]
    failed: list[BaseException] = []

    def one() -> None:
        try:
            deliver(Far(), Places(str(shared)), items)
        except BaseException as e:
            failed.append(e)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert (shared / "file").read_bytes() == items[0].source
    assert list((shared / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/out"])
def test_a_tree_that_leads_out_is_refused(shared: Path, name: str) -> None:
    with pytest.raises(TargetError, match="leads out of its folder"):
        deliver(Far(), Places(str(shared)), [Item(path="tree", source={name: b""}, tree=True)])
    assert not (shared / "tree").exists() and not list(shared.rglob("out"))


def test_what_died_days_ago_is_removed(shared: Path) -> None:
    for name, age in (("old", 3 * 86400), ("new", 60)):
        (shared / "tmp" / name).mkdir(parents=True)
        (shared / "tmp" / name / "part").touch()
        os.utime(shared / "tmp" / name, (time.time() - age,) * 2)
    deliver(Far(), Places(str(shared)), [Item(path="a", source=b"")])
    assert [path.name for path in (shared / "tmp").iterdir()] == ["new"]


def test_a_full_disk_is_told_as_one(shared: Path) -> None:
    said = receiving.MARK + json.dumps({"errno": 28, "message": "No space left on device: x"})
    with pytest.raises(DiskFullError, match=r"no room in .* on far: No space left") as raised:
        judge(contact(Far(), Profile(name="x", shared=str(shared))), said.encode(), b"", 0)
    assert "images" in str(raised.value)


def test_more_than_is_free_is_not_even_begun(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Item, "size", property(lambda self: 1 << 60))
    far = Far()
    with pytest.raises(DiskFullError, match=r"are to be sent, and \d+ are free"):
        deliver(far, Places(str(shared)), [Item(path="a", source=b"")])
    assert far.trips == 1


def test_contact_tells_what_is_there(shared: Path, profile: Profile) -> None:
    (shared / "a").mkdir(parents=True)
    site = contact(Far(), profile, ["a", "b", "é"])
    assert site.there == {"a"}
    assert site.python >= (3, 10) and site.shared == str(shared) and site.writable and site.uid == os.getuid()


def test_the_first_program_is_read_by_pythons_that_are_too_old() -> None:
    ast.parse(Path(facts.__file__).read_text(), feature_version=(3, 6))


def stub(tmp_path: Path, text: str) -> str:
    (tmp_path / "python").write_text(f"#!/bin/sh\n{text}\n")
    (tmp_path / "python").chmod(0o755)
    return str(tmp_path / "python")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 127", "there is no program"),
        ("echo broken >&2; exit 1", "did not tell of itself (exit code 1): broken"),
        ('exec python3 "$@" | sed \'s/"python": .[0-9, ]*./"python": [3, 6, 8]/\'', "is 3.6.8, and 3.10 is needed"),
    ],
)
def test_a_python_that_does_not_do(tmp_path: Path, shared: Path, script: str, told: str) -> None:
    profile = Profile(name="x", shared=str(shared), python=stub(tmp_path, script))
    with pytest.raises(TargetError) as raised:
        contact(Far(), profile)
    assert told in str(raised.value) and "module load" in str(raised.value)


def test_a_shared_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="names no shared folder"):
        contact(Far(), Profile(name="x"))
    if os.getuid() != 0:
        with pytest.raises(TargetError, match="may not write"):
            contact(Far(), Profile(name="x", shared="/proc/none"))


def test_a_login_file_that_speaks_is_no_trouble(profile: Profile, shared: Path) -> None:
    class Noisy(Far):
        def run(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            done = super().run(*args, **kwargs)  # type: ignore[arg-type]
            return type(done)(code=done.code, stdout=b"Welcome!\n{x}\n" + done.stdout, stderr=done.stderr)

    noisy: Shell = Noisy()  # type: ignore[assignment]
    deliver(noisy, Places(str(shared)), [Item(path="a", source=b"1")])
    assert (shared / "a").read_bytes() == b"1"


@pytest.mark.usefixtures("no_tools")
def test_one_look_and_one_transfer_for_everything(profile: Profile, shared: Path, cache: Cache) -> None:
    far = Far()
    run = ("sh", "-c", 'cat "$0/plan.json" > "$0/seen"', "{shared}")
    one = Delivery(items=(Item(path="plan.json", source=b"{}"),), runs=(run,), unless=("seen",))
    _, folder = prepare(far, profile, [one], cache)
    assert (far.trips, (shared / "seen").read_bytes()) == (2, b"{}")
    assert Path(folder, "bin/python").exists()
    assert prepare(far, profile, [one], cache)[1] == folder
    assert far.trips == 3


@pytest.mark.usefixtures("no_tools")
def test_what_is_made_there_and_fails_is_told(profile: Profile, cache: Cache) -> None:
    one = Delivery(runs=(("sh", "-c", "echo the layer is damaged >&2; exit 1"),))
    with pytest.raises(TargetError, match="the layer is damaged"):
        prepare(Far(), profile, [one], cache)


@pytest.mark.usefixtures("one_version")
def test_an_image_is_the_same_however_it_gets_there(tmp_path: Path, cache: Cache) -> None:
    """Layers that are sent, of which the SIF is made there; or the SIF itself."""
    made = image(cache, [LOWER, UPPER])
    expected = sif(made, cache).read_bytes()
    for shell in (Here(), Far()):
        shared = tmp_path / shell.where
        profile = Profile(name="site", shared=str(shared))
        prepare(shell, profile, [delivery(shell, made, "apptainer", cache)], cache)
        delivered = read(str(shared), made.id)
        assert Path(Places(str(shared)).image(made.id, "image.sif")).read_bytes() == expected
        assert delivered.sif and delivered.sif.size == len(expected)
        assert delivered.image.config == made.config and "etc/passwd" in delivered.accounts
        assert (shell.trips, list((shared / "tmp").iterdir())) == (2, [])
        prepare(shell, profile, [delivery(shell, made, "apptainer", cache)], cache)
        assert shell.trips == 3
    blobs = [path.name for path in (tmp_path / "far/blobs").rglob("*") if path.is_file()]
    assert sorted(blobs) == sorted(layer.diff_id for layer in made.layers)


@pytest.mark.usefixtures("no_tools")
def test_other_runtimes_get_layers(tmp_path: Path, cache: Cache) -> None:
    made: Image = image(cache, [LOWER, UPPER])
    profile = Profile(name="site", shared=str(tmp_path / "s"))
    prepare(Far(), profile, [delivery(Far(), made, "podman", cache)], cache)
    delivered = read(profile.shared, made.id)
    assert delivered.sif is None
    for there, here in zip(delivered.image.layers, made.layers, strict=True):
        assert there.path.read_bytes() == here.path.read_bytes()


# code of today, and of yesterday ---------------------------------------------------------------------------------


def packed_code(folder: Path, cache: Cache, **changed: str) -> tuple[str, Path]:
    """Write a tree of 400 files, some of them as told, and pack it; return (digest, archive)."""
    draw = random.Random(7)
    folder.mkdir(exist_ok=True)
    for number in range(400):
        name = f"m{number:03d}.py"
        text = "".join(f"line_{n} = {draw.random()}\n" for n in range(draw.randint(1, 200)))
        (folder / name).write_text(changed.get(name[:4], "") + text)
    for name, text in changed.items():
        if name.startswith("new"):
            (folder / f"{name}.py").write_text(text)
    made = snapshot(CodeSpec(root=folder), cache)
    return made.digest, made.archive


def test_a_changed_line_of_a_large_repository_is_what_travels(shared: Path, tmp_path: Path, cache: Cache) -> None:
    whole = Far()
    first, archive = packed_code(tmp_path / "code", cache)
    deliver(whole, Places(str(shared)), [code(first, archive, cache, "there")])
    assert whole.sent > 500_000
    for number, changed in enumerate(({"m000": "x = 1\n"}, {"m399": "x = 1\n"}, {"new1": "y = 1\n"}, {"m200": "z"})):
        digest, archive = packed_code(tmp_path / "code", cache, **changed)
        far = Far()
        deliver(far, Places(str(shared)), [code(digest, archive, cache, "there")])
        assert far.sent < 24_000, f"{number}: {far.sent} bytes: two programs, and a file"
        assert (shared / Places("").artifact(digest)).read_bytes() == archive.read_bytes()
        assert far.trips == 2
    assert list((shared / "tmp").iterdir()) == []


@pytest.mark.parametrize("harm", ["gone", "short", "other"])
def test_a_base_that_is_not_what_it_was_costs_one_more_transfer(
    shared: Path, tmp_path: Path, cache: Cache, harm: str
) -> None:
    first, archive = packed_code(tmp_path / "code", cache)
    deliver(Far(), Places(str(shared)), [code(first, archive, cache, "there")])
    digest, archive = packed_code(tmp_path / "code", cache, m000="x = 1\n")
    there, far = shared / Places("").artifact(first), Far()
    there.chmod(0o644)

    def meddle(chunks: Iterator[bytes]) -> Iterator[bytes]:
        if far.trips == 2:  # it was there when it was asked for
            if harm == "gone":
                there.unlink()
            elif harm == "short":
                os.truncate(there, 1000)
            else:
                there.write_bytes(bytes(there.stat().st_size))
        return chunks

    far.meddle = meddle
    items = [Item(path="before", source=b"1"), code(digest, archive, cache, "there"), Item(path="after", source=b"2")]
    deliver(far, Places(str(shared)), items)
    assert (shared / Places("").artifact(digest)).read_bytes() == archive.read_bytes()
    assert ((shared / "before").read_bytes(), (shared / "after").read_bytes(), far.trips) == (b"1", b"2", 3)


def large_change(tmp_path: Path, shared: Path, cache: Cache) -> tuple[Item, bytes]:
    """Return the item of an archive of which a half is new, and its bytes; the one before it is there."""
    old = os.urandom(8 << 20)
    new = old[: 2 << 20] + os.urandom(4 << 20) + old[2 << 20 : 4 << 20]
    made = []
    for content in (old, new):
        (tmp_path / "archive").write_bytes(content)
        digest = sha256_bytes(content)
        made.append(code(digest, cache.adopt("artifacts", digest, tmp_path / "archive"), cache, "there"))
    deliver(Far(), Places(str(shared)), [made[0]])
    return made[1], new


def test_a_difference_that_was_cut_goes_on_where_it_stopped(shared: Path, tmp_path: Path, cache: Cache) -> None:
    item, new = large_change(tmp_path, shared, cache)
    far = Far()

    def cut(chunks: Iterator[bytes]) -> Iterator[bytes]:
        sent = 0
        for chunk in chunks:
            yield chunk
            if far.trips % 2 == 0 and (sent := sent + len(chunk)) > 3 << 20:
                return

    far.meddle = cut
    with pytest.raises(TargetError, match="was cut"):
        deliver(far, Places(str(shared)), [item])
    far = Far()
    deliver(far, Places(str(shared)), [item])
    assert (shared / item.path).read_bytes() == new
    assert far.sent < 1.1 * (1 << 20)
    assert list((shared / "tmp").iterdir()) == []


def test_what_came_of_a_difference_and_is_damaged_costs_one_more_transfer(
    shared: Path, tmp_path: Path, cache: Cache
) -> None:
    item, new = large_change(tmp_path, shared, cache)
    (shared / "tmp" / item.part).write_bytes(bytes(3 << 20))
    far = Far()
    deliver(far, Places(str(shared)), [item])
    assert (shared / item.path).read_bytes() == new
    assert far.trips == 3


def test_bytes_are_on_the_disk_before_their_name(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a power cut leaves names of empty files, and what is there is taken for right."""
    synced: list[str] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        assert not (shared / "a").exists()
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    tree = {"x/y": b"1", "x/z": Link(target="nowhere"), "w": b"2"}
    items = [Item(path="a/tree", source=tree, tree=True), Item(path="a/tree/more", source=b"3")]
    task = SILENT.task("send", None)
    receiving.receive(io.BytesIO(b"".join(frames(items[:1], [], None, task))), str(shared))
    assert sorted(synced) == ["w", "y"]
    shutil.rmtree(shared / "a")
    receiving.receive(io.BytesIO(b"".join(frames(items[1:], [], None, task))), str(shared))
    assert synced[2:] == ["new"]


def test_steps_make_the_new_from_the_old() -> None:
    draw = random.Random(3)
    for _ in range(300):
        tail = b"t" * draw.randint(0, 700)
        before, after = (
            b"".join(bytes([draw.randint(0, kinds)]) * BLOCK for _ in range(draw.randint(0, 40))) + tail
            for kinds in (5, 7)
        )
        steps = list(difference(before, after))
        assert b"".join((before if one.copied else after)[one.at : one.at + one.size] for one in steps) == after
        own = [sum(one.size for one in steps[:n]) for n, one in enumerate(steps) if not one.copied]
        assert own == [one.at for one in steps if not one.copied], "the rest is told in order"


def test_what_a_site_was_sent_is_remembered_by_site(tmp_path: Path, cache: Cache) -> None:
    first, archive = packed_code(tmp_path / "code", cache)
    assert not code(first, archive, cache, "one").bases
    second, archive = packed_code(tmp_path / "code", cache, m000="x = 1\n")
    assert [base.path for base in code(second, archive, cache, "one").bases] == [Places("").artifact(first)]
    assert not code(second, archive, cache, "two").bases
    again = code(first, archive, cache, "one")
    assert [base.path for base in again.bases] == [Places("").artifact(second)], "not from itself"
