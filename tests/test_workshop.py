"""Wheels from source: which sdist is chosen, when it is built, in what, and what is accepted."""

from __future__ import annotations

import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import IntegrityError, ResolveError
from launcher.indexes.http import Page
from launcher.indexes.pages import links
from launcher.indexes.settings import Indexes
from launcher.lock import Artifact, Inputs, Lock, Wheel
from launcher.lock.requirements import Asked
from launcher.progress import SILENT
from launcher.resolve.platform import platform
from launcher.resolve.sdist import build_system, order
from launcher.resolve.sdist_builds import Builds, builder_spec, check_builder, marked, offered, pins
from launcher.resolve.upgrade import KEEP, Upgrade
from launcher.resolve.workshop import Order, Saved
from launcher.spec.model import Build, CodeSpec, ImageSpec, Pip, Spec
from launcher.workshop import frontend
from launcher.workshop.wheels import check, missing
from tests.index_server import Index, serve
from tests.sdists import offer, sdist_bytes
from tests.wheels import wheel_bytes

HERE = platform("3.11.2", "glibc 2.36", "amd64")
IMAGE = ImageSpec(pip=Pip(requirements=("top",)), build=Build(packages=("top",), apt=("g++",)), apt=("jq",))
SPEC = Spec(name="x", image=IMAGE, code=CodeSpec(root=Path("/x")), run="true", file=Path("/x/experiment.yaml"))
ASKED = Asked(requirements=("top",))


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as running:
        for version in ("1.0", "1.5", "2.0", "3.0rc1"):
            offer(running, "top", version, {"pyproject.toml": '[build-system]\nrequires = ["x>=1"]\n'})
        yield running


def chosen(index: Index, cache: Cache, *lines: str, kept: str | None = None) -> tuple[Order, tuple[str, ...]]:
    return order("top", lines, HERE, Indexes(default=index.url), kept, cache, SILENT)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_newest_that_fits_is_taken(index: Index, cache: Cache, as_json: bool) -> None:
    index.as_json = as_json
    made, requires = chosen(index, cache, "top", "other>5")
    assert (made.version, made.backend, requires) == ("2.0", "setuptools.build_meta:__legacy__", ("x>=1",))
    assert made.sdist.sha256 == index.files["top"]["top-2.0.tar.gz"].sha256
    assert cache.find("artifacts", made.sdist.sha256)


@pytest.mark.parametrize(
    ("lines", "kept", "version"),
    [
        (("top<2",), None, "1.5"),
        (("top", "Top!=2.0"), None, "1.5"),
        (("top>=3.0rc1",), None, "3.0rc1"),
        (("top",), "1.0", "1.0"),
        (("top>1.2",), "1.0", "2.0"),
        (("top<2 ; python_version < '3'",), None, "2.0"),
    ],
)
def test_requirements_constraints_and_the_old_pin_decide(
    index: Index, cache: Cache, lines: tuple[str, ...], kept: str | None, version: str
) -> None:
    assert chosen(index, cache, *lines, kept=kept)[0].version == version


def test_a_yanked_sdist_is_passed_over(index: Index, cache: Cache) -> None:
    index.files["top"]["top-2.0.tar.gz"].yanked = True
    assert chosen(index, cache, "top")[0].version == "1.5"


def test_a_page_tells_which_python_a_file_is_for() -> None:
    html = '<a href="a-1.tar.gz" data-requires-python="&gt;=3.12">a</a><a href="b-1.tar.gz" data-yanked="">b</a>'
    found = links(Page(text=html, content_type="text/html", url="https://example.org/simple/a/"))
    assert found["a-1.tar.gz"][0].requires_python == ">=3.12"
    assert found["b-1.tar.gz"][0].yanked


def test_nothing_that_fits_is_told_with_what_there_is(index: Index, cache: Cache) -> None:
    with pytest.raises(ResolveError, match=r"no sdist of top fits `top>9`: the indexes have 1\.0, 1\.5, 2\.0, 3\.0rc1"):
        chosen(index, cache, "top>9")


def test_an_index_that_lies_about_a_source_is_found_out(index: Index, cache: Cache) -> None:
    index.files["top"]["top-2.0.tar.gz"].sha256 = "0" * 64
    with pytest.raises(IntegrityError, match=r"gave a wrong top-2\.0\.tar\.gz"):
        chosen(index, cache, "top")


def test_a_source_without_a_hash_is_refused(index: Index, cache: Cache) -> None:
    index.files["top"]["top-2.0.tar.gz"].sha256 = None
    with pytest.raises(ResolveError, match=r"no sha256 for top-2\.0\.tar\.gz"):
        chosen(index, cache, "top")


def test_sources_in_a_folder_count(index: Index, cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "top-4.0.tar.gz").write_bytes(sdist_bytes("top", "4.0", {}))
    found = Indexes(default=index.url, find_links=(str(tmp_path),))
    made, requires = order("top", ("top",), HERE, found, None, cache, SILENT)
    assert (made.version, requires) == ("4.0", ("setuptools>=40.8.0",))


