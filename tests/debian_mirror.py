"""A tiny signed Debian mirror that tests make, and can spoil in exactly one way."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Stanza = dict[str, str]


def package(name: str, version: str = "1.0", **fields: str) -> Stanza:
    """A package's fields; `pre_depends="x"` becomes `Pre-Depends: x`."""
    named = {key if key.isupper() else key.replace("_", "-").title(): value for key, value in fields.items()}
    return {"Package": name, "Version": version, "Architecture": "amd64", **named}


BASE = (
    package("base-files", "12.4", Essential="yes", Priority="required", Pre_Depends="awk"),
    package("mawk", "1.3", Priority="required", Provides="awk", Depends="libc6 (>= 2.30)"),
    package("gawk", "5.2", Provides="awk", Depends="libc6"),
    package("original-awk", "1.1", Provides="awk", Depends="libc6"),
    package("libc6", "2.36-9", Priority="optional"),
    package("ca-certificates", "20230311", Architecture="all", Depends="openssl (>= 1.1.1)"),
    package("openssl", "3.0.11-1", Depends="libc6 (>= 2.34), libssl3 (>= 3.0.9)"),
    package("libssl3", "3.0.11-1", Depends="libc6"),
    package("libstdc++6", "12.2.0-14", Depends="libc6"),
    package("python3", "3.11.2-1+b1", Depends="python3.11 (>= 3.11.2-1~)"),
    package("python3.11", "3.11.2-6", Depends="python3.11-minimal (= 3.11.2-6)"),
    package("python3.11-minimal", "3.11.2-6", Depends="libc6, libssl3"),
)


def deb_bytes(stanza: Mapping[str, str]) -> bytes:
    """A well-formed .deb (deb(5)) with one file, the same bytes every time."""
    control = "".join(f"{key}: {value}\n" for key, value in stanza.items()).encode()
    members = [
        ("debian-binary", b"2.0\n"),
        ("control.tar.gz", tar_gz({"./control": control})),
        ("data.tar.gz", tar_gz({f"./usr/share/doc/{stanza['Package']}/copyright": b"free\n"})),
    ]
    out = b"!<arch>\n"
    for name, data in members:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


def tar_gz(files: Mapping[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=0)


@dataclass
class Signer:
    """A key in a GNUPGHOME of its own."""

    home: Path
    name: str

    def gpg(self, *args: str, data: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--yes", "--pinentry-mode", "loopback", *args]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    @classmethod
    def make(cls, home: Path, name: str, *, expires: str = "never") -> Signer:
        home.mkdir(mode=0o700)
        signer = cls(home, name)
        signer.gpg(
            "--passphrase", "", "--quick-generate-key", f"{name} <{name}@example.org>", "ed25519", "sign", expires
        )
        return signer

    def public(self, *, armour: bool = False) -> bytes:
        return self.gpg(*(["--armor"] if armour else []), "--export", self.name)

    def fingerprint(self) -> str:
        lines = self.gpg("--with-colons", "--list-keys").decode().splitlines()
        return next(line for line in lines if line.startswith("fpr:")).split(":")[9]

    def clearsign(self, data: bytes) -> bytes:
        return self.gpg("--clearsign", "--output", "-", data=data)

    def detached(self, data: bytes) -> bytes:
        return self.gpg("--armor", "--detach-sign", "--output", "-", data=data)

    def stop(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False)


@dataclass
class MirrorTree:
    """A mirror's files below `root`."""

    root: Path
    signer: Signer
    fields: dict[str, str] = field(default_factory=dict)  # of Release, over the usual ones

    def publish(
        self,
        packages: Sequence[Stanza],
        suite: str = "bookworm",
        *,
        date: datetime | None = None,
        valid_days: float | None = None,
        detached: bool = False,
        **fields: str,
    ) -> Path:
        """Write pool, Packages and a signed Release; return the suite's folder."""
        listed = "\n".join(self.add(dict(stanza)) for stanza in packages).encode()
        folder = self.root / "dists" / suite
        place = folder / "main" / "binary-amd64"
        place.mkdir(parents=True, exist_ok=True)
        packed = gzip.compress(listed, mtime=0)
        (place / "Packages.gz").write_bytes(packed)
        when = date or datetime.now(timezone.utc) - timedelta(hours=1)
        head = {
            "Origin": "Debian",
            "Suite": "stable" + suite.removeprefix(suite.partition("-")[0]),
            "Codename": suite,
            "Date": rfc(when),
            **({"Valid-Until": rfc(when + timedelta(days=valid_days))} if valid_days is not None else {}),
            "Architectures": "all amd64",
            "No-Support-for-Architecture-all": "Packages",
            **{key.replace("_", "-"): value for key, value in fields.items()},
        }
        text = "".join(f"{key}: {value}\n" for key, value in head.items() if value)
        text += f"SHA256:\n {hashlib.sha256(packed).hexdigest()} {len(packed)} main/binary-amd64/Packages.gz\n"
        self.write_release(folder, text.encode(), detached)
        return folder

    def write_release(self, folder: Path, text: bytes, detached: bool) -> None:
        for old in ("InRelease", "Release", "Release.gpg"):
            (folder / old).unlink(missing_ok=True)
        if detached:
            (folder / "Release").write_bytes(text)
            (folder / "Release.gpg").write_bytes(self.signer.detached(text))
        else:
            (folder / "InRelease").write_bytes(self.signer.clearsign(text))

    def add(self, stanza: Stanza) -> str:
        """Put a package into the pool; return its stanza in Packages."""
        data = deb_bytes(stanza)
        file = f"{stanza['Package']}_{stanza['Version'].rpartition(':')[2]}_{stanza['Architecture']}.deb"
        path = f"pool/main/{stanza['Package'][0]}/{stanza['Package']}/{file}"
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)
        known = {"Filename": path, "Size": str(len(data)), "SHA256": hashlib.sha256(data).hexdigest(), **stanza}
        return "".join(f"{key}: {value}\n" for key, value in {**stanza, **known}.items() if value)


def rfc(moment: datetime) -> str:
    return f"{moment:%a, %d %b %Y %H:%M:%S} UTC"


class Handler(SimpleHTTPRequestHandler):
    """Files, with If-Modified-Since as the standard library does it, and what was asked written down."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self.server.seen.append((self.path, int(code)))  # type: ignore[attr-defined]

    def log_message(self, *args: object) -> None:
        return


@contextlib.contextmanager
def serving(root: Path, handler: type[Handler] = Handler) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """Serve a folder on loopback; give its URL and the list of (path, status) that grows."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(root)))
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.seen  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
