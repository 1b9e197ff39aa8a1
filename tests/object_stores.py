"""Object stores that the tests start for themselves on loopback: moto (a light mock), the same with users, rclone.

moto is atomic only as tests/moto_server.py makes it, and checks no secret unless it has users; what must hold on a
real server is tested on Ceph's radosgw (tests/services/ceph.py). All that moto keeps lies in its memory: `s3` resets
it, so keep objects small.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.fault_proxy import Proxy
from tests.patience import LONG_S
from tests.registries import free_port

REGION = "us-east-1"
# what the machine's environment may say of object storage, none of which is meant for the tests
SETTINGS = ("AWS_", "GOOGLE_", "AZURE_", "STORAGE_EMULATOR_HOST", "SSL_CERT_", "CLOUDSDK_")
READ_ONLY = ("s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation")


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """A bucket on a server, and who may use it."""

    endpoint: str
    bucket: str
    key: str = "AKIDTESTSEXAMPLE0001"
    secret: str = "secret/of+the=tests"
    token: str | None = None

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which AWS's tools are told of it, and that keep them from the machine's own settings."""
        found = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        return {**found, **({"AWS_SESSION_TOKEN": self.token} if self.token else {})}

    @property
    def settings(self) -> dict[str, str]:
        """What launcher.store.access.Access calls its settings."""
        return {"endpoint": self.endpoint, "region": REGION, "style": "path"}

    @property
    def credentials(self) -> dict[str, str]:
        found = {"access_key_id": self.key, "secret_access_key": self.secret}
        return {**found, **({"session_token": self.token} if self.token else {})}

    def client(self, service: str = "s3") -> Any:
        """Return boto3's client: an opinion that is not ours."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            aws_session_token=self.token,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """Let this process and all that it starts find it."""
        for name, value in self.environment.items():
            patch.setenv(name, value)

    def write_secrets(self, path: Path) -> Path:
        """Write the file of credentials that a runner reads."""
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(self.credentials))
        part.chmod(0o600)
        return part.rename(path)


@dataclass(frozen=True, kw_only=True)
class Faulty(ObjectStore):
    """A bucket behind a proxy that can be told to fail."""

    proxy: Proxy
    direct: ObjectStore


def behind(store: ObjectStore, proxy: Proxy) -> Faulty:
    """Return the same bucket as it is seen through a proxy."""
    told = {name: getattr(store, name) for name in ("bucket", "key", "secret", "token")}
    return Faulty(endpoint=proxy.endpoint, proxy=proxy, direct=store, **told)


def forget_settings(patch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(SETTINGS):
            patch.delenv(name)


def new_bucket(server: ObjectStore) -> ObjectStore:
    """Make a bucket of its own on the server."""
    store = replace(server, bucket=f"bucket-{secrets.token_hex(4)}")
    client = store.client()
    client.create_bucket(Bucket=store.bucket)
    client.close()
    return store


@contextlib.contextmanager
def started(args: list[str], endpoint: str, log: Path, env: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run a server until the end of the block; give its process id once it listens."""
    with log.open("wb") as out:
        server = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
    try:
        wait_until_it_listens(endpoint, server, log)
        yield server.pid
    finally:
        server.kill()  # nothing of it is to be kept
        server.wait(10)


def wait_until_it_listens(endpoint: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """A request would be counted as one of a moto's first."""
    host, _, port = endpoint.partition("://")[2].rpartition(":")
    until = time.monotonic() + LONG_S
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"{endpoint} did not start:\n" + log.read_text(errors="replace")[-2000:])


@contextlib.contextmanager
def moto(folder: Path, host: str = "127.0.0.1", **environment: str) -> Iterator[ObjectStore]:
    """Run a moto server of one's own until the end of the block; the bucket is yet to be made. `host` is the address
    that it listens on."""
    if importlib.util.find_spec("moto") is None:
        pytest.skip("needs moto (the dependency group `dev`)")
    port = free_port()
    endpoint = f"http://{host}:{port}"
    args = [sys.executable, "-I", str(Path(__file__).with_name("moto_server.py")), "-H", host, "-p", str(port)]
    env = {**{k: v for k, v in os.environ.items() if not k.startswith(SETTINGS)}, **environment}
    with started(args, endpoint, folder / f"moto-{port}.log", env):
        yield ObjectStore(endpoint=endpoint, bucket="")


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[ObjectStore]:
    """Run `rclone serve s3`, which overwrites where it was asked to create only: a store that launcher must refuse."""
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("needs rclone (the dependency group `dev`)")
    (folder / "data").mkdir()
    store = ObjectStore(endpoint=f"http://127.0.0.1:{free_port()}", bucket="")
    address = store.endpoint.removeprefix("http://")
    args = [program, "serve", "s3", "--addr", address, "--auth-key", f"{store.key},{store.secret}"]
    args += ["--config", os.devnull, "--no-cleanup", str(folder / "data")]
    with started(args, store.endpoint, folder / "rclone.log"):
        yield new_bucket(store)


def clear(store: ObjectStore) -> None:
    """Let a server forget what a test left: its memory is small. A moto forgets all its buckets at once."""
    try:
        request = urllib.request.Request(store.endpoint + "/moto-api/reset", method="POST")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).close()
    except urllib.error.HTTPError as e:  # no moto
        e.close()
        empty(store)


def empty(store: ObjectStore) -> None:
    client = store.client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket):
        if there := [{"Key": entry["Key"]} for entry in page.get("Contents", ())]:
            client.delete_objects(Bucket=store.bucket, Delete={"Objects": there})
    for upload in client.list_multipart_uploads(Bucket=store.bucket).get("Uploads", ()):
        client.abort_multipart_upload(Bucket=store.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    client.close()


@dataclass(frozen=True, kw_only=True)
class WithUsers(ObjectStore):
    """A bucket of a server that knows its users; this one may do everything."""

    def user(self, name: str, actions: tuple[str, ...]) -> ObjectStore:
        """Make a user who may do some things; return the bucket as that one sees it."""
        name = f"{name}-{secrets.token_hex(3)}"  # a server outlives a test
        iam = self.client("iam")
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=json.dumps(policy))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        iam.close()
        found = ObjectStore(endpoint=self.endpoint, bucket=self.bucket)
        return replace(found, key=made["AccessKeyId"], secret=made["SecretAccessKey"])

    @property
    def read_only(self) -> ObjectStore:
        return self.user("reader", READ_ONLY)

    @property
    def wrong(self) -> ObjectStore:
        """The bucket as one sees it whose secret has a mistake."""
        return ObjectStore(endpoint=self.endpoint, bucket=self.bucket, key=self.key, secret="wrong/secret")


def admin(server: ObjectStore) -> ObjectStore:
    one = WithUsers(endpoint=server.endpoint, bucket="").user("admin", ("*",))
    return replace(server, key=one.key, secret=one.secret)
