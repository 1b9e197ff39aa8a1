"""Real Debian packages over a real base: apt's own choice, dpkg's own verdict, and the programs run.

The base is our own Debian with Python from this machine's mirror, served by a registry on loopback. apt is asked what
it would install with the base's dpkg status as its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.digest import canonical_json, sha256_bytes
from launcher.image import Image, build
from launcher.image.base import BaseTree, read_tree
from launcher.lock import Lock, load
from tests import bases
from tests.services.test_apt_mirror import apt_state, apts
from tests.services.test_image_engines import launcher

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is the judge"),
]

BASE = 'name: base\nimage: {base: "debian:bookworm", python: "3.11"}\nrun: "true"\n'
ASKED = ("jq", "git", "openssh-client", "nano", "vim", "libsndfile1", "passwd", "dbus", "g++")
SPEC = """
name: over
image:
  base: {reference}
  python: "3.11"
  apt: [{apt}]
run: [sh, -c, "{{script}}"]
params: {{script: "true"}}
"""
SCRIPT = """
set -e
echo "[1,22]" | jq -r .[1]
git init -q /tmp/r && cd /tmp/r && git -c user.name=a -c user.email=a@example.org commit -q --allow-empty -m kept
git log --format=%s
dpkg --audit
dpkg --verify
dpkg -l | grep -c ^ii
readlink -f /usr/bin/editor
python3 -c 'import ctypes.util as u, ctypes; n = u.find_library("sndfile"); ctypes.CDLL(n); print(n)'
id messagebus | sed 's/(.*//'
ssh-keygen -q -t ed25519 -N '' -f /tmp/key && ssh-keygen -lf /tmp/key | grep -o ED25519
echo 'int main(){return 7;}' > /tmp/a.cc && c++ /tmp/a.cc -o /tmp/a; /tmp/a || echo code $?
"""


CHANGED = {
    *("etc/passwd", "etc/group", "etc/shells", "etc/ld.so.cache", "var/lib/shells.state"),
    "opt/env/pyvenv.cfg",  # the base is one of ours, with an environment of its own
}


@dataclass(frozen=True)
class Over:
    """A project over a base: its folder, its lock, its image, and the base's own tree."""

    folder: Path
    lock: Lock
    image: Image
    base: BaseTree


@pytest.fixture(scope="module")
def over(tmp_path_factory: pytest.TempPathFactory, shared_cache: Cache) -> Iterator[Over]:
    folder, own = tmp_path_factory.mktemp("over"), tmp_path_factory.mktemp("base")
    (own / "experiment.yaml").write_text(BASE)
    said(launcher("lock", cwd=own, cache=shared_cache))
    base = build(load(own / "experiment.lock"), shared_cache)
    with bases.serve() as registry:
        reference = registry.push("1", pushed(base))
        (folder / "experiment.yaml").write_text(SPEC.format(reference=reference, apt=", ".join(ASKED)))
        said(launcher("lock", cwd=folder, cache=shared_cache))
    lock = load(folder / "experiment.lock")
    tree = read_tree([layer.path for layer in base.layers])
    yield Over(folder, lock, build(lock, shared_cache), tree)


def pushed(image: Image) -> bases.Made:
    """Make what a registry holds of an image, its layers as they are."""
    layers = [layer.path.read_bytes() for layer in image.layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{bases.OCI}manifest.v1+json",
        "config": bases.descriptor(image.config, f"{bases.OCI}config.v1+json"),
        "layers": [bases.descriptor(data, bases.TYPES["plain"]) for data in layers],
    }
    blobs = {sha256_bytes(data): data for data in [image.config, *layers]}
    return bases.Made(manifest=canonical_json(manifest), config=image.config, blobs=blobs)


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_choice_is_apts(over: Over, tmp_path: Path) -> None:
    options = apt_state(tmp_path, "bookworm")
    subprocess.run(["apt-get", *options, "update", "-qq"], check=True, capture_output=True)
    (tmp_path / "status").write_bytes(over.base.read("var/lib/dpkg/status"))
    assert {deb.name: deb.version for deb in over.lock.debs} == apts(options, ASKED)
    assert {deb.group for deb in over.lock.debs} == {"apt"} and len(over.lock.debs) > 50


def test_the_base_is_below_and_unchanged(over: Over) -> None:
    base = over.lock.base
    assert base is not None and base.system == "debian"
    assert [layer.diff_id for layer in over.image.layers[: len(base.layers)]] == [x.diff_id for x in base.layers]
    shown = read_tree([layer.path for layer in over.image.layers])
    before, after = over.base.read("var/lib/dpkg/status"), shown.read("var/lib/dpkg/status")
    assert after.startswith(before)
    changed = {p for p, e in over.base.entries.items() if e.kind == "file" and shown.read(p) != over.base.read(p)}
    assert {path for path in changed if not path.startswith("var/lib/dpkg/")} <= CHANGED


def test_dpkg_finds_nothing_wrong_and_programs_run(over: Over, shared_cache: Cache) -> None:
    done = launcher("run", "--runtime", "sandbox", "-p", f"script={SCRIPT}", cwd=over.folder, cache=shared_cache)
    count = len(over.lock.debs) + over.base.read("var/lib/dpkg/status").count(b"\nPackage: ") + 1
    expected = ["22", "kept", str(count), "/usr/bin/nano", "libsndfile.so.1", "uid=100", "ED25519", "code 7"]
    assert [line.strip() for line in said(done).splitlines()] == expected


def test_the_lock_is_kept_and_an_image_is_made_again(over: Over, shared_cache: Cache, tmp_path: Path) -> None:
    shutil.copytree(over.folder, tmp_path / "again")
    done = launcher("build", "--frozen", "--json", cwd=tmp_path / "again", cache=shared_cache)
    assert json.loads(said(done))["id"] == f"sha256:{over.image.id}"
