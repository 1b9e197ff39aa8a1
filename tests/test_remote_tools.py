"""Launcher for a site: packages that fit its Python, its processor and its C library, and one folder per digest."""

from __future__ import annotations

import ast
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import FetchError
from launcher.process import run
from launcher.profiles.model import Profile
from launcher.progress import SILENT
from launcher.remote import tools as tool_rooms
from launcher.remote.contact import Site, contact
from launcher.remote.delivery import prepare
from launcher.remote.items import Link
from launcher.remote.tool_packages import Package, choose, files_of, packages, platforms, tags
from launcher.remote.tools import environment, path_of, tools
from tests.far import Far
from tests.wheels import wheel_bytes

SITE = Site(
    where="login.example.org",
    python=(3, 12, 1),
    executable="/usr/bin/python3.12",
    machine="x86_64",
    libc=("glibc", "2.28"),
    node="login1",
    user="ada",
    uid=2001,
    shared="/scratch/ada",
    writable=True,
    free_bytes=None,
    there=frozenset(),
)
OLD_NAMES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_FIND_LINKS", "UV_EXTRA_INDEX_URL", "UV_INDEX")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A find-links folder, and no index at all."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in OLD_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def offer(folder: Path, filename: str, content: bytes = b"built = 1\n") -> None:
    name, version = filename.split("-")[:2]
    (folder / filename).write_bytes(wheel_bytes(name, version, {f"{name}/__init__.py": content}))


def test_an_environment_is_one_of_pep_405(cache: Cache) -> None:
    tree = environment(SITE, packages(SITE), cache, SILENT)
    assert tree["pyvenv.cfg"] == b"home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.12.1\n"
    assert tree["bin/python"] == Link(target="/usr/bin/python3.12")
    packed = "lib/python3.12/site-packages"
    for name in ("launcher/node/__main__.py", "launcher/_data/images/debian.toml", "obstore/__init__.py"):
        assert f"{packed}/{name}" in tree
    assert f"{packed}/submitit/__init__.py" in tree and f"{packed}/typing_extensions.py" in tree
    assert not [name for name in tree if name.endswith(".pyc") or "/dev/" in name or ".." in name]


def test_a_site_with_docker_gets_what_talks_to_it(cache: Cache, tmp_path: Path) -> None:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    libc = (platform.libc_ver()[0], platform.libc_ver()[1])
    here = replace(SITE, python=sys.version_info[:3], libc=libc, machine=platform.machine(), runtime="docker")
    packed = f"lib/python{own}/site-packages/"
    for name, content in environment(here, packages(here), cache, SILENT).items():
        if name.startswith(packed) and not isinstance(content, Link):
            place = tmp_path / name.removeprefix(packed)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import docker; print(docker.__file__)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path)), done.stderr
    assert "docker" not in [one.name for one in packages(SITE)]


