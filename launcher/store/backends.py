"""Opens obstore's stores: a folder, memory, S3 and what speaks it, Google Cloud Storage, Azure Blob Storage."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from obstore.store import ClientConfig, ObjectStore, RetryConfig

    from launcher.store.access import Access
    from launcher.store.credentials import Credentials

OBJECT_SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "azure": "az"}
CONNECT_S, READ_S = 5, 30  # without an answer, or a piece of one, for so long a connection is given up
RETRIES, RETRY_S = 3, 45  # within a call; who wants more patience waits outside
OURS_AT_MOST_S = 330.0  # obstore asks for credentials again from 300 s before they end


def scheme_of(url: str) -> str:
    """Return "s3", "gs" or "az", or "" when a URL or path is none of them."""
    return OBJECT_SCHEMES.get(url.partition("://")[0], "") if "://" in url else ""


def bucket_of(url: str) -> tuple[str, str]:
    """Return (bucket, prefix) of a URL."""
    bucket, _, prefix = url.partition("://")[2].partition("/")
    return bucket, prefix.strip("/")


def backend(access: Access, folder: str | None, credentials: Credentials | None) -> ObjectStore:
    """Open what an Access names; nothing is asked of a server yet. Raises obstore's own errors."""
    from obstore.store import MemoryStore

    from launcher.store.folder import Folder

    builders = {"s3": s3, "gs": google, "az": azure}
    if folder is not None:
        make(folder)
        return Folder(folder)  # type: ignore[return-value]
    if build := builders.get(scheme_of(access.url)):
        return build(access, None if anonymous(access) else credentials)
    return MemoryStore()


def make(folder: str) -> None:
    """Make the folder of a store. Raises StoreError where something else is in its place, and OSError."""
    from launcher.errors import StoreError

    hint = "name a folder, or the URL of a bucket"
    try:
        os.makedirs(folder, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as e:
        raise StoreError(f"the store {folder} is no folder: a file is in its place", hint=hint) from e
    except FileNotFoundError as e:
        raise StoreError(f"the store {folder} can't be made there", hint=hint) from e


def s3(access: Access, credentials: Credentials | None) -> ObjectStore:
    """Open an S3 bucket. A custom endpoint is asked for `endpoint/bucket` unless the style is "virtual"."""
    from obstore.store import S3Store

    bucket, _ = bucket_of(access.url)
    told = access.settings
    config: dict[str, Any] = {"region": told.get("region") or "us-east-1"}
    virtual = told.get("style", "path" if told.get("endpoint") else "virtual") == "virtual" and "." not in bucket
    if endpoint := told.get("endpoint"):
        scheme, _, host = endpoint.rstrip("/").partition("://")
        # obstore wants the bucket in the endpoint of a virtual style, and takes this one before the environment's
        config["aws_endpoint_url_s3"] = f"{scheme}://{bucket}.{host}" if virtual else f"{scheme}://{host}"
    config["virtual_hosted_style_request"] = virtual
    config["conditional_put"] = told.get("conditional_put") or "etag"
    return opened(S3Store, access, config, given(credentials, s3_credential))


def google(access: Access, credentials: Credentials | None) -> ObjectStore:
    """Open a Google Cloud Storage bucket."""
    from obstore.store import GCSStore

    endpoint, secrets = access.settings.get("endpoint"), credentials.read() if credentials else {}
    config = {"base_url": endpoint.rstrip("/")} if endpoint else {}
    if "token" in secrets:
        return opened(GCSStore, access, config, given(credentials, token_credential))
    if "service_account_key" in secrets:
        config["service_account_key"] = secrets["service_account_key"]
    return opened(GCSStore, access, config, None)


def azure(access: Access, credentials: Credentials | None) -> ObjectStore:
    """Open a container of Azure Blob Storage; its account is a setting."""
    from obstore.store import AzureStore

    told = access.settings
    config = {"account_name": told["account"]} if told.get("account") else {}
    if endpoint := told.get("endpoint"):
        config["endpoint"] = endpoint.rstrip("/")
    return opened(AzureStore, access, config, given(credentials, azure_credential))


def opened(kind: Callable[..., ObjectStore], access: Access, config: dict[str, Any], provider: Any) -> ObjectStore:
    """Open a bucket of any cloud; without a provider, obstore looks for credentials by itself."""
    bucket, prefix = bucket_of(access.url)
    return kind(
        bucket,
        prefix=prefix or None,
        config={**config, "skip_signature": True} if anonymous(access) else config,
        client_options=client(access.settings),
        retry_config=retries(),
        credential_provider=provider,
    )


def anonymous(access: Access) -> bool:
    return access.settings.get("anonymous") == "true"


def client(settings: Mapping[str, str]) -> ClientConfig:
    """Return the limits of a connection, and whom it trusts besides the system."""
    options: ClientConfig = {
        "connect_timeout": f"{CONNECT_S}s",
        "read_timeout": f"{READ_S}s",
        "timeout": "1h",  # of a whole request: a slow one is no broken one
        "allow_http": settings.get("endpoint", "").startswith("http://"),
    }
    if settings.get("ca"):
        options["root_certificate"] = settings["ca"]
    return options


def retries() -> RetryConfig:
    from datetime import timedelta

    backoff = {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=5), "base": 2}
    return {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S), "backoff": backoff}  # type: ignore[typeddict-item]


def given(credentials: Credentials | None, form: Callable[[Mapping[str, str]], dict[str, Any]]) -> Any:
    """Return what obstore calls for credentials: about every half minute, so that renewed ones are seen. None when
    there are none."""
    if credentials is None or not credentials.read():
        return None

    def provide() -> dict[str, Any]:
        secrets = credentials.read()
        return {**form(secrets), "expires_at": soon(secrets.get("expires_at"))}

    return provide


def soon(expires_at: str | None) -> Any:
    """Return when obstore shall think that credentials end: never long from now."""
    from datetime import datetime, timedelta, timezone

    from launcher.store.credentials import moment

    at_most = datetime.now(timezone.utc) + timedelta(seconds=OURS_AT_MOST_S)
    if not expires_at:
        return at_most
    return min(at_most, moment(expires_at))


def s3_credential(secrets: Mapping[str, str]) -> dict[str, Any]:
    return {
        "access_key_id": secrets["access_key_id"],
        "secret_access_key": secrets["secret_access_key"],
        "token": secrets.get("session_token") or None,
    }


def token_credential(secrets: Mapping[str, str]) -> dict[str, Any]:
    return {"token": secrets["token"]}


def azure_credential(secrets: Mapping[str, str]) -> dict[str, Any]:
    if "account_key" in secrets:
        return {"access_key": secrets["account_key"]}
    if "sas_token" in secrets:
        return {"sas_token": secrets["sas_token"].lstrip("?")}
    return {"token": secrets["token"]}
