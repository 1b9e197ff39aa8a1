"""SIF and squashfs of a real image in the hands of others: squashfs-tools, squashfuse, the kernel, Apptainer."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.cli.pipeline import built
from launcher.image.base.tree import BaseTree, read_tree
from launcher.image.oci import Image, environment
from launcher.image.sif import sif, squashfs, write_output
from launcher.image.tar import MTIME
from launcher.lock import Lock, load
from launcher.progress import SILENT
from tests.patience import LONG_S
from tests.test_image_interop import NASTY

pytestmark = pytest.mark.services

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits" / "experiment.lock"
CONTAINED = ("--containall", "--cleanenv", "--no-home", "--pwd", "/workspace")
OF_APPTAINER = re.compile(r"(APPTAINER|SINGULARITY)_\w+|PS1|PROMPT_COMMAND|HOME|PWD|OLDPWD|SHLVL|_|LD_LIBRARY_PATH")


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files that were written of one image, by form."""

    lock: Lock
    image: Image
    tree: BaseTree
    paths: dict[str, Path]


@pytest.fixture(scope="module")
def files(shared_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Files:
    lock = replace(load(EXAMPLE), env=NASTY, image=None)
    image = built(lock, shared_cache, SILENT)
    folder = tmp_path_factory.mktemp("files")
    paths = {"sif": sif(image, shared_cache), "squashfs": squashfs(image, shared_cache)}
    paths["zstd"] = folder / "zstd.sqsh"
    write_output(image, "squashfs", paths["zstd"], shared_cache, SILENT, "zstd")
    tree = read_tree([x.path for x in image.layers], shared_cache, [x.diff_id for x in image.layers])
    return Files(lock=lock, image=image, tree=tree, paths=paths)


def assert_same(root: Path, tree: BaseTree) -> None:
    """Hold every path of a mounted or unpacked file against the image's merged tree."""
    seen = {str(Path(at, name).relative_to(root)) for at, down, there in os.walk(root) for name in down + there}
    assert seen == set(tree.entries)
    inodes: dict[tuple[int, int], set[int]] = {}
    for path, entry in tree.entries.items():
        info = os.lstat(root / path)
        assert (info.st_uid, info.st_gid, int(info.st_mtime)) == (0, 0, MTIME), path
        if entry.kind == "symlink":
            assert str((root / path).readlink()) == entry.target
        else:
            assert stat.S_IMODE(info.st_mode) == entry.mode, path
        if entry.kind == "file":
            assert (root / path).read_bytes() == b"".join(tree.content(path, follow=False).chunks()), path
            inodes.setdefault((entry.layer, entry.offset), set()).add(info.st_nlink)
    assert all(len(links) == 1 for links in inodes.values())
    assert any(links != {1} for links in inodes.values()), "hard links are kept"


def needs(*programs: str) -> None:
    missing = [name for name in programs if not shutil.which(name)]
    if missing or os.getuid() != 0:
        pytest.skip(f"needs root and {', '.join(programs)} (Debian: squashfs-tools, squashfuse)")


@pytest.mark.parametrize("form", ["squashfs", "zstd"])
def test_unsquashfs_gives_the_merged_tree(form: str, files: Files, tmp_path: Path) -> None:
    needs("unsquashfs")
    done = subprocess.run(
        ["unsquashfs", "-q", "-n", "-d", tmp_path / "x", files.paths[form]], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert_same(tmp_path / "x", files.tree)


def test_unsquashfs_lists_it(files: Files) -> None:
    needs("unsquashfs")
    done = subprocess.run(["unsquashfs", "-lln", files.paths["squashfs"]], capture_output=True, text=True, check=True)
    listed = [line for line in done.stdout.splitlines() if "squashfs-root" in line]
    assert len(listed) == len(files.tree.entries) + 1
    assert all(" 0/0 " in line for line in listed)


@contextlib.contextmanager
def mounted(at: Path, *command: str | Path) -> Iterator[Path]:
    at.mkdir()
    done = subprocess.run([*command, at], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{command[0]} can't mount here: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


@pytest.mark.parametrize("form", ["squashfs", "zstd"])
def test_squashfuse_mounts_it(form: str, files: Files, tmp_path: Path) -> None:
    needs("squashfuse_ll")
    with mounted(tmp_path / "m", "squashfuse_ll", files.paths[form]) as root:
        assert_same(root, files.tree)


def test_squashfuse_finds_it_in_the_sif(files: Files, tmp_path: Path) -> None:
    needs("squashfuse_ll")
    with mounted(tmp_path / "m", "squashfuse_ll", "-o", "offset=32768", files.paths["sif"]) as root:
        assert_same(root, files.tree)


@pytest.mark.parametrize("form", ["squashfs", "zstd"])
def test_the_kernel_mounts_it(form: str, files: Files, tmp_path: Path) -> None:
    needs("mount")
    with mounted(tmp_path / "m", "mount", "-t", "squashfs", "-o", "loop,ro", files.paths[form]) as root:
        assert_same(root, files.tree)


def apptainer_says(program: Path, *args: str | Path) -> str:
    env = {"PATH": f"/usr/sbin:{os.environ['PATH']}", "HOME": "/root", "APPTAINER_NO_PRIVS": "1"}
    done = subprocess.run([program, "-q", *args], env=env, capture_output=True, text=True, timeout=LONG_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_apptainer_reads_the_header(files: Files, apptainer: Path) -> None:
    assert "FS (Squashfs/*System/amd64)" in apptainer_says(apptainer, "sif", "list", files.paths["sif"])
    assert "export LANG='C.UTF-8'" in apptainer_says(apptainer, "inspect", "--environment", files.paths["sif"])
    assert "/workspace" in apptainer_says(apptainer, "inspect", "--runscript", files.paths["sif"])


@pytest.mark.parametrize("form", ["sif", "squashfs", "zstd"])
@pytest.mark.parametrize("verb", ["exec", "run"])
def test_apptainer_gives_the_environment_of_the_image(verb: str, form: str, files: Files, apptainer: Path) -> None:
    script = "import json, os, numpy; print(json.dumps([os.getcwd(), dict(os.environ)]))"
    where, env = json.loads(apptainer_says(apptainer, verb, *CONTAINED, files.paths[form], "python3", "-c", script))
    assert where == "/workspace"
    assert {name: value for name, value in env.items() if not OF_APPTAINER.fullmatch(name)} == environment(files.lock)


def test_apptainers_own_variables_go_over_the_images(files: Files, apptainer: Path) -> None:
    said = apptainer_says(
        apptainer, "exec", *CONTAINED, "--env", "EQUALS=over", files.paths["sif"], "sh", "-c", 'echo "$EQUALS"'
    )
    assert said == "over\n"
