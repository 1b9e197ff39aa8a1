"""S3's settings and credentials: the AWS tools' variables and profiles."""

from __future__ import annotations

import os
from pathlib import Path

from launcher.store.access import Access
from launcher.store.backends import scheme_of


def aws_settings(url: str) -> dict[str, str]:
    if scheme_of(url) != "s3":
        return {}
    found = {}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        found["endpoint"] = endpoint
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        found["region"] = region
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        found["ca"] = Path(bundle).read_text()
    return found


def aws_credentials(access: Access) -> dict[str, str]:
    if scheme_of(access.url) != "s3" or not os.environ.get("AWS_ACCESS_KEY_ID"):
        return {}
    found = {
        "access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
        "secret_access_key": os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
    }
    if token := os.environ.get("AWS_SESSION_TOKEN"):
        found["session_token"] = token
    return found
