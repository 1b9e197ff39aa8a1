"""From a working tree to a snapshot: list, check, pack. Every objection to the tree is told at once."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pathspec import GitIgnoreSpec

from launcher.cache import Cache
from launcher.code import folder, git, secrets
from launcher.code.archive import write
from launcher.code.model import Code, History, Listed
from launcher.digest import sha256_bytes
from launcher.errors import Problem, SpecError
from launcher.spec.model import CodeSpec

LFS = b"version https://git-lfs.github.com/spec/v1"
OUT = "list it in .gitignore or under code.exclude"
INSIST = f"{OUT}; code.include insists on it"


def snapshot(spec: CodeSpec, cache: Cache, *, skip: Iterable[Path] = ()) -> Code:
    """Take a snapshot of a working tree. Folders of `skip` (a store, a cache) that lie in it are left out.

    Raises SpecError that lists every file that can't or shouldn't be taken; SpecError when the tree is not as
    committed and the spec refuses that, or when a file changes meanwhile.
    """
    in_git = git.knows(spec.root)
    names = git.listing(spec.root) if in_git else folder.listing(spec.root)
    files = list(listed(spec, names, outside(spec.root, [*skip, cache.root])))
    history = git.history(spec.root, [file.path for file in files]) if in_git else History()
    if spec.dirty == "refuse":
        git.refuse_dirty(history)
    notes: list[str] = []
    insisted = GitIgnoreSpec.from_lines(spec.include)
    found = (problem for file in files for problem in objections(spec, file, insisted, notes))
    if problems := [*sizes(spec, files, insisted), *found]:
        raise SpecError.of(problems)
    digest, archive, size = write(spec.root, files, cache)
    return Code(
        digest=digest,
        archive=archive,
        files=len(files),
        size=size,
        commit=history.commit,
        dirty=history.dirty,
        patch=kept_patch(history.patch, cache, notes),
        untracked=history.untracked,
        notes=tuple(notes),
    )


def outside(root: Path, folders: Iterable[Path]) -> tuple[str, ...]:
    """Return, as prefixes, those folders that lie below the root."""
    real = root.resolve()
    inner = (place.resolve() for place in folders)
    return tuple(f"{place.relative_to(real).as_posix()}/" for place in inner if real in place.parents)


def listed(spec: CodeSpec, names: Iterable[str], skipped: tuple[str, ...]) -> Iterator[Listed]:
    """Yield what of `names` is there and wanted, in byte order."""
    excluded = GitIgnoreSpec.from_lines(spec.exclude)
    for name in sorted(set(names), key=os.fsencode):
        if name.startswith(skipped) or excluded.match_file(name):
            continue
        path = spec.root / name
        try:
            info = path.lstat()
        except FileNotFoundError:
            continue  # deleted, and git still lists it
        yield Listed(path=name, stat=info, target=target_of(path, info))


def target_of(path: Path, info: os.stat_result) -> str | None:
    """Return what a symbolic link says, to the letter."""
    return os.readlink(path) if stat.S_ISLNK(info.st_mode) else None  # noqa: PTH115 - a Path would tidy it


def sizes(spec: CodeSpec, files: Sequence[Listed], insisted: GitIgnoreSpec) -> Iterator[Problem]:
    """Object to a tree that is too big as a whole; the biggest files are named."""
    counted = [file for file in files if file.target is None and not insisted.match_file(file.path)]
    total = sum(file.stat.st_size for file in counted)
    if total > spec.max_total_bytes:
        biggest = sorted(counted, key=lambda file: -file.stat.st_size)[:5]
        shown = ", ".join(f"{file.path!r} ({megabytes(file.stat.st_size)})" for file in biggest)
        yield Problem(
            message=f"the code has {megabytes(total)}, and code.max_total_size allows "
            f"{megabytes(spec.max_total_bytes)}; the biggest: {shown}",
            hint=f"{OUT}, or mount it as data; or raise code.max_total_size",
        )


def objections(spec: CodeSpec, file: Listed, insisted: GitIgnoreSpec, notes: list[str]) -> Iterator[Problem]:
    """Object to one file: its name, kind, size, target or content."""
    try:
        file.path.encode()
    except UnicodeEncodeError:
        yield Problem(message=f"{file.path!r}: its name is not UTF-8", hint=f"rename it, or {OUT}")
        return
    if file.target is not None:
        yield from link_objections(spec.root, file)
    elif not stat.S_ISREG(file.stat.st_mode):
        yield Problem(message=f"{file.path!r} is neither file, folder nor link", hint=OUT)
    elif insisted.match_file(file.path):
        return
    elif file.stat.st_size > spec.max_file_bytes:
        limit = megabytes(spec.max_file_bytes)
        message = f"{file.path!r} has {megabytes(file.stat.st_size)}, and code.max_file_size allows {limit}"
        yield Problem(message=message, hint=f"mount it as data, or {INSIST}")
    else:
        yield from secret_objections(spec.root, file, notes)


def link_objections(root: Path, file: Listed) -> Iterator[Problem]:
    """Object to a link that leads out of the tree, by its text or by where it ends."""
    assert file.target is not None
    base = root.resolve()
    ends = Path(os.path.realpath((root / file.path).parent / file.target))  # Path.resolve can't bear a loop before 3.13
    text = posixpath.normpath(posixpath.join(posixpath.dirname(file.path), file.target))
    if file.target.startswith("/") or text.split("/")[0] == ".." or base not in (ends, *ends.parents):
        message = f"the link {file.path!r} leads out of the code folder, to {file.target!r}"
        yield Problem(message=message, hint=f"mount what it shows as data; or {OUT}")


def secret_objections(root: Path, file: Listed, notes: list[str]) -> Iterator[Problem]:
    if kind := secrets.by_name(file.path):
        yield Problem(message=f"{file.path!r} looks like a secret: such files hold {kind}", hint=INSIST)
        return
    if file.stat.st_size > secrets.SCANNED_BYTES:
        return
    try:
        data = (root / file.path).read_bytes()
    except OSError as e:
        yield Problem(message=f"{file.path!r} can't be read: {e.strerror}", hint=OUT)
        return
    if data.startswith(LFS):
        notes.append(f"{file.path!r} is a Git LFS pointer, not the file itself: `git lfs pull` brings it")
    for line, kind in secrets.by_content(data):
        yield Problem(message=f"{file.path!r}, line {line}: looks like {kind}", hint=f"take it out, or {INSIST}")


def kept_patch(patch: bytes, cache: Cache, notes: list[str]) -> tuple[str, Path] | None:
    """Keep the changes as an artifact, unless lines that were taken out hold a secret."""
    if not patch:
        return None
    if any(secrets.by_content(patch)):
        notes.append("the changes since the commit hold something like a secret: the record keeps the files only")
        return None
    digest = sha256_bytes(patch)
    with cache.scratch() as scratch:
        (scratch / "patch").write_bytes(patch)
        return digest, cache.adopt("artifacts", digest, scratch / "patch")


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