def test_the_build_system_of_a_zip_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a-1.zip", "w") as archive:
        archive.writestr("a-1/deep/pyproject.toml", "no = toml = at all")
        archive.writestr(
            "a-1/pyproject.toml", '[build-system]\nrequires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"\n'
        )
    assert build_system(tmp_path / "a-1.zip", "a-1.zip")["build-backend"] == "flit_core.buildapi"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[build-system", "this is not TOML"),
        ("build-system = 1", "no list `requires`"),
        ("[build-system]\n", "PEP 518"),
    ],
)
def test_a_bad_pyproject_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a").write_bytes(sdist_bytes("a", "1", {"pyproject.toml": text}))
    with pytest.raises(ResolveError, match=words):
        build_system(tmp_path / "a", "a-1.tar.gz")


@dataclass
class Fake:
    """A workshop that gives a wheel of the index's own, and counts."""

    cache: Cache
    folder: Path
    more: tuple[str, ...] = ()
    builders: list[Lock] = field(default_factory=list)

    def build_requirements(self, order: Order, builder: Lock) -> tuple[str, ...]:
        return self.more

    def wheel(self, order: Order, builder: Lock) -> Wheel:
        self.builders.append(builder)
        path = self.folder / f"{order.name}-{order.version}-py3-none-linux_x86_64.whl"
        path.write_bytes(wheel_bytes(order.name, order.version))
        from launcher.digest import sha256_file

        sha256, size = sha256_file(path)
        self.cache.adopt("artifacts", sha256, path)
        return Wheel(
            name=order.name,
            version=order.version,
            filename=path.name,
            size=size,
            sha256=sha256,
            sdist=order.sdist.sha256,
            builder="b" * 64,
        )

    def containerfile(self, file: Path, platform: str) -> Saved:
        raise AssertionError


def lock_of(spec: Spec = SPEC, *wheels: Wheel, libc: str = "glibc 2.36", python: str | None = "3.11.2") -> Lock:
    image = spec.image
    made = Inputs(base=image.base, platform=image.platform, python=image.python, pip=image.pip.requirements)
    made = replace(made, build_apt=image.build.apt, build=image.build.packages)
    return Lock(inputs=made, suite="bookworm", architecture="amd64", python=python, libc=libc, wheels=wheels)


class Shop:
    """Builds with everything but the index made up; `specs` are those of the builders."""

    def __init__(self, index: Index, cache: Cache, folder: Path) -> None:
        self.index, self.cache, self.fake = index, cache, Fake(cache, folder)
        self.specs: list[Spec] = []

    def __call__(self, previous: Lock | None = None, upgrade: Upgrade = KEEP, spec: Spec = SPEC) -> tuple[Wheel, ...]:
        def resolver(inner: Spec) -> Lock:
            self.specs.append(inner)
            return lock_of(inner)

        builds = Builds(
            spec=spec, asked=ASKED, previous=previous, upgrade=upgrade, workshop=self.fake, resolver=resolver
        )
        indexes = Indexes(default=self.index.url)
        return builds.wheels("3.11.2", "glibc 2.36", "amd64", indexes, self.cache, SILENT)


@pytest.fixture
def shop(index: Index, cache: Cache, tmp_path: Path) -> Shop:
    return Shop(index, cache, tmp_path)


def test_what_was_built_is_not_built_again(shop: Shop, index: Index) -> None:
    [wheel] = shop()
    assert (wheel.version, len(shop.fake.builders)) == ("2.0", 1)
    offer(index, "top", "2.5", {})
    assert shop(lock_of(SPEC, wheel)) == (wheel,)
    assert len(shop.fake.builders) == 1


def test_it_is_built_again_when_something_of_it_changes(shop: Shop, index: Index) -> None:
    [wheel] = shop()
    other = replace(SPEC, image=replace(IMAGE, build=replace(IMAGE.build, apt=("g++", "zlib1g-dev"))))
    shop(lock_of(SPEC, wheel), spec=other)
    assert len(shop.fake.builders) == 2
    shop(replace(lock_of(SPEC, wheel), python="3.11.9"))
    assert len(shop.fake.builders) == 3
    offer(index, "top", "2.5", {})
    [newer] = shop(lock_of(SPEC, wheel), Upgrade(packages=frozenset({"top"})))
    assert newer.version == "2.5"
    shop.cache.path("artifacts", wheel.sha256).unlink()
    shop(lock_of(SPEC, wheel))
    assert len(shop.fake.builders) == 5


def test_the_builder_has_what_the_backend_needs(shop: Shop) -> None:
    shop.fake.more = ("ninja",)
    shop()
    assert [spec.image.pip.requirements for spec in shop.specs] == [("x>=1",), ("x>=1", "ninja")]
    assert shop.specs[0].image.apt == ("python3-dev", "jq", "g++")
    assert (shop.specs[0].image.python, shop.specs[0].image.build) == ("3.11", Build())


