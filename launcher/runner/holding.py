"""Finished checkpoints that wait for the store, held by hard links: the script may delete or overwrite its own.

    spool/held/<attempt>-<seq>/<name>           the checkpoint, a file or a folder, as second names of the same files
    spool/held/<attempt>-<seq>/manifest.json    written last, when every file was hashed: then it is whole for sure

What a killed runner leaves there serves the next attempt on the same node when the manifest is there.
"""

from __future__ import annotations

import contextlib
import json
import os

from launcher.runner.blobs import ChangedError, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from launcher.runner.attempt import Attempt
    from launcher.runner.checkpoints import Signature

MANIFEST = "manifest.json"
SHARE = 10  # of the free disk: a tenth may be held


class Held:
    """A checkpoint that is held. `path` is where to read it, `linked` whether the script can't take it away."""

    def __init__(self, folder: str, name: str, seq: int, sign: Signature) -> None:
        self.folder, self.name, self.seq, self.sign = folder, name, seq, sign
        self.path = os.path.join(folder, name)
        self.linked = True
        self.kind = "file"
        self.bytes = sum(size for _, size, _, _ in sign)
        self.manifest: dict[str, Any] | None = None  # once all is hashed
        self.rows = 0  # of metrics, by when it was taken
        self.hash_s = self.send_s = 0.0
        self.sent: list[int] = []  # sizes of its files that got into the store
        self.tries = 0

    def seal(self, manifest: dict[str, Any]) -> None:
        """Write the manifest down beside the files, where they are ours. A full disk leaves it unwritten."""
        self.manifest = manifest
        if not self.linked:
            return
        path = os.path.join(self.folder, MANIFEST)
        with contextlib.suppress(OSError):
            with open(path + ".tmp", "w") as stream:
                json.dump(manifest, stream)
            os.rename(path + ".tmp", path)

    def release(self) -> None:
        let_go(self.folder)


def let_go(folder: str) -> None:
    """Let go of the files; the manifest goes first, so that no half one is ever taken for whole."""
    import shutil

    with contextlib.suppress(OSError):
        os.unlink(os.path.join(folder, MANIFEST))
    shutil.rmtree(folder, ignore_errors=True)


def folder_of(attempt: Attempt) -> str:
    return attempt.path("spool", "held")


def hold(attempt: Attempt, name: str, seq: int, sign: Signature) -> Held:
    """Take hold of a finished checkpoint. Raises ChangedError when it is not any more what `sign` says.

    Where the file system has no hard links it is read where it lies.
    """
    original = os.path.join(attempt.path("checkpoints"), name)
    held = Held(os.path.join(folder_of(attempt), f"{attempt.number:04d}-{seq:08d}"), name, seq, sign)
    held.kind = "tree" if os.path.isdir(original) else "file"
    try:
        os.makedirs(held.folder)
        link_tree(original, held.path)
        if signature_of(held) != sign:
            raise ChangedError(f"the checkpoint {name} changed while it was taken")
    except FileNotFoundError as e:
        held.release()
        raise ChangedError(f"the checkpoint {name} is gone") from e
    except OSError:  # no hard links here, or too many, or no room for a folder
        held.release()
        held.path, held.linked = original, False
    except ChangedError:
        held.release()
        raise
    return held


def signature_of(held: Held) -> Signature:
    """Return what changes when a file of it is written. Raises OSError when one is gone."""
    return tuple(found.signature for found in walk(held.path, "" if held.kind == "tree" else held.name))


def link_tree(source: str, to: str) -> None:
    """Give every file and link below a folder a second name; of a file, that file. Raises OSError."""
    if not os.path.isdir(source) or os.path.islink(source):
        os.link(source, to, follow_symlinks=False)
        return
    os.mkdir(to)
    for name in os.listdir(source):
        link_tree(os.path.join(source, name), os.path.join(to, name))


def limit_of(attempt: Attempt) -> int:
    """Return how many bytes may be held: what the attempt says, else 20 GiB, but no more than a tenth of the disk
    that is free now."""
    from launcher.runner.attempt import LIMITS

    if "hold_bytes" in attempt.limits:
        return attempt.limits["hold_bytes"]
    with contextlib.suppress(OSError):
        stats = os.statvfs(attempt.folder)
        return min(LIMITS["hold_bytes"], stats.f_bavail * stats.f_frsize // SHARE)
    return LIMITS["hold_bytes"]


def whole_ones(attempt: Attempt) -> list[tuple[dict[str, Any], str]]:
    """Return (manifest, folder) of each checkpoint that earlier attempts of this run left completely held, oldest
    first. The files lie at `<folder>/<name>`; they were whole, and are to be checked by the manifest's sha256."""
    found = []
    with contextlib.suppress(OSError):
        for entry in sorted(os.listdir(folder_of(attempt))):
            folder = os.path.join(folder_of(attempt), entry)
            with contextlib.suppress(OSError, ValueError), open(os.path.join(folder, MANIFEST)) as stream:
                found.append((json.load(stream), folder))
    return found


def sweep(attempt: Attempt, but: str = "") -> None:
    """Remove what lies there from before, but for one folder."""
    with contextlib.suppress(OSError):
        for entry in os.listdir(folder_of(attempt)):
            folder = os.path.join(folder_of(attempt), entry)
            if folder != but:
                let_go(folder)
