"""Tiny wheels that tests make: well-formed ones, and ones with exactly one thing wrong."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from launcher.cache import Cache
from launcher.digest import sha256_file
from launcher.lock import Wheel

WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def metadata(name: str, version: str) -> str:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


def wheel_bytes(
    name: str = "tiny",
    version: str = "1.0",
    files: Mapping[str, bytes] | None = None,
    *,
    executable: tuple[str, ...] = (),
    extra: tuple[tuple[zipfile.ZipInfo, bytes], ...] = (),
    drop: tuple[str, ...] = (),
    replace: Mapping[str, bytes] | None = None,
) -> bytes:
    """Return a wheel's bytes; `extra` members are added as they are, `drop` and `replace` name members."""
    info = f"{name}-{version}.dist-info"
    members = {
        **(files or {f"{name}/__init__.py": b"x = 1\n"}),
        f"{info}/METADATA": metadata(name, version).encode(),
        f"{info}/WHEEL": WHEEL.encode(),
    }
    members[f"{info}/RECORD"] = record(members, f"{info}/RECORD")
    members.update(replace or {})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in members.items():
            if path not in drop:
                archive.writestr(member(path, 0o755 if path in executable else 0o644), data)
        for zip_info, data in extra:
            archive.writestr(zip_info, data)
    return out.getvalue()


def member(path: str, mode: int = 0o644, kind: int = 0o100000) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, (2020, 2, 2, 2, 2, 2))
    info.external_attr = (kind | mode) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def record(members: Mapping[str, bytes], own: str) -> bytes:
    lines = [f"{path},sha256={digest(data)},{len(data)}" for path, data in members.items()]
    return ("\n".join([*lines, f"{own},,"]) + "\n").encode()


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def pinned(path: Path, name: str, version: str) -> Wheel:
    sha256, size = sha256_file(path)
    return Wheel(name=name, version=version, filename=path.name, size=size, sha256=sha256)


def cached(cache: Cache, folder: Path, data: bytes, name: str = "tiny", version: str = "1.0") -> Wheel:
    """Put a wheel's bytes into a cache; return its pin."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    path.write_bytes(data)
    pin = pinned(path, name, version)
    cache.adopt("artifacts", pin.sha256, path)
    return pin
