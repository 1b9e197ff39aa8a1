"""Containerfiles: what counts as their input, which engine builds them, and how a saved image is taken apart."""

from __future__ import annotations

import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.digest import sha256_bytes
from launcher.errors import FetchError, ResolveError, SpecError, TargetError, UsageError
from launcher.lock import Lock, dumps, loads
from launcher.lock.check import problems
from launcher.lock.containerfile import containerfile_digest, sources
from launcher.lock.ignored import ignored
from launcher.lock.inputs import inputs
from launcher.lock.model import Artifact, Base, Wheel
from launcher.progress import SILENT
from launcher.resolve.containerfile import resolve_containerfile
from launcher.resolve.upgrade import Upgrade
from launcher.resolve.workshop import Order, Saved
from launcher.spec.model import CodeSpec, ImageSpec, Spec
from launcher.workshop.containerfile import build_containerfile, chosen
from tests.bases import Made, made, python, system

TEXTS = {
    "FROM x\nCOPY a b /dst/\n": ["a", "b"],
    "COPY --chown=1:1 --chmod=755 a /dst\nADD c.tar /": ["a", "c.tar"],
    "COPY --from=stage a /dst": [],
    'COPY ["with space", "/dst"]': ["with space"],
    "COPY a \\\n  # a comment in between\n  b \\\n  /dst": ["a", "b"],
    "# COPY no /dst\nrun echo COPY no /dst\ncopy yes /dst": ["yes"],
    "ADD https://example.org/x.tar /x\nADD git@example.org:x.git /y": [],
    "RUN --mount=type=bind,source=src,target=/src make": ["."],
    "RUN --mount=type=bind,from=other,target=/src make": [],
    "RUN <<EOF\nCOPY no /dst\nEOF\nCOPY yes /dst": ["yes"],
    "COPY <<EOF /etc/motd\nhello\nEOF\nCOPY yes /dst": ["yes"],
}


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_copied_is_found(text: str) -> None:
    assert list(sources(text)) == TEXTS[text]


IGNORED = {
    "*.log": {"a.log": True, "sub/a.log": False},
    "**/*.log": {"a.log": True, "sub/deep/a.log": True, "a.logs": False},
    "/build/": {"build/x/y": True, "other/build/x": False},
    "data\n!data/keep": {"data/x": True, "data/keep": False, "data/keep/x": False},
    "# no\n\na?[0-9]": {"ab1": True, "abc": False},
    "*": {"x": True, "x/y": True},
    "**": {"x/y": True},
}


@pytest.mark.parametrize("text", IGNORED)
def test_ignore_files_are_read_as_engines_do(tmp_path: Path, text: str) -> None:
    (tmp_path / ".dockerignore").write_text(text)
    rules = ignored(tmp_path)
    assert {path: rules.match(path) for path in IGNORED[text]} == IGNORED[text]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "image"
    (folder / "src").mkdir(parents=True)
    for name in ("src/a.py", "src/b.log", "elsewhere", "script"):
        (folder / name).write_text(name)
    (folder / ".dockerignore").write_text("**/*.log\n")
    (folder / "Containerfile").write_text("FROM x\nCOPY src script /dst/\n")
    return folder / "Containerfile"


def test_the_digest_hangs_on_what_is_copied_and_on_nothing_else(file: Path) -> None:
    first = containerfile_digest(file)
    assert len(first) == 64
    (file.parent / "src" / "b.log").write_text("ignored")
    (file.parent / "elsewhere").write_text("not copied")
    os.utime(file.parent / "src" / "a.py", (1, 1))
    (file.parent / "src" / "a.py").chmod(0o600)
    assert containerfile_digest(file) == first
    seen = {first}
    (file.parent / "script").chmod(0o755)
    seen.add(containerfile_digest(file))
    (file.parent / "src" / "a.py").write_text("changed")
    seen.add(containerfile_digest(file))
    (file.parent / "src" / "link").symlink_to("a.py")
    seen.add(containerfile_digest(file))
    (file.parent / ".dockerignore").write_text("")
    seen.add(containerfile_digest(file))
    file.write_text("FROM x\nCOPY ${WHAT} /dst/\n")
    seen.add(containerfile_digest(file))
    (file.parent / "elsewhere").write_text("a variable may mean anything")
    seen.add(containerfile_digest(file))
    assert len(seen) == 7


def test_what_can_not_be_read_is_told(file: Path) -> None:
    file.write_bytes(b"FROM \xff")
    with pytest.raises(SpecError, match="Containerfile can't be read"):
        containerfile_digest(file)


def spec_of(file: Path) -> Spec:
    image = ImageSpec(containerfile=file)
    return Spec(
        name="x", image=image, code=CodeSpec(root=file.parent), run="true", file=file.parent / "experiment.yaml"
    )


def test_a_lock_tells_when_its_containerfile_changed(file: Path, cache: Cache) -> None:
    spec = spec_of(file)
    made = inputs(spec)
    assert made.base == ""
    lock = Lock(inputs=made, suite="bookworm", architecture="amd64", python=None, libc="glibc 2.36")
    assert loads(dumps(lock)).inputs == made
    assert problems(lock, spec) == ()
    (file.parent / "script").write_text("changed")
    [problem] = problems(lock, spec)
    assert "the Containerfile, or a file that it copies, has changed" in problem.message


