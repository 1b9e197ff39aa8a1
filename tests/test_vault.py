"""The vault in a folder: what is put in comes back whole, damage is found by name and healed, garbage alone goes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from launcher import store as stores
from launcher import vault
from launcher.cache import Cache
from launcher.digest import sha256_bytes, tree_digest
from launcher.errors import FetchError, IntegrityError, StoreError, UnreachableError
from launcher.fetch import fetch
from launcher.lock import Artifact, ImagePin, Inputs, LayerPin, Lock, Wheel, digest, dumps
from launcher.lock.model import Base, Blob
from launcher.progress import SILENT
from launcher.store import keys
from launcher.store.objects import Store
from launcher.vault import VaultSource, adding, collecting, marks
from launcher.vault.healing import Bring
from tests.conftest import Notes

DAY = timedelta(days=1)
NONE = timedelta(0)


def wheel(data: bytes, name: str = "tiny", sdist: str | None = None) -> Wheel:
    filename = f"{name}-1.0-py3-none-any.whl"
    return Wheel(
        name=name, version="1.0", filename=filename, size=len(data), sha256=sha256_bytes(data), sdist=sdist
    )  # fmt: skip


def lock(*wheels: Wheel, listing: bytes | None = None, base: Base | None = None, asked: str = "tiny") -> Lock:
    layers = (LayerPin(name="python", diff_id="1" * 64, size=9, listing=sha256_bytes(listing)),) if listing else ()
    return Lock(
        inputs=Inputs(base="debian:bookworm", platform="linux/amd64", python="3.11", pip=(asked,)),
        suite="bookworm",
        architecture="amd64",
        python="3.11.2",
        libc="glibc 2.36",
        wheels=wheels,
        base=base,
        image=ImagePin(assembler=2, id="2" * 64, layers=layers) if layers else None,
    )


def keep(cache: Cache, *contents: bytes) -> None:
    for data in contents:
        with cache.scratch() as scratch:
            (scratch / "file").write_bytes(data)
            cache.adopt("artifacts", sha256_bytes(data), scratch / "file")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return stores.open(str(tmp_path / "store"))


def path_of(store: Store, key: str) -> Path:
    assert store.folder is not None
    return Path(store.folder, key)


def flip(store: Store, key: str) -> None:
    """Flip one bit in the middle of an object."""
    path = path_of(store, key)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def age(store: Store, *contents: bytes, days: float = 2) -> None:
    """Let artifacts look as if they had been put in some days ago."""
    for data in contents:
        path = path_of(store, keys.artifact(sha256_bytes(data)))
        then = path.stat().st_mtime - days * 86400
        os.utime(path, (then, then))


def test_what_a_lock_needs_is_kept_its_sources_too_and_the_lock_comes_last(cache: Cache, store: Store) -> None:
    blob = Blob(
        name="base", version="1", filename="layer", size=5, sha256=sha256_bytes(b"layer"),
        media_type="tar", diff_id="3" * 64, unpacked=5,
    )  # fmt: skip
    config = Artifact(name="base", version="1", filename="config", size=6, sha256=sha256_bytes(b"config"))
    base = Base(kind="registry", manifest="4" * 64, system="debian", config=config, layers=(blob,))
    built = wheel(b"built", sdist=sha256_bytes(b"sdist"))
    pinned = lock(wheel(b"one"), built, listing=b"list", base=base)
    keep(cache, b"one", b"built", b"sdist", b"list", b"config")
    with pytest.raises(FetchError, match="layer isn't in the cache"):
        vault.add(pinned, cache, store)
    assert store.list() == []
    keep(cache, b"layer")
    done = vault.add(pinned, cache, store)
    assert (done.copied, done.present, done.size) == (6, 0, 28)
    assert store.get(keys.lock(digest(pinned))) == dumps(pinned).encode()
    again = vault.add(pinned, cache, store)
    assert (again.copied, again.present, again.size, again.present_size) == (0, 6, 0, 28)


def test_a_torn_object_is_sent_again(cache: Cache, store: Store) -> None:
    keep(cache, b"one", b"two")
    store.put(keys.artifact(sha256_bytes(b"one")), b"on")
    assert vault.add(lock(wheel(b"one"), wheel(b"two")), cache, store).copied == 2
    assert store.get(keys.artifact(sha256_bytes(b"one"))) == b"one"


def test_many_files_are_compared_with_one_listing(cache: Cache, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "ASKED_ONE_BY_ONE", 1)
    keep(cache, b"one", b"two")
    store.put(keys.artifact(sha256_bytes(b"one")), b"one")
    monkeypatch.setattr(store, "size", lambda key: pytest.fail("asked one by one"))
    assert vault.add(lock(wheel(b"one"), wheel(b"two")), cache, store).copied == 1


def test_a_flipped_bit_is_found_and_named(cache: Cache, store: Store) -> None:
    keep(cache, b"a wheel", b"another")
    pinned = lock(wheel(b"a wheel", "torch"), wheel(b"another"))
    vault.add(pinned, cache, store)
    store.put(keys.artifact(sha256_bytes(b"code")), b"code")
    assert vault.verify(store, sample=None).damaged == ()
    flip(store, keys.artifact(sha256_bytes(b"a wheel")))
    flip(store, keys.artifact(sha256_bytes(b"code")))
    done = vault.verify(store, sample=None)
    assert (done.files, done.read, done.size) == (4, 4, len(b"a wheelanothercode" + dumps(pinned).encode()))
    code, torch = sorted(map(str, done.damaged), key=lambda text: "torch" in text)
    assert torch.startswith("torch 1.0: torch-1.0-py3-none-any.whl (sha256 ")
    assert f"lock {digest(pinned)[:12]}) is damaged: its bytes have the sha256" in torch
    assert "no lock names it" in code
    [only] = vault.verify(store, {digest(pinned): pinned}, sample=None).damaged
    assert only.wanted.artifact.name == "torch"


def test_missing_and_short_objects_are_found_without_reading(cache: Cache, store: Store) -> None:
    keep(cache, b"gone", b"short", b"fine")
    vault.add(lock(wheel(b"gone", "gone"), wheel(b"short", "short"), wheel(b"fine")), cache, store)
    store.delete(keys.artifact(sha256_bytes(b"gone")))
    store.put(keys.artifact(sha256_bytes(b"short")), b"sh")
    done = vault.verify(store, sample=1)
    assert [(one.wanted.artifact.name, one.why) for one in done.damaged] == [
        ("gone", "is missing"),
        ("short", "has 2 bytes, and 5 were expected"),
    ]
    assert done.read == 2, "one file makes the sample full; the lock itself is always read"


def test_of_a_lock_that_only_a_run_used_nothing_is_missed(cache: Cache, store: Store) -> None:
    ran = lock(wheel(b"from an index", "far"), wheel(b"here", "here"))
    store.put(keys.lock(digest(ran)), dumps(ran).encode())
    store.put(keys.artifact(sha256_bytes(b"here")), b"here")
    assert vault.verify(store).damaged == ()
    [line] = vault.holdings(store).locks
    assert (line.missing, line.kept) == (1, False)
    flip(store, keys.artifact(sha256_bytes(b"here")))
    [damage] = vault.verify(store).damaged
    assert damage.wanted.artifact.name == "here"
    [missing, _] = vault.verify(store, {digest(ran): ran}).damaged
    assert missing.why == "is missing", "who names the lock wants all of it"


def test_a_sample_is_random_and_at_least_as_big_as_asked(store: Store) -> None:
    for number in range(40):
        data = b"%03d" % number
        store.put(keys.artifact(sha256_bytes(data)), data)
    done = vault.verify(store, sample=30, chance=random.Random(1))
    assert (done.files, done.read, done.read_size, done.damaged) == (40, 10, 30, ())
    hit = 0
    flip(store, keys.artifact(sha256_bytes(b"007")))
    for seed in range(20):
        hit += len(vault.verify(store, sample=30, chance=random.Random(seed)).damaged)
    assert 0 < hit < 20


def test_a_damaged_lock_is_found(cache: Cache, store: Store) -> None:
    keep(cache, b"one")
    pinned = lock(wheel(b"one"))
    vault.add(pinned, cache, store)
    flip(store, keys.lock(digest(pinned)))
    [damage] = vault.verify(store).damaged
    assert damage.key == keys.lock(digest(pinned)) and "is damaged: it has the sha256" in damage.why


def test_files_of_inputs_are_named_and_their_lists_are_checked(cache: Cache, store: Store, tmp_path: Path) -> None:
    files = [("a.txt", "file", sha256_bytes(b"a")), ("b.txt", "file", sha256_bytes(b"b")), ("c", "link", "a.txt")]
    tree = tree_digest(files)
    lines = [{"path": path, "size": 1, "sha256": sha256} for path, _, sha256 in files[:2]]
    text = json.dumps({"version": 1, "files": [*lines, {"path": "c", "link": "a.txt"}]}).encode()
    other = stores.open(str(tmp_path / "other"))
    for place in (store, other):
        place.put(keys.inputs(tree), text)
        place.put(keys.artifact(sha256_bytes(b"a")), b"a")
    [damage] = vault.verify(store).damaged
    assert str(damage).startswith(f"input {tree[:12]}: b.txt (sha256 ") and damage.why == "is missing"
    store.put(keys.inputs(tree), text.replace(b"c", b"d"))
    [damage] = vault.verify(store).damaged
    assert "is damaged: it is the list of the tree" in damage.why
    assert vault.heal(store, [damage], from_cache(cache)).left
    assert vault.heal(store, [damage], from_cache(cache), [other]).mended and store.get(keys.inputs(tree)) == text


def from_cache(cache: Cache) -> Bring:
    def bring(artifact: Artifact) -> tuple[Path, str]:
        if path := cache.find("artifacts", artifact.sha256):
            return path, "this machine's cache"
        raise FetchError("an index: has no such file")

    return bring


def test_damage_is_healed_and_told_from_where(cache: Cache, store: Store, tmp_path: Path) -> None:
    keep(cache, b"one", b"two")
    pinned = lock(wheel(b"one", "one"), wheel(b"two", "two"))
    other = stores.open(str(tmp_path / "other"))
    vault.add(pinned, cache, store)
    vault.add(pinned, cache, other)
    flip(store, keys.artifact(sha256_bytes(b"one")))
    store.delete(keys.artifact(sha256_bytes(b"two")))
    flip(store, keys.lock(digest(pinned)))
    done = vault.heal(store, vault.verify(store).damaged, from_cache(cache), [other])
    assert [where for _, where in done.mended] == [f"the vault in {other.url}", "this machine's cache"]
    assert vault.verify(store).damaged[0].wanted.artifact.name == "two", "only now the lock tells of it"
    done = vault.heal(store, vault.verify(store, sample=None).damaged, from_cache(cache))
    assert [(damage.wanted.artifact.name, where) for damage, where in done.mended] == [("two", "this machine's cache")]
    assert done.left == () and vault.verify(store, sample=None).damaged == ()


def test_what_is_nowhere_else_stays_damaged_and_says_so(cache: Cache, store: Store, tmp_path: Path) -> None:
    keep(cache, b"one")
    vault.add(lock(wheel(b"one")), cache, store)
    flip(store, keys.artifact(sha256_bytes(b"one")))
    done = vault.heal(store, vault.verify(store, sample=None).damaged, from_cache(Cache(tmp_path / "cold")))
    [problem] = done.left
    assert "tiny 1.0: tiny-1.0-py3-none-any.whl" in problem.message and "an index: has no such file" in problem.message
    assert "--from" in (problem.hint or "")


def test_a_damaged_vault_is_passed_over_for_the_next_place(cache: Cache, store: Store, tmp_path: Path) -> None:
    keep(cache, b"one")
    pinned = wheel(b"one")
    other = stores.open(str(tmp_path / "other"))
    for place in (store, other):
        vault.add(lock(pinned), cache, place)
    flip(store, keys.artifact(pinned.sha256))
    notes, cold = Notes(), Cache(tmp_path / "cold")
    fetch([pinned], cold, [VaultSource(store), VaultSource(other)], notes)
    assert cold.find("artifacts", pinned.sha256)
    [note] = notes.said
    assert f"the vault in {store.url} gave a wrong {pinned.filename}" in note and "came from elsewhere" in note
    with pytest.raises(IntegrityError, match=r"only to be had with other bytes"):
        fetch([pinned], Cache(tmp_path / "colder"), [VaultSource(store)])


def test_a_vault_that_is_only_the_last_resort_is_opened_late(cache: Cache, store: Store) -> None:
    def opens() -> Store:
        raise StoreError("the disk is not mounted")

    late = VaultSource(url="/mnt/store", opens=opens)
    store.put(keys.artifact(sha256_bytes(b"one")), b"one")
    assert fetch([wheel(b"one")], cache, [VaultSource(store), late])
    with pytest.raises(FetchError, match="the disk is not mounted"):
        fetch([wheel(b"two")], cache, [late])


def test_a_cut_is_gone_on_from_where_it_came(cache: Cache, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(0).randbytes(3_000_000)
    store.put(keys.artifact(sha256_bytes(data)), data)

    def cut(key: str) -> Iterator[bytes]:
        yield data[:1_000_000]
        raise UnreachableError("the connection was cut")

    monkeypatch.setattr(store, "stream", cut)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    ranges: list[int] = []
    get_range = store.get_range

    def noted(key: str, start: int, size: int) -> bytes:
        ranges.append(start)
        return get_range(key, start, size)

    monkeypatch.setattr(store, "get_range", noted)
    assert fetch([wheel(data)], cache, [VaultSource(store)])
    assert ranges == [1_000_000, 3_000_000]


def test_a_store_that_stays_away_is_told_and_the_next_place_is_asked(
    cache: Cache, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = stores.open(str(tmp_path / "other"))
    other.put(keys.artifact(sha256_bytes(b"one")), b"one")

    def away(key: str) -> Iterator[bytes]:
        raise UnreachableError(f"{key}: nobody answers")

    monkeypatch.setattr(store, "stream", away)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(FetchError, match="nobody answers"):
        fetch([wheel(b"one")], cache, [VaultSource(store)])
    assert fetch([wheel(b"one")], cache, [VaultSource(store), VaultSource(other)])


def test_a_lock_is_listed_with_what_only_it_needs(cache: Cache, store: Store) -> None:
    keep(cache, b"shared", b"own")
    first, second = lock(wheel(b"shared")), lock(wheel(b"shared"), wheel(b"own", "own"), asked="own")
    for one in (first, second):
        vault.add(one, cache, store)
    store.put(keys.artifact(sha256_bytes(b"code")), b"code")
    store.put(keys.lock("5" * 64), b"no lock")
    held = vault.holdings(store)
    assert (held.files, held.size, held.other, held.other_size) == (3, 13, 1, 4)
    lines = {line.digest: line for line in held.locks}
    less, more = lines[digest(first)], lines[digest(second)]
    assert (less.size, less.own, less.missing, more.size, more.own) == (6, 0, 0, 9, 3)
    assert less.about == "debian:bookworm, Python 3.11.2, tiny"
    assert "is damaged" in lines["5" * 64].about
    store.delete(keys.artifact(sha256_bytes(b"own")))
    assert {line.missing for line in vault.holdings(store).locks if line.digest == digest(second)} == {1}
    assert [held for _, held in vault.artifacts(store)] == [6, 4]


def test_garbage_is_what_nothing_refers_to_and_is_old(cache: Cache, store: Store) -> None:
    keep(cache, b"locked")
    vault.add(lock(wheel(b"locked")), cache, store)
    contents: Sequence[bytes] = (b"locked", b"code", b"patch", b"input", b"of a tree", b"nobody's", b"new")
    for data in contents:
        store.put(keys.artifact(sha256_bytes(data)), data)
    tree = tree_digest([("a", "file", sha256_bytes(b"of a tree"))])
    listed = b'{"files": [{"path": "a", "size": 9, "sha256": "%s"}]}' % sha256_bytes(b"of a tree").encode()
    store.put(keys.inputs(tree), listed)
    store.put(keys.inputs(sha256_bytes(b"unused tree")), b"{}")
    job = b'{"code": "%s", "data": {"a": "%s", "b": "%s"}}'
    names = (sha256_bytes(b"code"), sha256_bytes(b"input"), tree)
    store.put(keys.job("queued"), job % tuple(name.encode() for name in names))
    store.put(keys.event("queued", 1, 0), b'{"code": {"patch": "%s"}}' % sha256_bytes(b"patch").encode())
    age(store, *contents[:-1])
    assert len(vault.look(store, NONE).garbage) == 2, "an input that was put there counts by itself"
    seen = vault.look(store, DAY, inputs=True)
    assert [entry.key for entry in seen.garbage] == [keys.artifact(sha256_bytes(b"nobody's"))]
    assert {entry.key for entry in seen.young} == {
        keys.artifact(sha256_bytes(b"new")),
        keys.inputs(sha256_bytes(b"unused tree")),
    }
    assert [entry.key for entry in vault.collect(store, DAY)] == [keys.artifact(sha256_bytes(b"nobody's"))]
    assert vault.look(store, DAY).garbage == () and not marks.going(store)
    assert len(vault.collect(store, NONE, inputs=True)) == 2
    assert vault.verify(store, sample=None).damaged == ()


def test_what_is_referred_to_meanwhile_stays(cache: Cache, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job is submitted after the first look at the references and before the deletion."""
    store.put(keys.artifact(sha256_bytes(b"code")), b"code")
    look = collecting.look

    def slow(store: Store, older_than: timedelta, inputs: bool) -> collecting.Sorted:
        seen = look(store, older_than, inputs=inputs)
        store.put(keys.job("late"), b'{"code": "%s"}' % sha256_bytes(b"code").encode())
        return seen

    monkeypatch.setattr(collecting, "look", slow)
    assert vault.collect(store, NONE) == ()
    assert store.exists(keys.artifact(sha256_bytes(b"code")))


