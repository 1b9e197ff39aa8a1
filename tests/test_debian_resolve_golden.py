"""What can't be resolved, or must not be, is refused with exactly the message in tests/golden/debian.

UPDATE_GOLDEN=1 writes the messages anew; read the difference before it is committed.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import LauncherError
from launcher.progress import SILENT
from launcher.resolve.debian import resolve_debian
from tests.debian_mirror import BASE, MirrorTree, Signer, Stanza, package
from tests.test_debian_resolve import Upgrade

GOLDEN = Path(__file__).parent / "golden" / "debian"
Spoil = Callable[[MirrorTree, Path], None]


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Signer, Signer]]:
    folder = tmp_path_factory.mktemp("gpg")
    pair = (Signer.make(folder / "good", "mirror"), Signer.make(folder / "other", "stranger"))
    yield pair
    for signer in pair:
        signer.stop()


def refused(work: Path, signers: tuple[Signer, Signer], base: str, apt: tuple[str, ...], python: str | None) -> str:
    with pytest.raises(LauncherError) as caught:
        resolve_debian(
            base=base,
            apt=apt,
            python=python,
            architecture="amd64",
            previous=(),
            upgrade=Upgrade(),
            cache=Cache(work / "cache"),
            progress=SILENT,
        )
    text = str(caught.value).replace(str(work), "/WORK")
    for signer in signers:
        text = text.replace(signer.fingerprint()[-16:], f"KEY-OF-{signer.name.upper()}")
    text = re.sub(r"\d{4}-\d\d-\d\d( \d\d:\d\d)?", "DATE", text)
    text = re.sub(r"\d+ bytes", "SIZE bytes", text)
    return f"{caught.type.__name__}\n{re.sub(r'sha256 [0-9a-f]{12}', 'sha256 DIGEST', text)}\n"


def check(name: str, text: str) -> None:
    expected = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.parent.mkdir(parents=True, exist_ok=True)
        expected.write_text(text)
    assert text == expected.read_text()


def prepare(work: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> MirrorTree:
    (work / "keys.gpg").write_bytes(signer.public())
    source = f"deb [signed-by={work}/keys.gpg check-valid-until=yes] file://{work}/mirror bookworm main\n"
    (work / "sources.list").write_text(source)
    monkeypatch.setenv("LAUNCHER_APT_SOURCES", str(work / "sources.list"))
    return MirrorTree(work / "mirror", signer)


CLASHES: dict[str, tuple[list[Stanza], tuple[str, ...]]] = {
    "unknown-package": ([package("ffmpeg"), package("graphviz")], ("ffmpg", "graphvis", "quantum-flux")),
    "unknown-version": ([package("git", "1:2.39-1"), package("git", "1:2.40-1")], ("git=1:2.38-1",)),
    "not-a-request": ([], ("Git", "git>=2", "a b")),
    "two-versions-asked": ([package("git")], ("git=1.0", "git=2.0")),
    "missing-dependency": ([package("git", Depends="libgone (>= 2)")], ("git",)),
    "dependency-too-old": ([package("git", Depends="libfoo (>= 2)"), package("libfoo", "1.4-1")], ("git",)),
    "deep-dependency": (
        [package("top", Depends="middle"), package("middle", "3", Depends="low (>= 2) | lower"), package("low", "1")],
        ("top",),
    ),
    "conflict": ([package("aa", Conflicts="bb"), package("bb", "2.0")], ("aa", "bb")),
    "conflict-through-a-dependency": (
        [package("aa", Breaks="lib (<< 3)"), package("cc", "2.0", Depends="lib"), package("lib", "2.9-1")],
        ("aa", "cc"),
    ),
    "conflict-with-a-virtual-package": (
        [package("mta1", Provides="mail", Conflicts="mail"), package("mta2", Provides="mail", Conflicts="mail")],
        ("mta1", "mta2"),
    ),
    "conflict-with-the-base": ([package("odd", Conflicts="libc6")], ("odd",)),
    "two-versions-needed": (
        [
            package("aa", Depends="lib (= 1)"),
            package("bb", Depends="lib (= 2)"),
            package("lib", "1"),
            package("lib", "2"),
        ],
        ("aa", "bb"),
    ),
    "two-clashes-at-once": (
        [package("aa", Depends="gone"), package("bb", Conflicts="cc"), package("cc"), package("fine")],
        ("aa", "bb", "cc", "fine"),
    ),
    "pinned-version-does-not-fit": (
        [package("aa", Depends="lib (>= 2)"), package("lib", "1"), package("lib", "2")],
        ("aa", "lib=1"),
    ),
    "several-versions-same-reason": ([package("aa", "1", Depends="gone"), package("aa", "2", Depends="gone")], ("aa",)),
    "virtual-with-several-providers": ([package("mta1", Provides="mail"), package("mta2", Provides="mail")], ("mail",)),
    "no-hash": ([package("bare", SHA256="")], ("bare",)),
}


@pytest.mark.parametrize("name", CLASHES)
def test_packages_that_do_not_go(
    name: str, tmp_path: Path, signers: tuple[Signer, Signer], monkeypatch: pytest.MonkeyPatch
) -> None:
    packages, asked = CLASHES[name]
    prepare(tmp_path, signers[0], monkeypatch).publish([*BASE, *packages])
    check(name, refused(tmp_path, signers, "debian:bookworm", asked, None))


def replaced(name: str, old: bytes, new: bytes) -> Spoil:
    """Change bytes in a file of the suite after everything was signed."""

    def spoil(tree: MirrorTree, work: Path) -> None:
        path = tree.root / "dists" / "bookworm" / name
        assert old in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(old, new, 1))

    return spoil


def unsigned(tree: MirrorTree, work: Path) -> None:
    folder = tree.publish(BASE, detached=True)
    (folder / "Release.gpg").unlink()


def naked_inrelease(tree: MirrorTree, work: Path) -> None:
    folder = tree.publish(BASE, detached=True)
    (folder / "Release").rename(folder / "InRelease")


def smuggled(tree: MirrorTree, work: Path) -> None:
    path = tree.root / "dists" / "bookworm" / "InRelease"
    path.write_bytes(b"Origin: Debian\nSuite: bookworm\n\n" + path.read_bytes())


def tampered_packages(tree: MirrorTree, work: Path) -> None:
    path = tree.root / "dists" / "bookworm" / "main" / "binary-amd64" / "Packages.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"3.0.11", b"3.0.10"), mtime=0))


def packages_gone(tree: MirrorTree, work: Path) -> None:
    (tree.root / "dists" / "bookworm" / "main" / "binary-amd64" / "Packages.gz").unlink()


def sources(text: str) -> Spoil:
    def spoil(tree: MirrorTree, work: Path) -> None:
        (work / "sources.list").write_text(text.replace("WORK", str(work)))

    return spoil


def published(**how: object) -> Spoil:
    def spoil(tree: MirrorTree, work: Path) -> None:
        tree.publish(BASE, **how)  # type: ignore[arg-type]

    return spoil


def now() -> datetime:
    return datetime.now(timezone.utc)


SPOILED: dict[str, Spoil] = {
    "unsigned": unsigned,
    "unsigned-inrelease": naked_inrelease,
    "text-before-the-signed-part": smuggled,
    "changed-after-signing": replaced("InRelease", b"Origin: Debian", b"Origin: Debiam"),
    "tampered-packages": tampered_packages,
    "packages-gone": packages_gone,
    "expired": published(date=now() - timedelta(days=30), valid_days=7),
    "from-the-future": published(date=now() + timedelta(days=3)),
    "another-suite-in-its-place": published(Codename="bullseye", Suite="oldstable"),
    "not-a-date": published(Date="yesterday"),
    "no-keyring": sources("deb [signed-by=WORK/none.gpg] file://WORK/mirror bookworm main\n"),
    "no-sources": sources("# nothing here\n"),
    "sources-not-understood": sources("deb file://WORK/mirror\nrpm x y z\ndeb [arch=amd64\n"),
    "cdrom": sources("deb cdrom:[Debian]/ bookworm main\n"),
    "mirror-list": sources("deb mirror+file:/etc/mirrors bookworm main\n"),
    "only-security": sources("deb [signed-by=WORK/keys.gpg] file://WORK/mirror bookworm-security main\n"),
    "a-suite-that-the-sources-name-is-gone": sources(
        "deb [signed-by=WORK/keys.gpg] file://WORK/mirror bookworm main\n"
        "deb [signed-by=WORK/keys.gpg] file://WORK/mirror bookworm-updates main\n"
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_mirrors_that_are_not_believed(
    name: str, tmp_path: Path, signers: tuple[Signer, Signer], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = prepare(tmp_path, signers[0], monkeypatch)
    tree.publish(BASE)
    SPOILED[name](tree, tmp_path)
    check(name, refused(tmp_path, signers, "debian:bookworm", (), None))


def test_a_key_that_is_not_known(
    tmp_path: Path, signers: tuple[Signer, Signer], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path, signers[0], monkeypatch)
    MirrorTree(tmp_path / "mirror", signers[1]).publish(BASE)
    check("unknown-key", refused(tmp_path, signers, "debian:bookworm", (), None))


@pytest.mark.parametrize(
    ("name", "base", "python"),
    [
        ("unknown-suite", "debian:bookwork", None),
        ("python-of-another-suite", "debian:bookworm", "3.13"),
        ("python-of-no-suite", "debian:bookworm", "3.12"),
    ],
)
def test_what_the_mirror_does_not_have(
    name: str,
    base: str,
    python: str | None,
    tmp_path: Path,
    signers: tuple[Signer, Signer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(tmp_path, signers[0], monkeypatch).publish(BASE)
    check(name, refused(tmp_path, signers, base, (), python))


def test_no_message_is_left_over() -> None:
    names = {*CLASHES, *SPOILED, "unknown-key", "unknown-suite", "python-of-another-suite", "python-of-no-suite"}
    assert {path.stem for path in GOLDEN.glob("*.txt")} == names
