"""Launcher itself for a login node and for nodes: a virtual environment below the shared folder, known by its digest.

    bin/python -> the site's own interpreter
    lib/pythonX.Y/site-packages/    launcher, obstore, submitit and what that needs

Nothing is installed there: an environment of PEP 405 is a file that names its interpreter, and packages are files. Its
digest is that of launcher's own files, the versions of the others, and what the site is like, so a new launcher comes
beside the old one, which running tasks go on with.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cache import Cache
from launcher.data import data_path
from launcher.digest import canonical_json, sha256_bytes, sha256_file
from launcher.progress import SILENT, Progress
from launcher.remote.contact import Site
from launcher.remote.items import Item, Link
from launcher.remote.tool_packages import Package, files_of, packages

if TYPE_CHECKING:
    from launcher.profiles.model import Profile
    from launcher.remote.items import Tree

FORMAT = 1
USUAL = "usual-tools"  # kind of the notes on where they lay
SHELF = "tools"  # as launcher.profiles.places has it
OWN = Path(__file__).parents[1]
DATA = ("images", "slurm")
NOT_SENT = ("__pycache__", "dev")  # byte code, and the cluster of the tests
CLIENT = ("_data", "cli", "registry", "resolve", "vault", "workshop")  # rooms that no task and no login node enters


def python(tools: str) -> str:
    """Return the interpreter of a folder of tools: `PYTHON -I -m launcher.node ORDER` is how things begin there."""
    return f"{tools}/bin/python"


def path_of(site: Site, cache: Cache) -> str:
    """Return where this launcher's tools lie for such a site, relative to the shared folder."""
    told = [FORMAT, own_digest(cache), [[one.name, one.version] for one in packages(site)], interpreter(site)]
    return f"{SHELF}/{sha256_bytes(canonical_json(told))[:32]}"


def usual(profile: Profile, cache: Cache) -> str | None:
    """Return the folder in which this launcher's tools lay at the last visit to a target; None before the first."""
    found = cache.note(USUAL, visited(profile, cache))
    return found if isinstance(found, str) else None


def remember(profile: Profile, folder: str, cache: Cache) -> None:
    """Keep where the tools lie on a target, absolute."""
    if usual(profile, cache) != folder:
        cache.write_note(USUAL, visited(profile, cache), folder)


def visited(profile: Profile, cache: Cache) -> str:
    told = [own_digest(cache), profile.host, profile.shared, profile.python, list(profile.setup)]
    return sha256_bytes(canonical_json(told))


def tools(site: Site, cache: Cache, progress: Progress = SILENT) -> Item:
    """Return the tools as an item; its content is gathered only where the site hasn't got it.

    Raises FetchError when a package for another kind of machine is nowhere to be had.
    """
    path = path_of(site, cache)
    tree: Tree = {} if path in site.there else environment(site, packages(site), cache, progress)
    return Item(path=path, source=tree, tree=True)


def interpreter(site: Site) -> list[object]:
    return [site.executable, list(site.python[:2]), site.machine, list(site.libc[:1])]


def environment(site: Site, wanted: tuple[Package, ...], cache: Cache, progress: Progress) -> Tree:
    """Return the files of a virtual environment that holds launcher and these packages."""
    version = ".".join(map(str, site.python[:2]))
    home = site.executable.rpartition("/")[0]
    config = f"home = {home}\ninclude-system-site-packages = false\nversion = {'.'.join(map(str, site.python))}\n"
    tree: dict[str, Path | bytes | Link] = {"pyvenv.cfg": config.encode()}
    tree |= {"bin/python": Link(target=site.executable), "bin/python3": Link(target="python")}
    packed = f"lib/python{version}/site-packages"
    tree |= {f"{packed}/{name}": path for name, path in own_files()}
    for one in wanted:
        tree |= {f"{packed}/{name}": content for name, content in files_of(one, site, cache, progress)}
    return tree


def own_files() -> Iterator[tuple[str, Path]]:
    """Yield (path in site-packages, file) of launcher, with its data where a wheel has them."""
    for path in sorted(OWN.rglob("*")):
        if path.is_file() and path.suffix != ".pyc" and path.relative_to(OWN).parts[0] not in CLIENT:
            yield f"launcher/{path.relative_to(OWN).as_posix()}", path
    for folder in DATA:
        home = data_path(folder)
        for path in sorted(home.rglob("*")):
            name = path.relative_to(home)
            if path.is_file() and not set(NOT_SENT) & set(name.parts):
                yield f"launcher/_data/{folder}/{name.as_posix()}", path


def own_digest(cache: Cache) -> str:
    """Return the digest of launcher's files; computed once for each look (sizes, times) that they have."""
    files = list(own_files())
    looks = [[name, info.st_size, info.st_mtime_ns] for name, path in files for info in [path.stat()]]
    key = sha256_bytes(canonical_json(looks))
    if isinstance(noted := cache.note(SHELF, key), str):
        return noted
    digest = sha256_bytes(canonical_json([[name, sha256_file(path)[0]] for name, path in files]))
    cache.write_note(SHELF, key, digest)
    return digest