def kept_and_sent(cache: Cache, store: Store) -> str:
    """Put b"one" into the cache and into the vault; return its key there."""
    keep(cache, b"one")
    store.put(key := keys.artifact(sha256_bytes(b"one")), b"one")
    return key


def test_who_relies_on_what_is_deleted_at_that_moment_sends_it_again(
    cache: Cache, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moments: `add` has seen the file, and it is deleted before the lock is there, by one that goes on."""
    key = kept_and_sent(cache, store)
    put = store.put
    others: list[marks.Mark] = []

    def deleting(key_put: str, data: bytes) -> None:
        if key_put.endswith(".lock"):
            others.append(marks.Mark(store))
            store.delete(key)
        put(key_put, data)

    monkeypatch.setattr(store, "put", deleting)
    monkeypatch.setattr("time.sleep", lambda seconds: others[0].end())
    notes = Notes()
    done = vault.add(lock(wheel(b"one")), cache, store, notes)
    assert store.get(key) == b"one" and (done.copied, done.present) == (1, 0)
    assert "`launcher vault gc --delete` is at work" in notes.said[0]


def test_who_relies_on_what_is_deleted_in_between_sends_it_again(
    cache: Cache, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole `gc --delete` comes and goes after `add` has seen the file and before it has written the lock."""
    key = kept_and_sent(cache, store)
    send = adding.send

    def sent(*args: Any) -> adding.Added:
        done = send(*args)
        if not store.exists(keys.lock(digest(pinned))):
            assert [entry.key for entry in vault.collect(store, NONE)] == [key]
        return done

    monkeypatch.setattr(adding, "send", sent)
    pinned = lock(wheel(b"one"))
    assert (vault.add(pinned, cache, store).copied, store.get(key)) == (1, b"one")


def test_in_any_order_of_events_nothing_that_was_added_is_lost(
    cache: Cache, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two who add and two who delete, at random moments: after each `add` all of its lock is there, and stays."""
    monkeypatch.setattr(marks, "LOOK_S", 0.001)
    contents = [b"%d" % number for number in range(30)]
    keep(cache, *contents)
    over = threading.Event()
    trouble: list[str] = []

    def adds(seed: int) -> None:
        chance = random.Random(seed)
        for turn in range(25):
            pinned = lock(*(wheel(data, f"n{data.decode()}") for data in chance.sample(contents, 10)), asked=str(turn))
            vault.add(pinned, cache, store)
            time.sleep(chance.random() / 100)
            trouble.extend(str(damage) for damage in vault.verify(store, {digest(pinned): pinned}).damaged)
            store.delete(keys.lock(digest(pinned)))  # so that there is garbage again

    def deletes() -> None:
        while not over.is_set():
            with contextlib.suppress(StoreError):
                vault.collect(store, NONE)

    adders = [threading.Thread(target=adds, args=(seed,)) for seed in (1, 2)]
    deleters = [threading.Thread(target=deletes) for _ in range(2)]
    for thread in (*adders, *deleters):
        thread.start()
    for thread in adders:
        thread.join()
    over.set()
    for thread in deleters:
        thread.join()
    assert trouble == []


def test_two_do_not_delete_at_once_and_a_dead_one_holds_nobody_back(store: Store) -> None:
    dead = marks.Mark(store)
    with pytest.raises(StoreError, match="somebody else is deleting"):
        vault.collect(store, DAY)
    path = path_of(store, keys.collecting(dead.name + marks.GOING))
    then = path.stat().st_mtime - 2 * marks.DEAD_S
    os.utime(path, (then, then))
    assert vault.collect(store, DAY) == () and not marks.going(store)
    assert marks.deleted_since(store, frozenset())
    store.delete(keys.collecting(dead.name + marks.GOING))
    assert not marks.deleted_since(store, marks.seen(store))


def test_one_that_was_held_up_stops(store: Store) -> None:
    mark = marks.Mark(store)
    mark.renewed_at -= marks.DEAD_S
    with pytest.raises(StoreError, match="held up for too long"):
        mark.renew()


def test_a_lock_that_is_known_by_another_name_still_counts(cache: Cache, store: Store) -> None:
    """Whatever looks like a digest counts: a lock of a newer version, which this one can't read, too."""
    store.put(keys.artifact(sha256_bytes(b"x")), b"x")
    store.put(keys.lock("6" * 64), b'version = 99\nnew = "%s"\n' % sha256_bytes(b"x").encode())
    assert vault.look(store, NONE).garbage == ()


def test_sizes_that_nobody_told_are_no_damage(cache: Cache, store: Store) -> None:
    keep(cache, b"list", b"one")
    pinned = replace(lock(wheel(b"one"), listing=b"list"))
    vault.add(pinned, cache, store, SILENT)
    assert vault.verify(store, {digest(pinned): pinned}).damaged == ()
