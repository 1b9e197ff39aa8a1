"""What git says of a working tree. Only asks: no hook, no pager, no external program of the repository is run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from launcher.code.model import History
from launcher.errors import Problem, SpecError
from launcher.process import run

OPTIONS = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "-c", "core.hooksPath=/dev/null")
DIFF = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/")
DUBIOUS = "if git speaks of dubious ownership: git config --global --add safe.directory FOLDER"


def knows(root: Path) -> bool:
    """Tell whether a folder lies in the working tree of a repository that git can read."""
    return shutil.which("git") is not None and any((folder / ".git").exists() for folder in (root, *root.parents))


def ask(root: Path, *words: str, check: bool = True) -> bytes:
    """Run git in a folder and return what it printed. Raises ProcessError."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env = {**own, "GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "1", "LC_ALL": "C", "GIT_PAGER": "cat"}
    return run(["git", "-C", str(root), *OPTIONS, *words], env=env, hint=DUBIOUS, check=check).stdout


def names(output: bytes) -> list[str]:
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


def listing(root: Path) -> list[str]:
    """Return the tracked files, and those that are neither tracked nor ignored, sub-repositories and all.

    Raises SpecError for a submodule that is not there.
    """
    found: list[str] = []
    for name in dict.fromkeys(names(ask(root, "ls-files", "-z", "-co", "--exclude-standard"))):
        path = root / name
        if path.is_dir() and not path.is_symlink():
            found += (name.rstrip("/") + "/" + inner for inner in inside(root, path))
        else:
            found.append(name)
    return found


def inside(root: Path, folder: Path) -> list[str]:
    """List a submodule, or another repository that lies in this one."""
    if (folder / ".git").exists():
        return listing(folder)
    name = folder.relative_to(root)
    raise SpecError(
        f"the submodule `{name}` is empty",
        hint=f"`git submodule update --init {name}` fetches it; or list it under code.exclude",
    )


def history(root: Path, taken: Iterable[str]) -> History:
    """Return the commit, and how the files that a snapshot takes differ from it; deleted ones count."""
    commit = ask(root, "rev-parse", "--verify", "--quiet", "HEAD", check=False).decode().strip() or None
    present = set(taken)
    untracked = [name for name in names(ask(root, "ls-files", "-z", "-o", "--exclude-standard")) if name in present]
    if commit is None:
        staged = names(ask(root, "ls-files", "-z", "-c"))
        return History(untracked=tuple(sorted({*untracked, *(name for name in staged if name in present)})))
    differing = names(ask(root, *DIFF, "--name-only", "--relative", "-z", "HEAD", "--", "."))
    changed = sorted(name for name in differing if name in present or not os.path.lexists(root / name))
    return History(
        commit=commit, changed=tuple(changed), untracked=tuple(sorted(untracked)), patch=patch(root, changed)
    )


def patch(root: Path, changed: Sequence[str]) -> bytes:
    """Return the changes of some files since the commit: text and binary, as `git apply --binary` takes them."""
    pieces = (changed[start : start + 500] for start in range(0, len(changed), 500))
    return b"".join(ask(root, *DIFF, "--binary", "--relative", "HEAD", "--", *piece) for piece in pieces)


def refuse_dirty(history: History) -> None:
    """Raise SpecError that lists what is not in the commit."""
    if not history.dirty and history.commit:
        return
    problems = [Problem(message=f"changed: {name!r}") for name in history.changed]
    problems += [Problem(message=f"not tracked: {name!r}") for name in history.untracked]
    head = "the working tree is not as committed, and code.dirty says `refuse`"
    if history.commit is None:
        head = "code.dirty says `refuse`, and there is no commit to compare with"
    raise SpecError.of(
        [Problem(message=head, hint="commit, ignore or exclude these, or write dirty: record"), *problems[:50]]
    )
