"""The hash by which OpenSSL looks up a certificate's file, computed from the certificate's bytes alone.

`openssl x509 -subject_hash`: the first four bytes, little endian, of the SHA-1 of the subject's canonical form
(OpenSSL crypto/x509/x_name.c: strings as UTF-8, lower case, single spaces, without the outer SEQUENCE).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

LABELS = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")
SEQUENCE, SET, UTF8, CONTEXT_0 = 0x30, 0x31, 0x0C, 0xA0
ENCODINGS = {
    0x0C: "utf-8",
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # T61String, which OpenSSL takes for Latin-1
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}
SPACES = re.compile(r"[ \t\n\v\f\r]+")
ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


@dataclass(frozen=True)
class Value:
    """One value of DER: its tag, its contents, and all of its bytes (X.690, 8.1)."""

    tag: int
    content: bytes
    whole: bytes


EMPTY = Value(0x05, b"", b"")


def certificates(pem: bytes) -> list[bytes]:
    """Return the DER bytes of every certificate in a PEM file (RFC 7468)."""
    found = []
    for part in pem.split(b"-----BEGIN ")[1:]:
        label, _, rest = part.partition(b"-----")
        body, end, _ = rest.partition(b"-----END ")
        if label in LABELS and end:
            found.append(base64.b64decode(b"".join(body.split())))
    return found


def subject_hash(der: bytes) -> str:
    """Return the hash as eight hex digits. Raises ValueError when `der` is no certificate."""
    canonical = b"".join(canonical_rdn(rdn) for rdn in children(subject(der).content))
    return hashlib.sha1(canonical, usedforsecurity=False).digest()[:4][::-1].hex()


def subject(der: bytes) -> Value:
    """Find the subject: the field after the validity (RFC 5280, 4.1)."""
    certificate = next(children(der), None)
    body = next(children(certificate.content), None) if certificate else None
    if body is None:
        raise ValueError("this is no certificate")
    fields = [value for value in children(body.content) if value.tag != CONTEXT_0]  # without the version
    if len(fields) < 5:
        raise ValueError("this certificate has no subject")
    return fields[4]


def children(data: bytes) -> Iterator[Value]:
    """Yield the values that `data` is made of. Raises ValueError when a length goes past the end."""
    at = 0
    while at < len(data):
        start, tag = at, data[at]
        size, at = length(data, at + 1)
        if at + size > len(data):
            raise ValueError("a DER value is longer than what holds it")
        yield Value(tag, data[at : at + size], data[start : at + size])
        at += size


def length(data: bytes, at: int) -> tuple[int, int]:
    """Read a length; return it and where the contents begin."""
    if at >= len(data):
        raise ValueError("a DER value has no length")
    first = data[at]
    if first < 0x80:
        return first, at + 1
    end = at + 1 + (first & 0x7F)
    return int.from_bytes(data[at + 1 : end], "big"), end


def canonical_rdn(rdn: Value) -> bytes:
    """Write a relative distinguished name with canonical strings; a SET is sorted, as DER wants it."""
    attributes = []
    for attribute in children(rdn.content):
        kind, value, *_ = [*children(attribute.content), EMPTY, EMPTY]
        attributes.append(encode(SEQUENCE, kind.whole + canonical_value(value)))
    return encode(SET, b"".join(sorted(attributes)))


def canonical_value(value: Value) -> bytes:
    """Write a string in its canonical form; what is no string stays as it is."""
    encoding = ENCODINGS.get(value.tag)
    if encoding is None:
        return value.whole
    text = SPACES.sub(" ", value.content.decode(encoding).strip(" \t\n\v\f\r"))
    return encode(UTF8, text.translate(ASCII_LOWER).encode())


def encode(tag: int, content: bytes) -> bytes:
    """Write one value with the shortest length."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(digits))) + digits + content
