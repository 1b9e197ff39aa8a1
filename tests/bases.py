"""Base images made by hand: layers as tar bytes in any compression, with whatever foreign layers hold."""

from __future__ import annotations

import gzip
import io
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import zstandard

from launcher.digest import canonical_json, sha256_bytes
from launcher.image.base import BaseTree, read_tree

Content = bytes | str | None | tarfile.TarInfo
"""Bytes of a file, text of a symbolic link, None for a folder, or a ready entry."""


def layer(members: Mapping[str, Content], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return an uncompressed layer. A name ending in `!` is a program."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as out:
        for name, content in members.items():
            out.addfile(*entry(name, content))
    return raw.getvalue()


def entry(name: str, content: Content) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
    info = tarfile.TarInfo(name.removesuffix("!"))
    info.mtime, info.uid, info.mode = 1_000_000_000, 1000, 0o755 if name.endswith("!") else 0o644
    if isinstance(content, tarfile.TarInfo):
        return content, None
    if content is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    elif isinstance(content, str):
        info.type, info.linkname = tarfile.SYMTYPE, content
    else:
        info.size = len(content)
        return info, io.BytesIO(content)
    return info, None


def hard_link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.LNKTYPE, target
    return info


def device(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 3
    return info


def packed(data: bytes, how: str) -> bytes:
    """Return a layer as a registry would hold it: "gzip", "zstd" or "plain"."""
    if how == "gzip":
        return gzip.compress(data, 1, mtime=0)
    return zstandard.ZstdCompressor().compress(data) if how == "zstd" else data


def tree(folder: Path, *layers: Mapping[str, Content]) -> BaseTree:
    """Return the tree that these layers, lowest first, show together."""
    paths = []
    for members in layers:
        data = layer(members)
        path = folder / sha256_bytes(data)
        path.write_bytes(data)
        paths.append(path)
    return read_tree(paths)


RELEASE = 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12"\n'
GLIBC = b"\x7fELF\0GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\nCopyright\0"


def system(**more: Content) -> dict[str, Content]:
    """Return the files of a small Debian-like system with glibc."""
    return {
        "usr/lib/os-release": RELEASE.encode(),
        "etc/os-release": "../usr/lib/os-release",
        "usr/lib/x86_64-linux-gnu/libc.so.6": GLIBC,
        "lib": "usr/lib",
        "bin": "usr/bin",
        **more,
    }


def python(prefix: str = "usr/local", version: str = "3.12.4") -> dict[str, Content]:
    """Return the files of a Python that says its version in its own text."""
    short = ".".join(version.split(".")[:2])
    return {
        f"{prefix}/bin/python{short}!": b"\x7fELF\0" + version.encode() + b"\0",
        f"{prefix}/bin/python3": f"python{short}",
        f"{prefix}/lib/python{short}/os.py": b"",
    }


def distribution(folder: str, name: str, version: str, *more: str) -> dict[str, Content]:
    """Return the metadata of an installed distribution."""
    lines = "".join(f"{line}\n" for line in (f"Name: {name}", f"Version: {version}", *more))
    return {f"{folder}/{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\n{lines}\n".encode()}


OCI = "application/vnd.oci.image."
TYPES = {"gzip": f"{OCI}layer.v1.tar+gzip", "zstd": f"{OCI}layer.v1.tar+zstd", "plain": f"{OCI}layer.v1.tar"}


@dataclass(kw_only=True)
class Made:
    """An image as a registry holds it: its manifest, and its blobs by sha256."""

    manifest: bytes
    blobs: dict[str, bytes]
    config: bytes

    @property
    def digest(self) -> str:
        return sha256_bytes(self.manifest)


def made(
    *layers: Mapping[str, Content],
    how: Sequence[str] = ("gzip",),
    env: Sequence[str] = ("PATH=/usr/local/bin:/usr/bin:/bin",),
    architecture: str = "amd64",
    diff_ids: Sequence[str] = (),
) -> Made:
    """Make an image; `how` are the compressions, used in turn, and `diff_ids` may be a lie."""
    tars = [layer(members) for members in layers]
    kinds = [how[number % len(how)] for number in range(len(tars))]
    blobs = [packed(data, kind) for data, kind in zip(tars, kinds, strict=True)]
    true_ids = [sha256_bytes(data) for data in tars]
    config = canonical_json(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": list(env), "Entrypoint": ["/entry"], "User": "1000", "Volumes": {"/v": {}}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{each}" for each in diff_ids or true_ids]},
        }
    )
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}manifest.v1+json",
            "config": descriptor(config, f"{OCI}config.v1+json"),
            "layers": [descriptor(data, TYPES[kind]) for data, kind in zip(blobs, kinds, strict=True)],
        }
    )
    return Made(manifest=manifest, config=config, blobs={sha256_bytes(data): data for data in [config, *blobs]})


def descriptor(data: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{sha256_bytes(data)}", "size": len(data)}


@dataclass(kw_only=True)
class Registry:
    """A registry that gives what it holds: manifests by tag or digest, blobs by digest."""

    host: str = ""
    tags: dict[str, Made] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def push(self, tag: str, image: Made) -> str:
        self.tags[tag] = image
        self.blobs.update(image.blobs)
        self.manifests[f"sha256:{image.digest}"] = image.manifest
        return f"docker://{self.host}/team/base:{tag}"

    def answer(self, path: str) -> tuple[bytes, str] | None:
        last = path.rpartition("/")[2]
        if "/manifests/" in path:
            data = self.tags[last].manifest if last in self.tags else self.manifests.get(last)
            return (data, f"{OCI}manifest.v1+json") if data else None
        data = self.blobs.get(last.removeprefix("sha256:"))
        return (data, "application/octet-stream") if data is not None else None


@contextmanager
def serve() -> Iterator[Registry]:
    """Run a registry on loopback."""
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            registry.asked.append(self.path)
            found = (b"{}", "application/json") if self.path == "/v2/" else registry.answer(self.path)
            body, kind = found or (b'{"errors":[{"code":"NOT_FOUND"}]}', "application/json")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    registry.host = f"127.0.0.1:{server.server_address[1]}"
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
