"""The code snapshot: what is taken, what is refused, and that one tree has one digest."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.code import Code, snapshot
from launcher.code.archive import Steady
from launcher.code.model import Listed
from launcher.errors import LauncherError, SpecError
from launcher.spec.model import CodeSpec
from launcher.target import trees


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def repository(root: Path) -> Path:
    git(root, "init", "-q")
    (root / "train.py").write_text("print(1)\n")
    (root / ".gitignore").write_text("*.log\n")
    commit(root)
    return root


def git(root: Path, *words: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "protocol.file.allow=always"]
    return subprocess.run(["git", "-C", str(root), *who, *words], check=True, capture_output=True, text=True).stdout


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "x")


def take(root: Path, cache: Cache, **more: object) -> Code:
    return snapshot(CodeSpec(root=root, **more), cache)  # type: ignore[arg-type]


def names(code: Code) -> list[str]:
    with tarfile.open(code.archive) as archive:
        return [member.name for member in archive if not member.isdir()]


def refused(root: Path, cache: Cache, **more: object) -> str:
    with pytest.raises(SpecError) as caught:
        take(root, cache, **more)
    return str(caught.value)


def test_clean_repository(repository: Path, cache: Cache) -> None:
    code = take(repository, cache, dirty="refuse")
    assert names(code) == [".gitignore", "train.py"]
    assert code.commit == git(repository, "rev-parse", "HEAD").strip()
    assert (code.dirty, code.patch, code.untracked, code.files) == (False, None, (), 2)


def test_dirty_repository(repository: Path, cache: Cache) -> None:
    (repository / "train.py").write_bytes(b"print(2)\0\xff")
    (repository / "new.py").touch()
    (repository / "x.log").touch()
    code = take(repository, cache)
    assert names(code) == [".gitignore", "new.py", "train.py"]
    assert (code.dirty, code.untracked) == (True, ("new.py",))
    assert code.patch is not None
    git(repository, "checkout", "-q", "train.py")
    git(repository, "apply", "--binary", str(code.patch[1]))
    assert (repository / "train.py").read_bytes() == b"print(2)\0\xff"
    message = refused(repository, cache, dirty="refuse")
    assert "changed: 'train.py'" in message
    assert "not tracked: 'new.py'" in message


def test_deleted_and_staged_files(repository: Path, cache: Cache) -> None:
    (repository / "train.py").unlink()
    (repository / "added.py").touch()
    git(repository, "add", "added.py")
    code = take(repository, cache)
    assert names(code) == [".gitignore", "added.py"]
    assert code.dirty
    assert b"deleted file" in code.patch[1].read_bytes()  # type: ignore[index]


def test_repository_without_a_commit(root: Path, cache: Cache) -> None:
    git(root, "init", "-q")
    (root / "a").touch()
    code = take(root, cache)
    assert (code.commit, code.untracked, code.dirty) == (None, ("a",), True)
    assert "there is no commit" in refused(root, cache, dirty="refuse")


def test_root_below_the_top_of_a_repository(repository: Path, cache: Cache) -> None:
    (repository / "sub").mkdir()
    (repository / "sub" / "a").write_text("1")
    commit(repository)
    (repository / "sub" / "a").write_text("2")
    (repository / "train.py").write_text("2")
    code = take(repository / "sub", cache)
    assert names(code) == ["a"]
    assert b"train.py" not in code.patch[1].read_bytes()  # type: ignore[index]


def test_submodules(repository: Path, cache: Cache, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(repository, other)
    git(repository, "submodule", "-q", "add", str(other), "lib")
    commit(repository)
    assert "lib/train.py" in names(take(repository, cache))
    shutil.rmtree(repository / "lib")
    (repository / "lib").mkdir()
    assert "the submodule `lib` is empty" in refused(repository, cache)


def test_digest_depends_on_the_tree_only(repository: Path, cache: Cache, tmp_path: Path) -> None:
    (repository / "run.sh").write_text("x")
    (repository / "run.sh").chmod(0o700)
    first = take(repository, cache).digest
    other = tmp_path / "elsewhere"
    shutil.copytree(repository, other, ignore=shutil.ignore_patterns(".git"))
    os.utime(other / "train.py", (1, 1))
    (other / "train.py").chmod(0o600)
    assert take(other, Cache(tmp_path / "cache2")).digest == first
    (other / "run.sh").chmod(0o644)
    assert take(other, cache).digest != first


NASTY = [
    "with space",
    "quote'\"",
    "$HOME",
    "new\nline",
    "-rf",
    "ü☃",
    "a" * 200,
    "back\\slash",
    ":(glob)*",
    "deep/" * 30 + "x",
]


@pytest.mark.parametrize("with_git", [True, False])
def test_unusual_names(root: Path, cache: Cache, with_git: bool) -> None:
    if with_git:
        git(root, "init", "-q")
    for name in NASTY:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    if with_git:
        commit(root)
        for name in NASTY:
            (root / name).write_text(name + "!")
    code = take(root, cache)
    assert names(code) == sorted(NASTY, key=str.encode)
    folder = trees.tree(cache, code.digest, code.archive)
    assert {name: (folder / name).read_text() for name in NASTY} == {n: n + "!" * with_git for n in NASTY}


def test_name_that_is_not_utf8(root: Path, cache: Cache) -> None:
    (root / os.fsdecode(b"\xff")).touch()
    assert "its name is not UTF-8" in refused(root, cache)


def test_gitignore_without_git(root: Path, cache: Cache) -> None:
    for name in (
        "a.log",
        "keep.log",
        "b.py",
        "sub/c.log",
        "sub/d.tmp",
        "sub/e",
        "build/x",
        "venv/pyvenv.cfg",
        "__pycache__/z",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    (root / ".gitignore").write_text("*.log\n!keep.log\n/build/\n")
    (root / "sub" / ".gitignore").write_text("!c.log\n*.tmp\n")
    assert names(take(root, cache)) == [".gitignore", "b.py", "keep.log", "sub/.gitignore", "sub/c.log", "sub/e"]


def test_exclude_and_folders_to_skip(root: Path, cache: Cache) -> None:
    for name in ("a.py", "b.ipynb", "store/runs/x", "storefront"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    code = snapshot(CodeSpec(root=root, exclude=("*.ipynb",)), cache, skip=[root / "store"])
    assert names(code) == ["a.py", "storefront"]


def test_sizes(root: Path, cache: Cache) -> None:
    (root / "big").write_bytes(bytes(3000))
    (root / "small").write_bytes(bytes(900))
    assert "'big' has 0.0 MB" in refused(root, cache, max_file_bytes=1000)
    assert names(take(root, cache, max_file_bytes=1000, include=("big",))) == ["big", "small"]
    message = refused(root, cache, max_total_bytes=1000)
    assert "code.max_total_size" in message
    assert "'big'" in message


def test_links(root: Path, cache: Cache) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "in").symlink_to("../file")
    (root / "broken").symlink_to("nothing")
    (root / "self").symlink_to("self")
    (root / "file").touch()
    code = take(root, cache)
    with tarfile.open(code.archive) as archive:
        assert archive.getmember("sub/in").linkname == "../file"
    (root / "out").symlink_to("../elsewhere")
    (root / "absolute").symlink_to(root / "file")
    (root / "loop").symlink_to("sub/../../root/file")
    message = refused(root, cache)
    for name in ("'out'", "'absolute'", "'loop'"):
        assert f"the link {name} leads out" in message


def test_fifo_is_refused(root: Path, cache: Cache) -> None:
    os.mkfifo(root / "pipe")
    assert "'pipe' is neither file, folder nor link" in refused(root, cache)


KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAxyz0123456789\n"
SECRETS = {
    ".env": "A=1",
    "deploy/id_rsa": "x",
    "server.pem": KEY,
    "home/.netrc": "x",
    "credentials.json": "{}",
    "aws.py": "a = 1\nkey = 'AKIA" + "QWERTYUIOPASDFGH'\n",
    "aws.ini": "aws_secret_access_key = " + "wJalrXUtnFEMIK7MDENGbPxRfiCYzzzzKEYabcde",
    "gh.txt": "token ghp_" + "a1" * 18,
    "hf.py": "\n\nlogin('hf_" + "aB3" * 12 + "')",
    "wb.sh": "export WANDB_API_KEY=" + "0a1b" * 10,
    "oa.py": "key = 'sk-proj-" + "a1B2" * 10 + "'",
}
HARMLESS = {
    ".env.example": "A=",
    "cert.pem": "-----BEGIN CERTIFICATE-----\nMIIEowIBAAKCAQEAxyz0123456789\n",
    "doc.md": "starts with -----BEGIN PRIVATE KEY----- and so on; AKIAIOSFODNN7EXAMPLE; "
    "ghp_xxxx; hf_token; task-force-alpha-bravo-charlie-delta-echo",
    "hash.txt": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
}


def test_likely_secrets_are_refused_all_at_once_and_never_told(root: Path, cache: Cache) -> None:
    for name, text in {**SECRETS, **HARMLESS}.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    message = refused(root, cache)
    for name in SECRETS:
        assert f"{name!r}" in message
    for name in HARMLESS:
        assert f"{name!r}" not in message
    assert "'aws.py', line 2: looks like an AWS access key" in message
    assert "'hf.py', line 3" in message
    assert "code.include insists" in message
    for secret in ("QWERTYUIOP", "a1a1", "aB3aB3", "MIIEow", "0a1b"):
        assert secret not in message
    assert len(names(take(root, cache, include=tuple(SECRETS)))) == len(SECRETS) + len(HARMLESS)
    assert sorted(names(take(root, cache, exclude=tuple(SECRETS)))) == sorted(HARMLESS)


def test_patch_never_carries_what_the_snapshot_leaves_out(repository: Path, cache: Cache) -> None:
    (repository / ".env").write_text("A=1")
    (repository / "conf.py").write_text("x = 1\n" + SECRETS["gh.txt"])
    commit(repository)
    (repository / ".env").write_text("A=supersecret")
    code = take(repository, cache, exclude=(".env", "conf.py"))
    assert code.patch is None
    (repository / "conf.py").write_text("x = 1\n")
    code = take(repository, cache, exclude=(".env",))
    assert code.patch is None
    assert "something like a secret" in code.notes[0]


def test_lfs_pointer_is_noticed(root: Path, cache: Cache) -> None:
    (root / "weights.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "Git LFS pointer" in take(root, cache).notes[0]


@pytest.mark.parametrize("change", ["longer", "shorter", "same size", "gone", "link"])
def test_file_that_changes_meanwhile(root: Path, change: str) -> None:
    path = root / "f"
    path.write_bytes(b"x" * 100)
    steady = Steady(root, Listed(path="f", stat=path.lstat()))
    assert b"".join(steady.chunks()) == b"x" * 100
    actions: dict[str, Callable[[], object]] = {
        "longer": lambda: path.write_bytes(b"x" * 101),
        "shorter": lambda: path.write_bytes(b"x"),
        "same size": lambda: path.write_bytes(b"y" * 100),
        "gone": path.unlink,
        "link": lambda: (path.unlink(), path.symlink_to("/etc/hostname")),
    }
    actions[change]()
    with pytest.raises(SpecError, match="changed while the snapshot was taken"):
        list(steady.chunks())


def test_busy_tree_gives_a_whole_snapshot_or_none(root: Path, cache: Cache) -> None:
    """A file is rewritten all the time: what is packed is one of its states, never a mixture."""
    stop = threading.Event()
    path = root / "busy"
    path.write_bytes(b"0" * 200_000)

    def write() -> None:
        number = 0
        while not stop.wait(0.001):
            number += 1
            path.write_bytes(str(number % 10).encode() * 200_000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            try:
                code = take(root, cache)
            except LauncherError as e:
                assert "changed while" in str(e)
                continue
            with tarfile.open(code.archive) as archive:
                data = archive.extractfile("busy").read()  # type: ignore[union-attr]
            assert len(set(data)) <= 1
    finally:
        stop.set()
        writer.join()


def test_facts_are_json(repository: Path, cache: Cache) -> None:
    code = replace(take(repository, cache), notes=())
    assert code.facts() == {
        "digest": code.digest,
        "files": 2,
        "size": code.size,
        "commit": code.commit,
        "dirty": False,
        "patch": None,
        "untracked": [],
    }
