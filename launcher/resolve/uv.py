"""Call uv to resolve requirements for another machine's Python; what it says is read as a pylock (PEP 751)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.credentials import redact
from launcher.errors import ResolveError
from launcher.indexes.settings import Indexes
from launcher.indexes.uv import uv_binary
from launcher.lock.model import Wheel
from launcher.process import run
from launcher.resolve.platform import Platform
from launcher.resolve.upgrade import Upgrade
from launcher.toml import parse

# uv's own variables that say how it works; all others of its variables would make the lock depend on who makes it
KEPT = re.compile(
    r"UV_(CACHE_DIR|NO_CACHE|HTTP_\w*TIMEOUT|HTTP_RETRIES|REQUEST_TIMEOUT|CONCURRENT_\w+|KEYRING_PROVIDER|OFFLINE"
    r"|NATIVE_TLS|SYSTEM_CERTS|NETRC|CREDENTIALS_DIR)"
)
MARKS = re.compile(r"^[\s\u00d7\u2500-\u25ff]+|^error: ")  # the cross, lines and arrows of its drawings
UNTOLD = ("warning:", "Resolved ", "hint: Wheels are required")  # the last names a flag that nobody here gave
TIMEOUT_S = 900.0
WIDE = "10000"  # columns: uv must not fold its sentences
NO_BINARY_WORDS = ("building from source is disabled", "no usable wheels", "no wheels", "Building source distributions")
FROM_SOURCE = (
    "images hold wheels only: name it under `image.build.packages`, and `launcher lock` builds it once; or take a"
    " version that has a wheel, or put a wheel of your own into a find-links folder"
)
UNMET = "loosen a requirement, take another Python or base, or check which indexes pip and uv are configured for"
OFFLINE = "check the network, the proxy and the index settings of pip and uv"


def compile_requirements(
    folder: Path,
    requirements: Sequence[str],
    constraints: Sequence[str],
    platform: Platform,
    indexes: Indexes,
    previous: Sequence[Wheel],
    upgrade: Upgrade,
) -> Mapping[str, Any]:
    """Let uv resolve in `folder`, a private one; return its pylock as TOML values. Raises ResolveError."""
    write(folder / "requirements.in", "".join(f"{line}\n" for line in requirements))
    write(folder / "constraints.in", "".join(f"{line}\n" for line in constraints))
    write(folder / "uv.toml", config(indexes))
    output = folder / "pylock.image.toml"
    write(output, preferences(previous))
    done = run(
        arguments(folder, output, platform, upgrade),
        cwd=folder,
        env=environment(os.environ, indexes),
        timeout_s=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise refusal(done.stderr.decode(errors="replace"), indexes)
    return parse(output.read_text(encoding="utf-8"), "uv's answer", ResolveError)


def arguments(folder: Path, output: Path, platform: Platform, upgrade: Upgrade) -> list[str]:
    """Return the command. Indexes are named in a file, because everybody may read a command's arguments."""
    args = [uv_binary(), "pip", "compile", "requirements.in", "--constraints", "constraints.in"]
    args += ["--output-file", str(output), "--format", "pylock.toml", "--no-header", "--only-binary", ":all:"]
    args += ["--python-version", platform.python_version, "--python-platform", platform.uv_name]
    args += ["--config-file", str(folder / "uv.toml"), "--no-python-downloads", "--no-progress", "--color", "never"]
    args += ["--python", sys.executable]  # any will do, as the target is given: a search of the machine takes a second
    if upgrade.all:
        return [*args, "--upgrade"]
    return args + [word for name in sorted(upgrade.packages) for word in ("--upgrade-package", name)]


def config(indexes: Indexes) -> str:
    """Write a uv.toml that holds this machine's indexes and nothing else."""
    import tomli_w

    tables = [{"url": url} for url in indexes.extra]
    if indexes.default:
        tables.append({"url": indexes.default, "default": True})  # type: ignore[dict-item]
    values: dict[str, Any] = {"index-strategy": indexes.strategy, "find-links": list(indexes.find_links)}
    if indexes.trusted_hosts:
        values["allow-insecure-host"] = list(indexes.trusted_hosts)
    if indexes.keyring:
        values["keyring-provider"] = indexes.keyring
    if indexes.no_index:
        return tomli_w.dumps({**values, "no-index": True})
    return tomli_w.dumps({**values, **({"index": tables} if tables else {})})


def preferences(previous: Sequence[Wheel]) -> str:
    """Write the old pins as a pylock: uv prefers what stands in its output file."""
    import tomli_w

    packages = [{"name": wheel.name, "version": wheel.version} for wheel in previous]
    return tomli_w.dumps({"lock-version": "1.0", "created-by": "launcher", "packages": packages})


def environment(environ: Mapping[str, str], indexes: Indexes) -> dict[str, str]:
    """Return the environment for uv: this one without uv's and pip's settings, which are in the file now."""
    kept = {k: v for k, v in environ.items() if not k.startswith(("UV_", "PIP_")) or KEPT.fullmatch(k)}
    for key in ("VIRTUAL_ENV", "CONDA_PREFIX", "RUST_LOG"):
        kept.pop(key, None)
    if indexes.cert:
        kept.setdefault("SSL_CERT_FILE", str(indexes.cert))
    return {"UV_SYSTEM_CERTS": "true", **kept, "COLUMNS": WIDE, "NO_COLOR": "1", "UV_NO_WRAP": "1"}


def refusal(said: str, indexes: Indexes) -> ResolveError:
    """Pass uv's words on, without logins, and say what to do."""
    words = redact(readable(said), indexes.urls)
    if any(sign in words for sign in NO_BINARY_WORDS):
        return ResolveError(f"the Python requirements can't be met with wheels:\n{words}", hint=FROM_SOURCE)
    if "No solution found" in said:
        return ResolveError(f"the Python requirements can't be met:\n{words}", hint=UNMET)
    return ResolveError(f"uv can't resolve the Python requirements:\n{words}", hint=OFFLINE)


def readable(said: str) -> str:
    """Take uv's marks off its message and indent what is left."""
    lines = (MARKS.sub("", line).rstrip() for line in said.splitlines())
    kept = [line for line in lines if line and not line.startswith(UNTOLD)]
    return "\n".join(f"  {line}" for line in kept) or "  it said nothing"


def write(path: Path, text: str) -> None:
    """Write a file that only this user may read: it may hold a login."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
