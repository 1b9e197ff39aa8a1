"""S3: settings and credentials as the AWS tools find them, from variables, profiles and what profiles call."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
from collections.abc import Mapping

from launcher.access.aws_files import Profile, profile
from launcher.access.config import bundle
from launcher.errors import AccessError, ProcessError
from launcher.process import run

PROCESS_S = 60.0
ASSUMED = ("role_arn", "sso_session", "sso_start_url", "credential_source", "login_session")
ROLES = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_WEB_IDENTITY_TOKEN_FILE")
METADATA = ("169.254.169.254", 80)  # where a machine in AWS asks for its role (IMDS)
METADATA_S = 1.0
NO_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; `anonymous = true` in launcher's config.toml "
    "reads a public bucket"
)


def settings(told: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return a bucket's settings; `told` is what launcher's config file says. Raises AccessError."""
    own = profile(told.get("profile"), environ)
    values = own.values if own else {}
    found = {
        "endpoint": told.get("endpoint") or endpoint(values, environ),
        "region": told.get("region") or variable(environ, "AWS_REGION", "AWS_DEFAULT_REGION") or values.get("region"),
        "style": told.get("style") or style(own),
        "conditional_put": told.get("conditional_put"),
        "anonymous": told.get("anonymous"),
        "ca": certificates(told, values, environ),
    }
    if (found["endpoint"] or "").startswith("http://"):
        found["ca"] = None
    return {name: value for name, value in found.items() if value}


def endpoint(values: Mapping[str, str], environ: Mapping[str, str]) -> str | None:
    if variable(environ, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == "true":
        return None
    return variable(environ, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") or values.get("endpoint_url")


def style(own: Profile | None) -> str | None:
    said = own.nested("s3").get("addressing_style") if own else None
    return said if said in ("path", "virtual") else None


def certificates(told: Mapping[str, str], values: Mapping[str, str], environ: Mapping[str, str]) -> str | None:
    if path := told.get("ca_bundle"):
        return bundle(path, "launcher's config.toml")
    if path := environ.get("AWS_CA_BUNDLE"):
        return bundle(path, "AWS_CA_BUNDLE")
    return bundle(values["ca_bundle"], "the profile") if values.get("ca_bundle") else None


def variable(environ: Mapping[str, str], *names: str) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


def credentials(told: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an access key and its secret; nothing where a role of this machine is to be asked. Raises AccessError.

    A profile that launcher's config file names goes before the variables, any other one after them.
    """
    if told.get("anonymous"):
        return {}
    if not told.get("profile") and environ.get("AWS_ACCESS_KEY_ID"):
        return from_variables(environ)
    own = profile(told.get("profile"), environ)
    found = of_profile(own, environ) if own else {}
    if not found and not any(environ.get(name) for name in ROLES) and not has_role(environ):
        what = f"the profile `{own.name}` has no credentials" if own else "there are no credentials for S3"
        raise AccessError(what, hint=NO_CREDENTIALS)
    return found


def from_variables(environ: Mapping[str, str]) -> dict[str, str]:
    if not environ.get("AWS_SECRET_ACCESS_KEY"):
        raise AccessError("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY", hint="set both, or neither")
    return told_by(environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"], environ.get("AWS_SESSION_TOKEN"))


def told_by(key: str, secret: str, token: str | None, expires_at: str | None = None) -> dict[str, str]:
    found = {"access_key_id": key, "secret_access_key": secret, "session_token": token, "expires_at": expires_at}
    return {name: value for name, value in found.items() if value}


def of_profile(own: Profile, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a profile gives: its own keys, or what the program that it names says."""
    values = own.values
    if "aws_access_key_id" in values and not any(name in values for name in ASSUMED):
        secret = values.get("aws_secret_access_key", "")
        if not secret:
            raise AccessError(f"the profile `{own.name}` has an access key without a secret", hint=f"see {own.files}")
        return told_by(values["aws_access_key_id"], secret, values.get("aws_session_token"))
    if command := values.get("credential_process"):
        return called(shlex.split(command), f"the credential_process of the profile `{own.name}`", environ)
    if any(name in values for name in ASSUMED):
        return exported(own, environ)
    return {}


def exported(own: Profile, environ: Mapping[str, str]) -> dict[str, str]:
    """Let the aws program log in or assume the role: what that takes changes with its versions."""
    if not (program := shutil.which("aws", path=environ.get("PATH"))):
        kind = next(name for name in ASSUMED if name in own.values)
        hint = "install the AWS CLI (version 2), or set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
        raise AccessError(f"the profile `{own.name}` ({kind}) needs the program `aws`, which is not here", hint=hint)
    args = [program, "configure", "export-credentials", "--profile", own.name, "--format", "process"]
    return called(args, f"`aws configure export-credentials --profile {own.name}`", environ)


def called(args: list[str], what: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Ask a program, which answers as credential_process has to ("Sourcing credentials with an external process").

    Its stdout is never shown: secrets stand there.
    """
    hint = "is a new login needed (`aws sso login`)?"
    try:
        done = run(args, env=dict(environ), timeout_s=PROCESS_S, check=False)
    except ProcessError as e:
        raise AccessError(f"{what} can't be asked: {e.problems[0].message}", hint=hint) from e
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:300]
        raise AccessError(f"{what} ended with code {done.returncode}: {said}", hint=hint)
    try:
        told = json.loads(done.stdout)
        return told_by(told["AccessKeyId"], told["SecretAccessKey"], told.get("SessionToken"), told.get("Expiration"))
    except (ValueError, TypeError, KeyError):
        hint = "it has to print JSON with AccessKeyId and SecretAccessKey"
        raise AccessError(f"{what} did not answer with credentials", hint=hint) from None


def has_role(environ: Mapping[str, str]) -> bool:
    """Tell quickly whether something answers where a machine in AWS asks for its role."""
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return False
    try:
        socket.create_connection(METADATA, timeout=METADATA_S).close()
    except OSError:
        return False
    return True