def test_a_named_base_is_taken_as_it_is() -> None:
    named = replace(SPEC, image=replace(IMAGE, build=replace(IMAGE.build, base="docker://example.org/cuda:12")))
    image = builder_spec(named, ("x",), HERE).image
    assert (image.base, image.apt, image.containerfile) == ("docker://example.org/cuda:12", ("g++",), None)


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        (lock_of(libc="glibc 2.41"), "built against glibc 2.41, and the image has only glibc 2.36"),
        (lock_of(python="3.13.5"), "built for Python 3.13.5, and the image has 3.11"),
        (lock_of(python=None), "built for Python None"),
    ],
)
def test_a_builder_that_does_not_fit_is_refused(lock: Lock, words: str) -> None:
    with pytest.raises(ResolveError, match=words):
        check_builder(lock, ORDER, "glibc 2.36")


SDIST = Artifact(name="top", version="1.0", filename="top-1.0.tar.gz", size=1, sha256="a" * 64)
ORDER = Order(name="top", version="1.0", sdist=SDIST, backend="b", backend_path=(), platform=HERE)


def test_what_was_built_is_what_uv_is_offered(shop: Shop, index: Index, cache: Cache) -> None:
    [wheel] = shop()
    assert pins([wheel]) == ("top==2.0",)
    with offered([wheel], Indexes(default=index.url, find_links=("/mine",)), cache) as places:
        folder = Path(places.find_links[0])
        assert places.find_links[1:] == ("/mine",)
        assert (folder / wheel.filename).read_bytes() == cache.path("artifacts", wheel.sha256).read_bytes()
    assert not folder.exists()
    told = replace(wheel, sdist=None, builder=None)
    assert marked([told], [wheel]) == (wheel,)


@pytest.mark.parametrize(
    ("filename", "words"),
    [
        ("top-1.0-cp311-cp311-linux_x86_64.whl", None),
        ("top-1.0-py3-none-any.whl", None),
        ("top-1.1-py3-none-any.whl", "of another name or version"),
        ("other-1.0-py3-none-any.whl", "of another name or version"),
        ("top-1.0-cp312-cp312-linux_x86_64.whl", "does not run on Python 3.11.2"),
        ("top-1.0-cp311-cp311-linux_aarch64.whl", "does not run on"),
        ("top.zip", "no wheel's name"),
    ],
)
def test_a_build_must_make_what_was_asked_for(tmp_path: Path, filename: str, words: str | None) -> None:
    (tmp_path / filename).touch()
    if words is None:
        check(ORDER, tmp_path / filename)
        return
    with pytest.raises(ResolveError, match=words):
        check(ORDER, tmp_path / filename)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory", "image.build.apt: [g++]"),
        ("x.c:3:10: fatal error: zlib.h: No such file or directory", "the header zlib.h"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'cmake'", "the program `cmake`"),
        ("/bin/sh: 1: nvcc: not found", "the program `nvcc`"),
        ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "no network"),
        ("Segmentation fault", "image.build.base"),
    ],
)
def test_what_is_missing_is_guessed_from_the_output(said: str, words: str) -> None:
    assert words in missing(said)


def test_the_frontend_calls_a_backend_in_the_tree(tmp_path: Path) -> None:
    """Run as in the container: with its own process, since it takes over the output."""
    import subprocess

    backend = (
        "def build_wheel(out, settings, metadata):\n    print('building')\n"
        "    open(out + '/a-1-py3-none-any.whl', 'w').close()\n    return 'a-1-py3-none-any.whl'\n"
    )
    (tmp_path / "a-1.tar.gz").write_bytes(sdist_bytes("a", "1", {"own/back.py": backend}))
    plan = {"sdist": str(tmp_path / "a-1.tar.gz"), "folder": str(tmp_path), "backend": "back", "backend_path": ["own"]}
    for hook, answer in (("requires", []), ("wheel", "a-1-py3-none-any.whl")):
        (tmp_path / "plan.json").write_text(json.dumps({**plan, "hook": hook}))
        done = subprocess.run([sys.executable, "-I", frontend.__file__, tmp_path / "plan.json"], capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert json.loads((tmp_path / "answer.json").read_text()) == answer
    assert (tmp_path / "out" / "a-1-py3-none-any.whl").exists()
    assert (tmp_path / "log").read_text() == "building\n"


def test_an_sdist_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../escaped"))
    (tmp_path / "a-1.tar.gz").write_bytes(out.getvalue())
    if not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python has no filters for archives; in the container there is nothing to harm")
    with pytest.raises(tarfile.OutsideDestinationError):
        frontend.unpacked(tmp_path / "a-1.tar.gz", tmp_path / "in")
    assert not (tmp_path / "escaped").exists()
