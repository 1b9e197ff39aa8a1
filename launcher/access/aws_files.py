"""The AWS tools' files: profiles in ~/.aws/config and ~/.aws/credentials.

Source: "Configuration and credential file settings" of the AWS CLI's user guide, and of the SDKs' reference guide.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import AccessError, Where


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One profile: its settings of both files together (the credentials file wins), none of them in its repr."""

    name: str
    values: Mapping[str, str]
    files: str

    def __repr__(self) -> str:
        return f"Profile({self.name!r})"

    def nested(self, name: str) -> dict[str, str]:
        """Return a group of indented settings, such as `s3`."""
        lines = (line.partition("=") for line in self.values.get(name, "").splitlines())
        return {key.strip(): value.strip() for key, mark, value in lines if mark}


def profile(asked: str | None, environ: Mapping[str, str] = os.environ) -> Profile | None:
    """Return a profile by its name, else $AWS_PROFILE, else `default`; None when there is no default.

    Raises AccessError when one that was asked for isn't there, or a file can't be read.
    """
    named = asked or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE")
    name = named or "default"
    config, credentials = places(environ)
    sections, secrets = read(config), read(credentials)
    own = {**section(sections, name), **secrets.get(name, {})}
    services = sections.get(f"services {own.get('services', '')}", {})
    if own:
        return Profile(name=name, values={**own, **service_endpoint(services)}, files=f"{config} and {credentials}")
    if named is None or name == "default":
        return None
    known = sorted({*secrets, *(each.removeprefix("profile ") for each in sections)})
    hint = f"known are {', '.join(known)}" if known else f"`aws configure --profile {name}` makes it"
    raise AccessError(f"there is no profile `{name}` in {config} or {credentials}", hint=hint)


def section(sections: Mapping[str, dict[str, str]], name: str) -> dict[str, str]:
    if name == "default":
        return sections.get("default") or sections.get("profile default") or {}
    return sections.get(f"profile {name}", {})


def service_endpoint(services: Mapping[str, str]) -> dict[str, str]:
    """Return the endpoint that a `services` section has for S3; it goes before the profile's own."""
    lines = (line.partition("=") for line in services.get("s3", "").splitlines())
    found = {key.strip(): value.strip() for key, mark, value in lines if mark}
    return {"endpoint_url": found["endpoint_url"]} if "endpoint_url" in found else {}


def places(environ: Mapping[str, str]) -> tuple[Path, Path]:
    home = Path(environ.get("HOME") or Path.home()) / ".aws"
    config = Path(environ.get("AWS_CONFIG_FILE") or home / "config")
    return config.expanduser(), Path(environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials").expanduser()


def read(path: Path) -> dict[str, dict[str, str]]:
    """Read one file; a missing one is empty. Raises AccessError with the line, never with its text: it is a secret."""
    parser = configparser.RawConfigParser(strict=False, default_section="", inline_comment_prefixes=(" #", " ;"))
    try:
        with path.open(encoding="utf-8") as stream:
            parser.read_file(stream)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except configparser.Error as e:
        line = getattr(e, "lineno", None) or next((n for n, _ in getattr(e, "errors", [])), None)
        hint = "sections begin as [profile name], settings as key = value"
        raise AccessError("this is no file of profiles", where=Where(file=str(path), line=line), hint=hint) from None
    except (OSError, ValueError) as e:
        why = getattr(e, "strerror", None) or "it is no UTF-8"
        raise AccessError(f"{path} can't be read: {why}", hint="mend its owner, mode or encoding") from None
    return {name: dict(parser[name]) for name in parser.sections()}
