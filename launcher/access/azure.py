"""Azure Blob Storage: an account with its key, a shared access signature, or the login of the az program.

Source: "Configure Azure Storage connection strings" of Azure's documentation, and the variables that `az storage`
reads.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from datetime import datetime, timezone

from launcher.access.config import bundle
from launcher.errors import AccessError, ProcessError
from launcher.process import run

AZ_S = 60.0
# The account and key that every emulator has; they are printed in Azurite's documentation.
EMULATOR = "devstoreaccount1"
EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
EMULATOR_ENDPOINT = f"http://127.0.0.1:10000/{EMULATOR}"


def settings(told: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return a container's settings. Raises AccessError when nothing names the account."""
    parts = connection(environ)
    account = told.get("account") or environ.get("AZURE_STORAGE_ACCOUNT") or environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    found = {
        "account": account or parts.get("AccountName", ""),
        "endpoint": told.get("endpoint") or environ.get("AZURE_STORAGE_ENDPOINT") or endpoint(parts),
        "anonymous": told.get("anonymous", ""),
        "ca": bundle(told["ca_bundle"], "launcher's config.toml") if told.get("ca_bundle") else "",
    }
    if not found["account"]:
        hint = "set AZURE_STORAGE_ACCOUNT, or `account` of the store in launcher's config.toml"
        raise AccessError("an az:// store needs the name of its account", hint=hint)
    return {name: value for name, value in found.items() if value}


def connection(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the parts of a connection string."""
    text = environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    found = {key: value for key, mark, value in (part.partition("=") for part in text.split(";")) if mark}
    if found.get("UseDevelopmentStorage") == "true":
        return {"AccountName": EMULATOR, "AccountKey": EMULATOR_KEY, "BlobEndpoint": EMULATOR_ENDPOINT}
    return found


def endpoint(parts: Mapping[str, str]) -> str:
    if parts.get("BlobEndpoint"):
        return parts["BlobEndpoint"]
    if suffix := parts.get("EndpointSuffix"):
        return f"{parts.get('DefaultEndpointsProtocol', 'https')}://{parts.get('AccountName', '')}.blob.{suffix}"
    return ""


def credentials(told: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return a key, a signature or a token; nothing where the machine's own identity is to be asked.

    Raises AccessError.
    """
    if told.get("anonymous"):
        return {}
    parts = connection(environ)
    key = environ.get("AZURE_STORAGE_KEY") or environ.get("AZURE_STORAGE_ACCOUNT_KEY") or parts.get("AccountKey")
    if key:
        return {"account_key": key}
    if sas := environ.get("AZURE_STORAGE_SAS_TOKEN") or parts.get("SharedAccessSignature"):
        return {"sas_token": sas.lstrip("?")}
    program = shutil.which("az", path=environ.get("PATH"))
    return logged_in(program, environ) if program else {}


def logged_in(program: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Ask the az program for a token. Its stdout is never shown."""
    args = [program, "account", "get-access-token", "--resource", "https://storage.azure.com/", "--output", "json"]
    hint = "`az login` logs in; or set AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN"
    try:
        done = run(args, env=dict(environ), timeout_s=AZ_S, check=False)
        told = json.loads(done.stdout) if not done.returncode else {}
        ends = datetime.fromtimestamp(float(told["expires_on"]), timezone.utc)
        return {"token": told["accessToken"], "expires_at": ends.isoformat()}
    except (ProcessError, ValueError, KeyError, TypeError):
        raise AccessError("`az account get-access-token` gave no token", hint=hint) from None
