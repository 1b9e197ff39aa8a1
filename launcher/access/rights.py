"""What launcher asks of a store, what that right is called there, and what it is needed for.

Sources: "Actions, resources, and condition keys for Amazon S3"; "IAM permissions for Cloud Storage"; "Azure built-in
roles for Storage".
"""

from __future__ import annotations

from typing import NamedTuple


class Right(NamedTuple):
    """Names of one right by scheme, and what launcher does with it."""

    s3: str
    gs: str
    az: str
    purpose: str


READER, WRITER = "Storage Blob Data Reader", "Storage Blob Data Contributor"
RIGHTS = {
    "list": Right("s3:ListBucket", "storage.objects.list", READER, "launcher finds runs, logs and checkpoints by it"),
    "write": Right("s3:PutObject", "storage.objects.create", WRITER, "every log, checkpoint and record is written"),
    "read": Right("s3:GetObject", "storage.objects.get", READER, "runs are resumed and shown by it"),
    "overwrite": Right("s3:PutObject", "storage.objects.delete", WRITER, "a run's sign of life is written over"),
    "multipart": Right("s3:PutObject", "storage.multipartUploads.create", WRITER, "big files go in parts"),
    "delete": Right(
        "s3:DeleteObject", "storage.objects.delete", WRITER, "`keep` and `launcher vault gc` free space with it"
    ),
}


# Which of them a probe of `launcher store check` was refused for.
NEEDED = {"ranges": "read", "after": "list", "create": "write", "race": "write", "clock": "write", "latency": "write"}


def missing(scheme: str, probe: str) -> str:
    """Name the right that a probe was refused for, and what for; "" for a folder, which has no such names."""
    right = RIGHTS.get(NEEDED.get(probe, probe), RIGHTS["write"])
    named = {"s3": right.s3, "gs": right.gs, "az": f"the role {right.az}"}.get(scheme)
    return f"{named} is missing: {right.purpose}" if named else ""
