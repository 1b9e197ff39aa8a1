"""A store's credentials on their way to one attempt: a file in memory, in a folder that nobody else may enter.

    <memory>/launcher-<user id>/<random>/held          locked by the client and by the runner, while they live
                                        /store.json    replaced by a rename when the credentials are renewed

The folder is mounted read-only, so the runner sees what is renamed into it; nothing of it is in an environment, on a
command line, or in the run's own folder. It goes when the attempt ends; after a killed client the next one removes it,
once no runner holds it any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pwd
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from launcher import access as accesses
from launcher.cache import Cache
from launcher.errors import LauncherError
from launcher.store.access import Access, read_secrets

FILE, HELD = "store.json", "held"
LOOK_S = 60.0  # credentials without a known end are read again so often: somebody may have logged in anew
AHEAD_S = 600.0  # those with an end, so long before it
MEMORY = "/dev/shm"
SYSTEM_UIDS = 1000  # whose files in memory are left alone at a logout (logind.conf, RemoveIPC; login.defs, SYS_UID_MAX)
log = logging.getLogger(__name__)


class Handed:
    """Credentials that an attempt can read in `folder`, kept fresh by a thread until they are released."""

    def __init__(self, access: Access, folder: Path, descriptor: int) -> None:
        self.access, self.folder, self.descriptor = access, folder, descriptor
        self.over = threading.Event()
        self.told = ""

    def keep_fresh(self) -> None:
        threading.Thread(target=self.work, name="credentials", daemon=True).start()

    def work(self) -> None:
        while not self.over.wait(pause_s(left_s(self.folder / FILE))):
            left = left_s(self.folder / FILE)
            if left is None or left < AHEAD_S:
                self.renew()

    def renew(self) -> None:
        """Write the credentials of now. What fails is told once, and tried again."""
        try:
            if not accesses.write_secrets(self.access, self.folder / FILE):
                raise LauncherError("this machine has none any more")
            self.told = ""
        except (LauncherError, OSError) as e:
            if self.told != str(e) and not self.over.is_set():
                self.told = str(e)
                log.warning("the credentials of %s can't be renewed: %s", self.access.url, e)

    def release(self) -> None:
        """Remove the credentials from this machine."""
        self.over.set()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.descriptor)


def hand_over(access: Access, cache: Cache) -> Handed | None:
    """Write down a store's credentials for an attempt; None when it is reached without any of this machine's.

    Raises AccessError, OSError.
    """
    top = place(cache, detached=bool(access.secrets))
    with alone(top):
        sweep(top)
        folder = Path(tempfile.mkdtemp(dir=top))
        descriptor = os.open(folder / HELD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    handed = Handed(access, folder, descriptor)
    try:
        if accesses.write_secrets(access, folder / FILE):
            return handed
    except BaseException:
        handed.release()
        raise
    handed.release()
    return None


def place(cache: Cache, *, detached: bool = False) -> Path:
    """Return a folder of this user's own: in memory where there is such a file system, else in the cache.

    `detached`: it has to outlive this user's login.
    """
    name = f"launcher-{os.getuid()}"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for top in (runtime, MEMORY) if not detached else (MEMORY,) if outlives_logins() else ():
        if top.startswith("/") and (found := private(Path(top) / name)):
            return found
    if found := private(cache.root / "secrets"):
        return found
    raise LauncherError(
        f"there is no place for credentials: {cache.root / 'secrets'} belongs to somebody else, or others may enter it",
        hint="remove it, or point LAUNCHER_CACHE at a folder of your own",
    )


def outlives_logins() -> bool:
    """Tell whether what this user has in memory stays: systemd removes an ordinary user's at the last logout, unless
    that user may linger."""
    if not Path(MEMORY).is_dir():
        return False
    if os.getuid() < SYSTEM_UIDS or not Path("/run/systemd/users").is_dir():
        return True
    with contextlib.suppress(KeyError):
        return Path("/var/lib/systemd/linger", pwd.getpwuid(os.getuid()).pw_name).exists()
    return False


def private(folder: Path) -> Path | None:
    """Make a folder that only this user may enter; None where that can't be had, or something else stands there."""
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()  # /dev/shm belongs to all: somebody may have put a link or a folder there before
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return folder
    return None


@contextlib.contextmanager
def alone(top: Path) -> Iterator[None]:
    """Keep other clients of this user out, so that nobody sweeps a folder before it is held."""
    with open(top / "lock", "ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def sweep(top: Path) -> None:
    """Remove the credentials of attempts whose client and runner are both gone."""
    for held in top.glob(f"*/{HELD}"):
        with contextlib.suppress(OSError), held.open("r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(held.parent, ignore_errors=True)


def left_s(path: Path) -> float | None:
    """Return how many seconds credentials are still good for; None when nothing tells."""
    try:
        expires_at = read_secrets(str(path)).get("expires_at")
        return (
            datetime.fromisoformat(expires_at.replace("Z", "+00:00")).timestamp() - time.time() if expires_at else None
        )
    except (OSError, ValueError):
        return None


def pause_s(left: float | None) -> float:
    """Return when to look again: at least each minute, since a laptop that sleeps has no clock to wait by."""
    return LOOK_S if left is None else min(LOOK_S, max(1.0, left / 3))
