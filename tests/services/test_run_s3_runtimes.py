"""A bucket's credentials reach the runner in every runtime, whoever the user is, and never the command's variables."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher import records, store
from launcher.cache import Cache
from launcher.image.oci import Image
from launcher.store import keys
from launcher.store.access import Access
from launcher.store.objects import Store
from tests.object_stores import ObjectStore
from tests.patience import LONG_S
from tests.rootfs import tiny_image
from tests.services.podman_places import Place, lacks, public_python
from tests.services.test_apptainer_target import Site

pytestmark = pytest.mark.services

TELL = """
import json, os, pathlib
secrets = pathlib.Path("/run/launcher/secrets")
try:
    (secrets / "mine").touch()
    writable = True
except OSError:
    writable = False
told = {"environment": dict(os.environ), "folder": sorted(os.listdir(secrets)), "writable": writable}
place = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "told.json")
place.write_text(json.dumps(told))
checkpoint = pathlib.Path(os.environ["LAUNCHER_CHECKPOINT_DIR"], ".new")
checkpoint.write_text("state")
checkpoint.rename(checkpoint.with_name("state"))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("s3-cache"))


@pytest.fixture(scope="module")
def image(cache: Cache) -> Image:
    return tiny_image(cache, mount_points=True)


@pytest.fixture(params=["podman-root", "podman-user", "apptainer-root", "apptainer-user", "sandbox-user"])
def place(request: pytest.FixtureRequest, cache: Cache, image: Image) -> Iterator[tuple[Place, str]]:
    runtime, _, who = request.param.partition("-")
    if (reason := lacks()) if runtime == "podman" else not public_python():
        pytest.skip(reason if runtime == "podman" else "needs root, and a Python that everybody may run")
    if runtime == "apptainer":
        program = request.getfixturevalue("apptainer")
        made: Place = Site(image, cache.root, program, rootless=who == "user", form="folder")
    else:
        made = Place(image, cache.root, rootless=who == "user")
    yield made, runtime
    made.close()


def opened(s3: ObjectStore) -> Store:
    return store.open(Access(f"{s3.url}/lab", s3.settings), lambda: s3.credentials)


def test_the_runner_reads_them_and_the_command_is_told_nothing(place: tuple[Place, str], s3: ObjectStore) -> None:
    made, runtime = place
    run = f"20260304-050607-s3-{runtime[:6]}"
    told = {**made.told(run, ("python3", "-c", TELL), runtime, 1), "store": f"{s3.url}/lab"}
    (made.folder / "told.json").write_text(json.dumps(told))
    python = public_python() if made.rootless else sys.executable
    words = made.command(str(python), "-m", "tests.run_driver", str(made.folder / "told.json"))
    env = {**made.environment(), **s3.environment, "no_proxy": "127.0.0.1"}
    done = subprocess.run(words, env=env, cwd="/", capture_output=True, timeout=LONG_S)
    assert done.returncode == 0, done.stderr.decode()
    record = records.load(opened(s3), run)
    assert (record.state, record.complete, len(record.checkpoints)) == ("succeeded", True, 1)
    seen = json.loads(opened(s3).get(keys.output(run, 1, "told.json")))
    assert seen["folder"] == ["held", "store.json"] and seen["writable"] is False
    assert not [name for name in seen["environment"] if name.startswith(("AWS_", "SSL_", "no_proxy", "http_proxy"))]
    assert not [path for path in left(made.folder) if s3.secret.encode() in path.read_bytes()]


def left(folder: Path) -> Iterator[Path]:
    for name in ("cache/runs", "run", "home", "tmp"):
        for path in (folder / name).rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path
