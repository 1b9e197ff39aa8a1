"""Logins for registries, from where `docker login` and `podman login` keep them; never shown to anybody.

Sources: containers-auth.json(5) for the files and their keys; Docker's documentation of `docker login`, "Credential
stores" and "Credential helpers", for config.json and for the protocol of helpers. What names a place itself
($REGISTRY_AUTH_FILE, $DOCKER_CONFIG) goes first, then Podman's files, then Docker's.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher import process
from launcher.credentials import Login
from launcher.errors import FetchError, ProcessError
from launcher.registry.reference import HUB, Reference

HUB_SERVER = "https://index.docker.io/v1/"  # docker.io's name in login files
TOKEN_USER = "<token>"  # a helper says by it that the secret is an identity token
HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
HELPER_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A login for one registry: a user and password, or an identity token. `place` is the file that told of it."""

    place: str
    login: Login | None = field(default=None, repr=False)
    identity_token: str | None = field(default=None, repr=False)


def find_credentials(reference: Reference, environ: Mapping[str, str] = os.environ) -> Credentials | None:
    """Return the login for a repository, or None. Raises FetchError when a file or helper can't be used."""
    for path in files(environ):
        told = read(path)
        if found := of_file(told, reference, path, environ):
            return found
    return None


def files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the login files that exist, in the order in which they are believed."""
    home = Path(environ.get("HOME") or Path.home())
    places = [Path(environ["REGISTRY_AUTH_FILE"])] if environ.get("REGISTRY_AUTH_FILE") else []
    places += [Path(environ["DOCKER_CONFIG"]) / "config.json"] if environ.get("DOCKER_CONFIG") else []
    runtime = environ.get("XDG_RUNTIME_DIR")
    places += [Path(runtime) / "containers" / "auth.json"] if runtime else []
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    places += [config / "containers" / "auth.json", home / ".docker" / "config.json"]
    yield from (path for path in dict.fromkeys(places) if path.is_file())


def read(path: Path) -> Mapping[str, Any]:
    """Read a login file. Nothing of its content is ever in a message."""
    try:
        told = json.loads(path.read_bytes())
    except PermissionError:
        return {}  # another user's logins are not ours
    except (OSError, ValueError):
        raise FetchError(f"the login file {path} can't be read as JSON", hint="log in again, or mend it") from None
    return told if isinstance(told, dict) else {}


def of_file(
    told: Mapping[str, Any], reference: Reference, path: Path, environ: Mapping[str, str]
) -> Credentials | None:
    """Look in one file: the registry's own helper, then its entries, then the helper for all."""
    if helper := section(told, "credHelpers").get(reference.host):
        return ask_helper(str(helper), reference, path, environ)
    entries = section(told, "auths")
    for key in keys(reference):
        for entry in (entries.get(name) for name in spellings(key)):
            if isinstance(entry, dict) and (found := of_entry(entry, str(path))):
                return found
    store = told.get("credsStore")
    return ask_helper(str(store), reference, path, environ) if store else None


def section(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = told.get(name)
    return value if isinstance(value, dict) else {}


def keys(reference: Reference) -> Iterator[str]:
    """Yield what a repository may be kept under, the most specific first."""
    path = reference.repository
    while path:
        yield path
        path = path.rpartition("/")[0]


def spellings(key: str) -> tuple[str, ...]:
    """Return how a key is written: Docker has had URLs, with and without its API's version."""
    own = (key, f"https://{key}", f"https://{key}/", f"http://{key}", f"https://{key}/v1/", f"https://{key}/v2/")
    return (*own, HUB_SERVER, "index.docker.io") if key == HUB else own


def of_entry(entry: Mapping[str, Any], place: str) -> Credentials | None:
    """Read `auth` (base64 of user:password), or the words in clear; an empty entry says nothing."""
    if token := entry.get("identitytoken"):
        return Credentials(place=place, identity_token=str(token))
    if entry.get("username"):
        return Credentials(place=place, login=Login(user=str(entry["username"]), password=str(entry.get("password"))))
    if not entry.get("auth"):
        return None
    try:
        user, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = user = password = ""
    if not colon:
        raise FetchError(f"a login in {place} is no base64 of user:password", hint="log in again") from None
    return Credentials(place=place, login=Login(user=user, password=password.rstrip("\0")))


def ask_helper(name: str, reference: Reference, path: Path, environ: Mapping[str, str]) -> Credentials | None:
    """Ask `docker-credential-NAME get` for a registry. What it prints is never shown, not even when it fails."""
    place = f"docker-credential-{name} ({path})"
    if not HELPER.fullmatch(name):
        raise FetchError(f"{path} names a credential helper that no program can be called", hint="mend it")
    server = HUB_SERVER if reference.host == HUB else reference.host
    try:
        args = [f"docker-credential-{name}", "get"]
        done = process.run(args, stdin=server.encode(), timeout_s=HELPER_TIMEOUT_S, env=environ, check=False)
    except ProcessError as e:
        hint = "install it, or take it out of that file"
        raise FetchError(f"{e.problems[0].message}, and {path} names it for {reference.host}", hint=hint) from e
    said = done.stdout + done.stderr
    if done.returncode:
        if b"credentials not found" in said:
            return None
        raise FetchError(f"{place} ended with code {done.returncode}", hint=f"try it: `docker login {reference.host}`")
    return of_helper(done.stdout, place)


def of_helper(said: bytes, place: str) -> Credentials | None:
    try:
        told = json.loads(said)
        user, secret = str(told["Username"]), str(told["Secret"])
    except (ValueError, KeyError, TypeError):
        raise FetchError(f"{place} gave no JSON with Username and Secret", hint="is it a credential helper?") from None
    if not secret:
        return None
    if user == TOKEN_USER:
        return Credentials(place=place, identity_token=secret)
    return Credentials(place=place, login=Login(user=user, password=secret))