def engine(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("LAUNCHER_ENGINE", raising=False)
    return folder


def test_the_engine_that_answers_is_taken(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine(programs, "docker", "echo Cannot connect >&2; exit 1")
    engine(programs, "podman", "exit 0")
    assert chosen() == "podman"
    monkeypatch.setenv("LAUNCHER_ENGINE", "docker")
    with pytest.raises(TargetError, match="docker: Cannot connect"):
        chosen()
    monkeypatch.setenv("LAUNCHER_ENGINE", "kaniko")
    with pytest.raises(UsageError, match="no engine `kaniko`"):
        chosen()


def test_a_saved_image_is_taken_apart(programs: Path, file: Path, cache: Cache) -> None:
    """Docker writes a layer that is there twice as a link to the first."""
    parts = {"c.json": b"{}", "one/layer.tar": b"first"}
    with tarfile.open(programs / "saved.tar", "w") as archive:
        listed = [{"Config": "c.json", "Layers": ["one/layer.tar", "two/layer.tar"]}]
        for name, data in {"manifest.json": json.dumps(listed).encode(), **parts}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("two/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../one/layer.tar"
        archive.addfile(link)
    engine(
        programs,
        "docker",
        f"""case $1 in
        build) while [ "$1" != --iidfile ]; do shift; done; echo sha256:0123456789abcdef > "$2";;
        save) cp {programs}/saved.tar "$3";;
        image) echo "$@" > {programs}/removed;;
        esac""",
    )
    saved = build_containerfile(file, "linux/amd64", cache, SILENT)
    assert saved.config == Artifact(
        name="Containerfile",
        version="0123456789ab",
        filename="Containerfile-config.json",
        size=2,
        sha256=sha256_bytes(b"{}"),
    )
    assert [layer.sha256 for layer in saved.layers] == [sha256_bytes(b"first")] * 2
    assert cache.find("artifacts", saved.layers[0].sha256)
    assert (programs / "removed").read_text() == "image rm --no-prune sha256:0123456789abcdef\n"


def test_a_failed_build_tells_its_last_words(programs: Path, file: Path, cache: Cache) -> None:
    engine(programs, "docker", '[ "$1" = version ] || { echo "step 3: no such thing" >&2; exit 1; }')
    with pytest.raises(ResolveError, match="Containerfile can't be built by docker:\n  step 3: no such thing"):
        build_containerfile(file, "linux/amd64", cache, SILENT)


@dataclass
class Engine:
    """A workshop that gives one image after the other, and counts."""

    cache: Cache
    folder: Path
    images: list[Made]
    built: int = 0

    def containerfile(self, file: Path, platform: str) -> Saved:
        image = self.images[self.built]
        self.built += 1
        artifacts = []
        for number, data in enumerate([image.config, *image.blobs.values()]):
            if number == 0 or data != image.config:
                (self.folder / "part").write_bytes(data)
                sha256 = sha256_bytes(data)
                self.cache.adopt("artifacts", sha256, self.folder / "part")
                one = {"filename": f"part-{number}", "size": len(data), "sha256": sha256}
                artifacts.append(Artifact(name="Containerfile", version="1", **one))  # type: ignore[arg-type]
        return Saved(config=artifacts[0], layers=tuple(artifacts[1:]))

    def build_requirements(self, order: Order, builder: Lock) -> tuple[str, ...]:
        raise AssertionError

    def wheel(self, order: Order, builder: Lock) -> Wheel:
        raise AssertionError


@pytest.fixture
def workshop(cache: Cache, tmp_path: Path) -> Engine:
    images = [made(system(mark=str(n).encode()), python(), how=("plain", "gzip")) for n in range(3)]
    return Engine(cache, tmp_path, images)


def resolved(file: Path, workshop: Engine | None, cache: Cache, lock: Lock | None = None, all: bool = False) -> Base:
    image = ImageSpec(containerfile=file)
    upgrade = Upgrade(all=all)
    return resolve_containerfile(image, lock, upgrade, workshop, cache=cache, progress=SILENT).base


def lock_with(base: Base, file: Path) -> Lock:
    made = inputs(spec_of(file))
    return Lock(inputs=made, suite="bookworm", architecture="amd64", python=None, libc="glibc 2.36", base=base)


def test_it_is_built_once_and_its_facts_are_read(file: Path, workshop: Engine, cache: Cache) -> None:
    base = resolved(file, workshop, cache)
    assert (base.kind, base.system, len(base.layers)) == ("containerfile", "debian", 2)
    assert [layer.media_type.rpartition(".")[2] for layer in base.layers] == ["tar", "tar+gzip"]
    assert resolved(file, workshop, cache) == base, "another spec with the same Containerfile has the same base"
    assert resolved(file, None, cache, lock_with(base, file)) == base
    assert workshop.built == 1
    assert {artifact.sha256 for artifact in lock_with(base, file).executed} == set(workshop.images[0].blobs)


def test_it_is_built_again_when_it_changed_or_all_is_upgraded(file: Path, workshop: Engine, cache: Cache) -> None:
    lock = lock_with(resolved(file, workshop, cache), file)
    assert resolved(file, workshop, cache, lock, all=True) != lock.base
    (file.parent / "script").write_text("changed")
    assert resolved(file, workshop, cache, lock) != lock.base
    assert workshop.built == 3


def test_what_is_lost_is_told_and_not_built_again(file: Path, workshop: Engine, cache: Cache) -> None:
    lock = lock_with(resolved(file, workshop, cache), file)
    assert lock.base is not None
    cache.path("artifacts", lock.base.layers[0].sha256).unlink()
    with pytest.raises(FetchError, match=r"part-1|layer-1") as caught:
        resolved(file, workshop, cache, lock)
    assert "only restored" in str(caught.value.problems[0].hint)
    assert workshop.built == 1
    with pytest.raises(ResolveError, match="has to be built first"):
        resolved(file, None, cache)
