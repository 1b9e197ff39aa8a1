"""Who may sign an index: keyrings, and gpgv's verdict on a signature."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path

from launcher.digest import sha256_bytes
from launcher.errors import FetchError, ProcessError, Where
from launcher.indexes.apt_distribution import DEBIAN, Distribution
from launcher.process import run

ARMOUR = re.compile(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL)
FINGERPRINT = re.compile(r"[0-9A-Fa-f]{40}!?")
CLEARTEXT = b"-----BEGIN PGP SIGNED MESSAGE-----"
END = b"-----END PGP SIGNATURE-----"
GET_KEYS = DEBIAN.get_keys
OTHER_MIRROR = (
    "the mirror, or something on the way to it, is broken or lies: name another mirror; "
    "there is no way to skip the check"
)
BAD = ("BADSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG")
WEAK_DIGESTS = {"1", "2", "3"}  # MD5, SHA-1, RIPEMD-160 (RFC 4880, 9.4), which apt refuses too


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Binary keyrings, and the fingerprints that they are narrowed to (all of them when there are none)."""

    rings: tuple[bytes, ...]
    fingerprints: frozenset[str] = frozenset()

    @property
    def digest(self) -> str:
        """Return what a noted verdict depends on."""
        return sha256_bytes(b"".join(sha256_bytes(r).encode() for r in self.rings) + repr(self.fingerprints).encode())


def keys_of(signed_by: str, where: Where, distribution: Distribution = DEBIAN) -> Keys:
    """Read the keys that a Signed-By names, or this machine's own of the distribution. Raises FetchError when there
    are none."""
    if "BEGIN PGP" in signed_by:
        block = "\n".join("" if line == "." else line for line in signed_by.splitlines())
        return Keys(rings=(dearmour(block.encode(), str(where)),))
    words = signed_by.replace(",", " ").split()
    prints = frozenset(word.rstrip("!").upper() for word in words if FINGERPRINT.fullmatch(word))
    paths = [Path(word) for word in words if not FINGERPRINT.fullmatch(word)]
    rings = tuple(read_keyring(path, where) for path in paths or distribution.found_keyrings())
    if not rings:
        message = f"this machine has no keys to check {distribution.mirror} with"
        raise FetchError(message, hint=distribution.get_keys, where=where)
    return Keys(rings=rings, fingerprints=prints)


def read_keyring(path: Path, where: Where) -> bytes:
    """Read a keyring, binary or armoured. Raises FetchError."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise FetchError(f"can't read the keyring {path}: {e.strerror}", hint=GET_KEYS, where=where) from e
    return dearmour(data, str(path)) if b"-----BEGIN PGP" in data else data


def dearmour(data: bytes, place: str) -> bytes:
    """Decode ASCII armour (RFC 4880, 6.2). The CRC is left out: a damaged key just verifies nothing."""
    blocks = ARMOUR.findall(data)
    try:
        keys = b"".join(decode_block(block) for block in blocks)
    except binascii.Error as e:
        raise FetchError(f"{place}: the armoured key is damaged ({e})", hint=GET_KEYS) from e
    if not keys:
        raise FetchError(f"{place}: there is no PGP public key in it", hint=GET_KEYS)
    return keys


def decode_block(block: bytes) -> bytes:
    lines = [line.strip() for line in block.strip(b" \t").splitlines()]
    start = next((n for n, line in enumerate(lines[1:], 1) if not line), 0)  # headers end at an empty line
    return base64.b64decode(b"".join(line for line in lines[start:] if not line.startswith(b"=") and b":" not in line))


def signed_text(message: bytes, signature: bytes | None, keys: Keys, scratch: Path, place: str) -> bytes:
    """Return the bytes that a trusted key has signed, and nothing around them.

    `message` is an InRelease, or a Release with its detached `signature`. One good signature of a known key is
    enough, as for apt: Debian signs with several keys and an older machine doesn't know the newest.
    Raises FetchError with the reason that gpgv gives.
    """
    if signature is None and not one_cleartext(message):
        raise FetchError(f"{place} is not a signed file", hint=OTHER_MIRROR)
    (scratch / "message").write_bytes(message)
    (scratch / "signature").write_bytes(signature or b"")
    files = ["message"] if signature is None else ["signature", "message"]
    status = gpgv(keys, files, scratch)
    if reason := verdict(status, keys.fingerprints):
        raise FetchError(f"{place}: {reason}", hint=GET_KEYS if "signed by a key" in reason else OTHER_MIRROR)
    return message if signature is not None else (scratch / "text").read_bytes()


def one_cleartext(message: bytes) -> bool:
    """Tell whether a file is one cleartext-signed message from its first byte to its last."""
    whole = message.startswith(CLEARTEXT) and message.rstrip().endswith(END)
    return whole and message.count(CLEARTEXT) == 1 and message.count(END) == 1


def gpgv(keys: Keys, files: list[str], scratch: Path) -> str:
    """Run gpgv in `scratch`; return its status lines (GnuPG doc/DETAILS)."""
    args = ["gpgv", "--homedir", str(scratch), "--status-fd", "1"]
    for number, ring in enumerate(keys.rings):
        path = scratch / f"keys-{number}.gpg"
        path.write_bytes(ring)
        args += ["--keyring", str(path)]
    output = ["--output", str(scratch / "text")] if len(files) == 1 else []
    paths = [str(scratch / name) for name in files]
    try:
        return run([*args, *output, *paths], timeout_s=60, check=False).stdout.decode(errors="replace")
    except ProcessError as e:
        raise FetchError("there is no gpgv on this machine to check signatures with", hint="install gpgv") from e


def verdict(status: str, fingerprints: frozenset[str]) -> str:
    """Return why the signatures can't be trusted; "" when one is good and none is forged."""
    good, unknown, reasons, kind = False, "", [], ""
    for line in status.splitlines():
        word, *rest = line.removeprefix("[GNUPG:] ").split()
        if word in ("GOODSIG", *BAD):
            kind = word
            reasons += [REASONS[word].format(key=rest[0])] if word in BAD else []
        elif word == "NO_PUBKEY":
            unknown = rest[0]
        elif word == "VALIDSIG" and kind == "GOODSIG" and rest[7] not in WEAK_DIGESTS:
            good = good or not fingerprints or bool({rest[0], rest[-1]} & fingerprints)
    if any(reason.startswith("the signature") for reason in reasons) or (reasons and not good):
        return reasons[0]
    if good:
        return ""
    return f"it is signed by a key that is not known here ({unknown})" if unknown else "it has no valid signature"


REASONS = {
    "BADSIG": "the signature by key {key} is wrong: the file was changed after it was signed",
    "EXPSIG": "it has only an expired signature, by key {key}",
    "EXPKEYSIG": "it is signed by a key that has expired ({key})",
    "REVKEYSIG": "it is signed by a key that was revoked ({key})",
}