def test_the_digest_tells_sites_and_versions_apart(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    own = path_of(SITE, cache)
    assert path_of(replace(SITE, node="login2", user="bob", python=(3, 12, 9)), cache) == own
    others = [
        replace(SITE, python=(3, 13, 0)),
        replace(SITE, executable="/opt/python3.12"),
        replace(SITE, machine="aarch64"),
        replace(SITE, libc=("", "")),
    ]
    assert len({own, *(path_of(other, cache) for other in others)}) == 5
    monkeypatch.setattr(tool_rooms, "own_digest", lambda cache: "another launcher")
    assert path_of(SITE, cache) != own


def test_where_tools_lay_is_known_until_launcher_changes(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Profile(name="box", kind="ssh", host="box.example.org", shared="~/.launcher")
    assert tool_rooms.usual(box, cache) is None
    tool_rooms.remember(box, "/home/ada/.launcher/tools/x", cache)
    assert tool_rooms.usual(box, cache) == "/home/ada/.launcher/tools/x"
    assert tool_rooms.usual(replace(box, host="other.example.org"), cache) is None
    monkeypatch.setattr(tool_rooms, "own_digest", lambda _: "another launcher")
    assert tool_rooms.usual(box, cache) is None


def test_nothing_is_gathered_for_a_site_that_has_it(cache: Cache) -> None:
    there = replace(SITE, there=frozenset([path_of(SITE, cache)]))
    assert tools(there, cache).source == {}
    assert tools(SITE, cache).source != {}


def test_platforms_are_those_of_the_c_library() -> None:
    found = platforms(replace(SITE, libc=("glibc", "2.17")))
    assert found[:3] == ["manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_16_x86_64"]
    assert found[-1] == "linux_x86_64"
    assert platforms(replace(SITE, libc=("", ""), machine="aarch64")) == [
        "musllinux_1_2_aarch64",
        "musllinux_1_1_aarch64",
    ]


@pytest.mark.parametrize(
    ("site", "chosen"),
    [
        (SITE, "obstore-0.12.1-cp311-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"),
        (replace(SITE, machine="aarch64"), "obstore-0.12.1-cp311-abi3-manylinux_2_24_aarch64.whl"),
        (replace(SITE, python=(3, 10, 4)), "obstore-0.9.0-cp310-cp310-manylinux_2_17_x86_64.whl"),
        (replace(SITE, libc=("", "")), "obstore-0.12.1-cp311-abi3-musllinux_1_2_x86_64.whl"),
        (replace(SITE, machine="aarch64", libc=("glibc", "2.17")), None),
    ],
)
def test_the_newest_wheel_that_fits_is_chosen(site: Site, chosen: str | None) -> None:
    offered = [
        ("obstore-0.12.1-cp311-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "1"),
        ("obstore-0.12.1-cp311-abi3-manylinux_2_24_aarch64.whl", "2"),
        ("obstore-0.12.1-cp311-abi3-musllinux_1_2_x86_64.whl", "3"),
        ("obstore-0.9.0-cp310-cp310-manylinux_2_17_x86_64.whl", "4"),
        ("obstore-0.5.0-cp39-abi3-manylinux_2_17_aarch64.whl", "5"),  # too old for us
        ("obstore-0.13.0-cp310-abi3-manylinux_2_17_x86_64.whl", "6"),  # newer than ours: not tried by anybody
        ("obstore-0.12.0rc1-cp310-abi3-manylinux_2_17_x86_64.whl", "7"),
        ("obstore-0.12.1.tar.gz", "8"),
    ]
    package = Package(name="obstore", version="0.12.1")
    if chosen is None:
        with pytest.raises(FetchError, match="has a wheel of obstore that fits"):
            choose(package, tags(site), offered)
    else:
        assert choose(package, tags(site), offered).filename == chosen


def test_a_wheel_for_another_processor_comes_from_the_index_once(wheels: Path, cache: Cache) -> None:
    arm = replace(SITE, machine="aarch64")
    offer(wheels, "obstore-0.9.0-cp39-abi3-manylinux_2_17_aarch64.whl")
    offer(wheels, "obstore-0.9.0-cp39-abi3-manylinux_2_17_x86_64.whl", b"built = 2\n")
    [package] = [one for one in packages(arm) if one.name == "obstore"]
    found = dict(files_of(package, arm, cache, SILENT))
    assert found["obstore/__init__.py"] == b"built = 1\n"
    shutil.rmtree(wheels)
    assert dict(files_of(package, arm, cache, SILENT)) == found, "from the cache, with no index at all"


def test_a_wheel_that_is_nowhere_says_what_to_do(wheels: Path, cache: Cache) -> None:
    with pytest.raises(FetchError, match=r"login.example.org needs obstore for Python 3.12.1, riscv64") as raised:
        environment(replace(SITE, machine="riscv64"), packages(SITE), cache, SILENT)
    assert "find-links folder" in str(raised.value)


def test_an_old_python_gets_a_reader_of_toml() -> None:
    names = [one.name for one in packages(replace(SITE, python=(3, 10, 0)))]
    assert "tomli" in names and "tomli" not in [one.name for one in packages(SITE)]


def pythons() -> list[str]:
    """Return two interpreters of this machine of different versions, where it has them: the oldest and the newest."""
    from launcher.indexes.uv import uv_binary

    said = run([uv_binary(), "python", "list", "--only-installed", "--offline", "--no-config"], check=False)
    found: dict[str, str] = {}
    for line in said.stdout.decode().splitlines():
        name, path = line.split()[:2]
        version = name.split("-")[1]
        if name.startswith("cpython-3.1") and int(version.split(".")[1]) >= 11:
            found.setdefault(version.rpartition(".")[0], path)
    ordered = [found[version] for version in sorted(found, key=lambda text: int(text.split(".")[1]))]
    return [*dict.fromkeys((ordered[0], ordered[-1]))]


def test_tools_work_for_other_pythons_than_this_one(tmp_path: Path, cache: Cache) -> None:
    """Whatever interpreters this machine has: each gets a folder in which launcher and its packages are imported."""
    tried = pythons()
    assert tried
    for number, path in enumerate(tried):
        profile = Profile(name="x", shared=str(tmp_path / "shared"), python=path)
        site, folder = prepare(Far(), profile, [], cache)
        code = (
            "import launcher.node.main, launcher.slurm.agent, launcher.image.sif, obstore, submitit, sys;"
            "print(sys.version_info[:2], launcher.__file__, obstore.__version__, launcher.__cached__)"
        )
        done = subprocess.run([f"{folder}/bin/python", "-I", "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{site.python[:2]} {folder}/lib/"), done.stdout
        compiled = list(Path(folder).glob("lib/*/site-packages/launcher/__pycache__/*.pyc"))
        assert compiled and compiled[0].read_bytes()[4:8] == b"\1\0\0\0", "unchecked: no look at the source (PEP 552)"
        assert len(list((tmp_path / "shared/tools").iterdir())) == number + 1


def test_a_virtual_environments_own_interpreter_is_not_taken(tmp_path: Path) -> None:
    """It may be removed any day; the one below it is named."""
    subprocess.run(["python3", "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    site = contact(Far(), Profile(name="x", shared=str(tmp_path), python=str(tmp_path / "env/bin/python")))
    assert not site.executable.startswith(str(tmp_path))


def test_no_room_that_is_sent_enters_one_that_is_not() -> None:
    """At the top of a module; inside functions only what a person's own machine does."""
    for name, path in tool_rooms.own_files():
        if name.endswith(".py") and not name.startswith(("launcher/__main__", "launcher/_data")):
            for node in ast.parse(path.read_bytes()).body:
                imported = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                assert imported.split(".")[1:2] not in [[room] for room in tool_rooms.CLIENT], f"{name}: {imported}"
