"""What verbs write, and where it can't be: archives, locks and caches in odd places."""

from __future__ import annotations

import fcntl
import os
import stat
import tarfile
import threading
from io import BytesIO
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.cli import invoke
from launcher.cli.pipeline import given_lock, lock_path, write_text
from launcher.errors import DiskFullError, LauncherError, LockError, UsageError
from launcher.image import Image, build
from launcher.image.export import write_archive
from launcher.lock import dumps
from tests.test_image_build import lock_of
from tests.wheels import cached, wheel_bytes


@pytest.fixture
def image(cache: Cache, tmp_path: Path) -> Image:
    return build(lock_of(cached(cache, tmp_path, wheel_bytes("a"), "a")), cache)


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A device that takes nothing, like /dev/full, which no test may put at risk."""
    path = tmp_path / "full"
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
        with path.open("wb"):
            return path
    except PermissionError:
        pytest.skip("no device can be made or opened here")


def test_a_device_stays_a_device(image: Image, full: Path) -> None:
    with pytest.raises(DiskFullError, match="no space is left") as caught:
        write_archive(image, full)
    assert full.is_char_device()
    assert "LAUNCHER_CACHE" not in str(caught.value)  # that would not help here


def test_a_link_to_an_archive_stays_a_link(image: Image, tmp_path: Path) -> None:
    (tmp_path / "old.tar").touch()
    (tmp_path / "link").symlink_to("old.tar")
    write_archive(image, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert tarfile.is_tarfile(tmp_path / "old.tar")


def test_a_pipe_is_written_to(image: Image, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()), daemon=True)
    reader.start()
    number = os.open(tmp_path / "pipe", os.O_WRONLY)
    write_archive(image, Path(f"/dev/fd/{number}"))  # as /dev/stdout is: a link that resolves to no path
    os.close(number)
    reader.join(10)
    assert (tmp_path / "pipe").is_fifo()
    with tarfile.open(fileobj=BytesIO(read[0])) as tar:
        assert "oci-layout" in tar.getnames()


@pytest.mark.parametrize(
    ("out", "words"), [(".", "is a folder"), ("-", "written to stdout"), ("no/image.tar", "there is no folder no")]
)
def test_an_output_that_cannot_be_is_refused_before_anything_is_made(
    out: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "unmade"))
    (tmp_path / "x.lock").write_text(dumps(lock_of()))
    for verb in ("build", "rebuild"):
        assert invoke([verb, "x.lock", "-o", out]) == UsageError.exit_code
        assert words in capsys.readouterr().err
    assert not (tmp_path / "unmade").exists()


def test_a_cache_that_cannot_be_made_says_which_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere/launcher")):
        with pytest.raises(LauncherError, match=r"the cache .* can't be used: ") as caught:
            Cache(place)
        assert "LAUNCHER_CACHE" in str(caught.value)


def test_a_cache_on_a_file_system_without_locks_is_refused(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(LauncherError, match="can't be used: Function not implemented"), cache.scratch():
        pass
    assert list((cache.root / "tmp").iterdir()) == []


def test_a_lock_is_utf8_in_every_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ascii")
    write_text(tmp_path / "x.lock", 'WHO = "Zoë"\n')
    assert (tmp_path / "x.lock").read_bytes() == 'WHO = "Zoë"\n'.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["x.lock"]
    (tmp_path / "link.lock").symlink_to("x.lock")
    write_text(tmp_path / "link.lock", "")
    assert (tmp_path / "link.lock").is_symlink() and (tmp_path / "x.lock").read_bytes() == b""


def test_a_lock_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.lock").mkdir()
    with pytest.raises(LockError, match=r"x\.lock can't be written: Is a directory"):
        write_text(tmp_path / "x.lock", "")
    with pytest.raises(LockError, match=r"no/x\.lock can't be written: No such file"):
        write_text(tmp_path / "no" / "x.lock", "")


def test_a_lock_is_wanted_and_not_its_spec(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a lock is wanted") as caught:
        given_lock(tmp_path / "train.yaml")
    assert str(tmp_path / "train.lock") in str(caught.value)
    assert given_lock(tmp_path) == tmp_path / "experiment.lock"
    with pytest.raises(UsageError, match="a spec is wanted"):  # or its lock would be written over it
        lock_path(tmp_path / "train.lock")


def test_a_damaged_lock_is_kept_until_an_upgrade_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, place = tmp_path / "experiment.yaml", tmp_path / "experiment.lock"
    spec.write_text("name: x\nrun: true.py\n")
    place.write_text("<<<<<<< HEAD\n")
    monkeypatch.setattr("launcher.resolve.resolve", lambda *_, **__: lock_of())
    assert invoke(["lock", str(spec), "--no-image"]) == LockError.exit_code
    assert "launcher lock --upgrade" in capsys.readouterr().err
    assert place.read_text() == "<<<<<<< HEAD\n"
    assert invoke(["lock", str(spec), "--no-image", "--upgrade"]) == 0
    assert "written anew" in capsys.readouterr().err
    assert place.read_text() == dumps(lock_of())
    assert invoke(["lock", str(spec), "--no-image", "-P", "no_such"]) == 0
    assert "`no_such` is no package of this lock" in capsys.readouterr().err
