"""Likely secrets: files by their names, and what stands in small text files. The secret itself is never told.

The forms of tokens are those that their issuers publish for scanners; a form that matches much else is not here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

SCANNED_BYTES = 1024 * 1024

NAMES = {
    ".netrc": "passwords for hosts",
    "_netrc": "passwords for hosts",
    ".git-credentials": "passwords for git hosts",
    ".pypirc": "a package index's password",
    ".htpasswd": "passwords",
    ".pgpass": "database passwords",
    "credentials.json": "credentials",
    "client_secret.json": "credentials",
    "kubeconfig": "a cluster's credentials",
    "id_rsa": "a private key",
    "id_dsa": "a private key",
    "id_ecdsa": "a private key",
    "id_ed25519": "a private key",
}
ENV_EXAMPLES = frozenset({".env.example", ".env.sample", ".env.template", ".env.dist"})
SUFFIXES = {
    ".ppk": "a private key",
    ".p12": "a private key",
    ".pfx": "a private key",
    ".jks": "a key store",
    ".keystore": "a key store",
    ".kdbx": "a password database",
}
FOLDERS = {(".aws", "credentials"): "AWS credentials", (".docker", "config.json"): "registry passwords"}

# Kind, words of which one has to be there (a search for a plain word costs next to nothing), and the form.
CONTENTS: tuple[tuple[str, tuple[bytes, ...], bytes], ...] = (
    (
        "a private key",
        (b"PRIVATE KEY",),
        rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\s*\n(?:[A-Za-z-]+: .*\n|\s)*[A-Za-z0-9+/=]{16}",
    ),
    ("an AWS access key", (b"AKIA", b"ASIA"), rb"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    (
        "an AWS secret key",
        (b"secret_access_key", b"SECRET_ACCESS_KEY"),
        rb"(?i)secret_access_key\W{1,5}[A-Za-z0-9/+]{40}\b",
    ),
    (
        "a GitHub token",
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
        rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})",
    ),
    ("a GitLab token", (b"glpat-",), rb"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("a Hugging Face token", (b"hf_",), rb"\bhf_[A-Za-z0-9]{34,}\b"),
    (
        "a Weights & Biases key",
        (b"wandb", b"WANDB"),
        rb"(?i)wandb[a-z_.]*(?:key|login)\W{1,12}(?:key\W{1,5})?[0-9a-f]{40}\b",
    ),
    (
        "an OpenAI or Anthropic key",
        (b"sk-",),
        rb"\bsk-(?:proj-|svcacct-|ant-[a-z0-9]+-)?(?=[a-zA-Z_-]*[0-9])[A-Za-z0-9_-]{32,}",
    ),
    ("a Slack token", (b"xox",), rb"\bxox[abprs]-[0-9A-Za-z-]{20,}"),
    ("a Google API key", (b"AIza",), rb"\bAIza[0-9A-Za-z_-]{35}\b"),
    ("a Stripe key", (b"k_live_",), rb"\b[sr]k_live_[0-9A-Za-z]{20,}"),
    ("a PyPI token", (b"pypi-AgE",), rb"\bpypi-AgE[A-Za-z0-9_-]{50,}"),
)
PATTERNS = tuple((kind, words, re.compile(pattern)) for kind, words, pattern in CONTENTS)
EXAMPLE = re.compile(rb"EXAMPLE|example|x{8}|X{8}|0{12}|\.\.\.")


def by_name(path: str) -> str | None:
    """Return what a file of this name usually holds, if that is secret."""
    pure = PurePosixPath(path)
    name = pure.name.lower()
    if (name == ".env" or name.startswith(".env.")) and name not in ENV_EXAMPLES:
        return "environment secrets"
    return NAMES.get(name) or SUFFIXES.get(pure.suffix.lower()) or FOLDERS.get((pure.parent.name, name))


def by_content(data: bytes) -> Iterator[tuple[int, str]]:
    """Yield (line from 1, kind) for everything in a text that looks like a secret; nothing for binary data."""
    if b"\0" in data[:8192]:
        return
    for kind, words, pattern in PATTERNS:
        for match in pattern.finditer(data) if any(word in data for word in words) else ():
            if not EXAMPLE.search(match[0]):
                yield data.count(b"\n", 0, match.start()) + 1, kind
