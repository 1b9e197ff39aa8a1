"""Images for linux/arm64, made on any machine: the golden id, and what depends on the architecture."""

from __future__ import annotations

import json
import struct
import tarfile
from pathlib import Path

import pytest

from launcher.cache import Cache
from launcher.errors import TargetError
from launcher.image import Image, build
from launcher.lock import Deb, Inputs, Lock, Wheel
from launcher.resolve.platform import platform
from launcher.target import architecture
from tests.debs import Package, file, symlink
from tests.test_debian_rules import library
from tests.wheels import pinned, wheel_bytes

AARCH64, X86_64 = 183, 62
FLAGS = 0x0A03  # FLAG_AARCH64_LIB64 | FLAG_ELF_LIBC6 (glibc, sysdeps/generic/ldconfig.h)
GOLDEN = "53796f8a8153d9349519dd085d62528e4bb1930e9ee4f016a8d9859e9822a9e5"
"""It changes only with the assembler, as those of tests/test_image_build.py do."""
LIB = "./usr/lib/aarch64-linux-gnu"


def packages() -> list[Package]:
    """A libc as Debian packs it for arm64: the loader's ABI name is a link into the multiarch folder."""
    libc = [
        file(f"{LIB}/ld-linux-aarch64.so.1", library("ld-linux-aarch64.so.1", AARCH64), 0o755),
        symlink("./lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu/ld-linux-aarch64.so.1"),
        file(f"{LIB}/libc.so.6", library("libc.so.6", AARCH64), 0o755),
        file("./etc/ld.so.conf.d/aarch64-linux-gnu.conf", "/lib/aarch64-linux-gnu\n/usr/lib/aarch64-linux-gnu\n"),
    ]
    bin_ = [
        file("./etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n"),
        file(f"{LIB}/libother.so.1", library("libother.so.1", X86_64)),
    ]
    tool = [file("./usr/bin/tool-a", "#!/bin/sh\n", 0o755)]
    script = {"postinst": "#!/bin/sh\nupdate-alternatives --install /usr/bin/tool tool /usr/bin/tool-a 10\n"}
    return [
        Package(name="libc6", architecture="arm64", items=libc),
        Package(name="libc-bin", architecture="arm64", items=bin_),
        Package(name="tool", architecture="all", items=tool, scripts=script),
    ]


@pytest.fixture
def image(cache: Cache, tmp_path: Path) -> Image:
    debs: list[Deb] = []
    for package in packages():
        deb, path = package.write(tmp_path)
        cache.adopt("artifacts", deb.sha256, path)
        debs.append(deb)
    return build(lock_of(tuple(debs), (cached_wheel(cache, tmp_path),)), cache)


def cached_wheel(cache: Cache, folder: Path) -> Wheel:
    path = folder / "native-1.0-cp311-cp311-manylinux_2_17_aarch64.whl"
    path.write_bytes(wheel_bytes("native", files={"native/_c.so": library("_c.so", AARCH64)}))
    pin = pinned(path, "native", "1.0")
    cache.adopt("artifacts", pin.sha256, path)
    return pin


def lock_of(debs: tuple[Deb, ...], wheels: tuple[Wheel, ...]) -> Lock:
    return Lock(
        inputs=Inputs(base="debian:bookworm", platform="linux/arm64", python=None),
        suite="bookworm",
        architecture="arm64",
        python="3.11.2",
        libc="glibc 2.36",
        debs=debs,
        wheels=wheels,
    )


def members(image: Image) -> dict[str, tarfile.TarInfo]:
    found = {}
    for layer in image.layers:
        with tarfile.open(layer.path) as archive:
            found.update({member.name.rstrip("/"): member for member in archive})
    return found


def content(image: Image, name: str) -> bytes:
    for layer in reversed(image.layers):
        with tarfile.open(layer.path) as archive:
            if name in archive.getnames() and (stream := archive.extractfile(name)):
                return stream.read()
    raise AssertionError(f"{name} is in no layer")


def test_the_id_is_the_golden_one(image: Image) -> None:
    assert image.id == GOLDEN


def test_the_config_says_what_engines_look_for(image: Image) -> None:
    config = json.loads(image.config)
    assert (config["architecture"], config["os"], config["variant"]) == ("arm64", "linux", "v8")


def test_the_loader_is_where_programs_of_arm64_look(image: Image) -> None:
    found = members(image)
    assert found["lib"].linkname == "usr/lib"
    assert found["usr/lib/ld-linux-aarch64.so.1"].linkname == "aarch64-linux-gnu/ld-linux-aarch64.so.1"
    assert "lib64" not in found, "only x86-64's ABI wants it (base-files' list for usr-merge)"
    assert found["usr/bin/tool"].linkname == "/etc/alternatives/tool"


def test_the_linkers_cache_holds_this_architectures_libraries(image: Image) -> None:
    cache = content(image, "etc/ld.so.cache")
    (count,) = struct.unpack_from("<I", cache, 20)
    entries = [struct.unpack_from("<iII", cache, 48 + 24 * number) for number in range(count)]
    names = [cache[key:].split(b"\0", 1)[0].decode() for _, key, _ in entries]
    assert {flags for flags, _, _ in entries} == {FLAGS}
    assert names == ["libc.so.6", "ld-linux-aarch64.so.1"]


def test_wheels_are_chosen_for_it() -> None:
    target = platform("3.11.2", "glibc 2.36", "arm64")
    assert target.environment()["platform_machine"] == "aarch64"
    tags = {str(tag) for tag in target.tags()}
    assert {"cp311-cp311-manylinux_2_17_aarch64", "py3-none-any"} <= tags
    assert not [tag for tag in tags if "x86_64" in tag]


def test_another_machine_refuses_to_run_it(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architecture, "here", lambda: "amd64")
    with pytest.raises(TargetError, match="the image is for linux/arm64, and this machine is linux/amd64") as caught:
        architecture.refuse(architecture.of(image))
    assert "launcher build" in str(caught.value.problems[0].hint)
    monkeypatch.setattr(architecture, "here", lambda: "arm64")
    architecture.refuse(architecture.of(image))
