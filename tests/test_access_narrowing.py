"""Credentials for one run: what a narrowed session may do on a server that checks rights, and what is said without."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from launcher import records, store
from launcher.access import google_boundary, sts
from launcher.access.narrowing import for_run, narrowed
from launcher.errors import AccessError, ObjectExistsError, ObjectMissingError, UnreachableError
from launcher.store.access import Access
from launcher.store.objects import Store
from tests.object_stores import ObjectStore, WithUsers, forget_settings

JOB = {"run": "mine", "name": "n"}
TOKEN = "a-token-of-the-person"


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_settings(monkeypatch)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))


def access_of(bucket: ObjectStore, below: str = "") -> Access:
    return Access(bucket.url + below, bucket.settings)


def session(bucket: ObjectStore, below: str = "", run: str = "mine") -> Store:
    """Open a bucket with credentials for one run."""
    found = for_run(access_of(bucket, below), run)
    assert found is not None and found.narrow and found.note is None
    assert found.secrets["secret_access_key"] != bucket.secret and found.secrets["session_token"]
    return store.open(access_of(bucket, below), lambda: found.secrets)


@pytest.mark.parametrize("below", ["", "/some/folder"])
def test_a_session_serves_its_run_and_opens_no_other(
    s3_with_users: WithUsers, below: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3_with_users.use(monkeypatch)
    whole = store.open(access_of(s3_with_users, below), lambda: s3_with_users.credentials)
    for run in ("mine", "mine-too", "other"):
        whole.put(f"runs/{run}/job.json", run.encode())
    mine = session(s3_with_users, below)
    assert mine.get("runs/mine/job.json") == b"mine"
    assert [entry.key for entry in mine.list("runs/mine/")] == ["runs/mine/job.json"]
    mine.create("runs/mine/record.json", b"{}")
    with pytest.raises(ObjectExistsError):
        mine.create("runs/mine/record.json", b"other")
    (tmp_path / "big").write_bytes(bytes(9 << 20))
    mine.put_file("runs/mine/blobs/big", tmp_path / "big")
    mine.get_file("runs/mine/blobs/big", tmp_path / "again")
    assert (tmp_path / "again").stat().st_size == 9 << 20
    assert abs((mine.now() - datetime.now(timezone.utc)).total_seconds()) < 60
    mine.delete_many(["runs/mine/record.json", "runs/mine/blobs/big"])
    assert [entry.key for entry in whole.list("runs/mine/")] == ["runs/mine/job.json"]
    for refused in (
        lambda: mine.get("runs/other/job.json"),
        lambda: mine.get("runs/mine-too/job.json"),
        lambda: mine.list("runs/other/"),
        lambda: mine.list("runs/"),
        lambda: mine.list(),
        lambda: mine.put("runs/other/job.json", b"x"),
        lambda: mine.create("runs/mine-too/record.json", b"x"),
        lambda: mine.put("artifacts/sha256/aa/aaaa", b"x"),
        lambda: mine.delete("runs/other/job.json"),
        lambda: mine.delete_many(["runs/other/job.json", "runs/mine-too/job.json"]),
    ):
        with pytest.raises(AccessError):
            refused()
    assert whole.get("runs/other/job.json") == b"other" and whole.get("runs/mine-too/job.json") == b"mine-too"


def test_a_session_is_told_what_is_missing(s3_with_users: WithUsers, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 refuses to say so to whom it doesn't let list the bucket: a runner often asks for such."""
    s3_with_users.use(monkeypatch)
    mine = session(s3_with_users)
    mine.put("runs/mine/a-there", b"x")
    mine.put("runs/mine/a-thez", b"x")
    assert not mine.exists("runs/mine/a-therf") and mine.exists("runs/mine/a-there")
    with pytest.raises(ObjectMissingError):
        mine.get("runs/mine/record.json")
    with pytest.raises(ObjectMissingError):
        list(mine.stream("runs/mine/heartbeats/0001.json"))
    assert dict(mine.get_many(["runs/mine/no", "runs/mine/a-there"])) == {
        "runs/mine/no": None,
        "runs/mine/a-there": b"x",
    }


def test_a_session_begins_the_attempts_of_its_run(s3_with_users: WithUsers, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the host side of a box does with a store: queue an attempt, read a record, end one for the dead."""
    s3_with_users.use(monkeypatch)
    mine = session(s3_with_users)
    assert records.submit(mine, JOB) and records.submit(mine, JOB, attempt=2) and not records.submit(mine, JOB)
    records.withdraw(mine, "mine", 2)
    assert records.end_for_dead(mine, "mine", 1, "it was lost")
    assert records.load(mine, "mine").attempts
    with pytest.raises(AccessError):
        records.submit(mine, {"run": "other"})


def test_a_role_is_assumed_where_one_is_named(
    s3_with_users: WithUsers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3_with_users.use(monkeypatch)
    iam = s3_with_users.client("iam")
    version = {"Version": "2012-10-17"}
    trust = version | {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}]}
    made = iam.create_role(RoleName="runs", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    rights = version | {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_role_policy(RoleName="runs", PolicyName="all", PolicyDocument=json.dumps(rights))
    iam.close()
    (tmp_path / "config" / "launcher").mkdir(parents=True)
    told = f'[store."{s3_with_users.url}"]\nrole = "{made}"\n'
    (tmp_path / "config" / "launcher" / "config.toml").write_text(told)
    mine = session(s3_with_users)
    mine.put("runs/mine/a", b"x")
    with pytest.raises(AccessError):
        mine.put("runs/other/a", b"x")


def test_temporary_credentials_are_passed_on_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"AWS_ACCESS_KEY_ID": "ASIAX", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    found = for_run(Access("s3://bucket", {}), "mine")
    assert found is not None and not found.narrow and found.secrets["session_token"] == "t"
    assert found.note and "temporary credentials" in found.note and "'t'" not in repr(found)


def test_a_server_without_sessions_is_told_of(rclone_s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rclone_s3.use(monkeypatch)
    found = for_run(access_of(rclone_s3), "mine")
    assert found is not None and not found.narrow and dict(found.secrets) == rclone_s3.credentials
    assert found.note and "was refused" in found.note and rclone_s3.secret not in found.note + repr(found)


def test_a_cloud_that_is_silent_is_no_reason_to_give_away_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of one's own may have no sessions at all."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "AKIDX")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="can't be asked"):
        for_run(Access("s3://bucket"), "mine")
    found = for_run(Access("s3://bucket", {"endpoint": "http://127.0.0.1:9"}), "mine")
    assert found is not None and not found.narrow and "can't be asked" in str(found.note)


def test_a_folder_needs_no_credentials(tmp_path: Path) -> None:
    assert for_run(Access(str(tmp_path)), "mine") is None


def test_a_policy_reads_names_as_they_are() -> None:
    told = sts.policy(Access("s3://b/a*b", {}), "r?$x")
    own = told["Statement"][0]["Resource"]
    assert own == "arn:aws:s3:::b/a${*}b/runs/r%3F${$}x/*"
    assert len(json.dumps(sts.policy(Access("s3://" + "b" * 63 + "/" + "p" * 100, {}), "r" * 60))) < 2048


def test_requests_are_signed_as_the_cloud_has_it() -> None:
    """The signature is botocore's: an opinion that is not ours."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    own = {"access_key_id": "AKID", "secret_access_key": "se/cret", "session_token": "tok+en"}
    url, body, now = (
        "https://sts.eu-west-1.amazonaws.com/",
        b"Action=AssumeRole",
        datetime(2026, 1, 2, tzinfo=timezone.utc),
    )
    ours = sts.signed(url, body, own, "eu-west-1", now)
    request = AWSRequest("POST", url, data=body, headers={"content-type": ours["content-type"]})
    request.headers["X-Amz-Date"] = request.context["timestamp"] = "20260102T000000Z"
    request.headers["X-Amz-Security-Token"] = own["session_token"]
    judge = SigV4Auth(Credentials("AKID", "se/cret", "tok+en"), "sts", "eu-west-1")
    text = judge.string_to_sign(request, judge.canonical_request(request))
    assert ours["authorization"].endswith("Signature=" + judge.signature(text, request))


class Cloud:
    """A server that answers every POST with one text, and remembers the bodies."""

    def __init__(self, answer: bytes) -> None:
        asked: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                return

        self.asked, self.server = asked, HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Cloud:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with Cloud(json.dumps({"access_token": "bound", "expires_in": 3599}).encode()) as cloud:
        monkeypatch.setattr(google_boundary, "EXCHANGE", cloud.url)
        yield cloud


def test_google_binds_a_token_to_the_run(google: Cloud) -> None:
    found = narrowed(Access("gs://bucket/some'where", {}), "mine", {"token": TOKEN})
    assert found is not None and found.narrow and found.secrets["token"] == "bound" and found.expires_at
    [asked] = [{name: value for name, [value] in parse_qs(body.decode()).items()} for body in google.asked]
    [rule] = json.loads(asked["options"])["accessBoundary"]["accessBoundaryRules"]
    assert asked["subject_token"] == TOKEN and rule["availablePermissions"] == ["inRole:roles/storage.objectAdmin"]
    said = rule["availabilityCondition"]["expression"]
    assert r"startsWith('projects/_/buckets/bucket/objects/some\'where/runs/mine/')" in said
    assert r"objectListPrefix', '').startsWith('some\'where/runs/mine/')" in said


def test_google_s_service_account_signs_for_its_token(google: Cloud) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    key = rsa.generate_private_key(65537, 2048)
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    kept = {"client_email": "a@example.org", "token_uri": google.url, "private_key": key.private_bytes(*kinds).decode()}
    found = narrowed(Access("gs://bucket", {}), "mine", {"service_account_key": json.dumps(kept)})
    assert found is not None and found.secrets["token"] == "bound" and len(google.asked) == 2
    head, claims, signature = parse_qs(google.asked[0].decode())["assertion"][0].split(".")
    key.public_key().verify(unpadded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), SHA256())
    assert json.loads(unpadded(claims))["iss"] == "a@example.org"


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_azure_signs_for_the_container_and_says_so() -> None:
    key = base64.b64encode(b"an-account-key").decode()
    found = narrowed(Access("az://box/below", {"account": "acc"}), "mine", {"account_key": key})
    assert found is not None and not found.narrow and "whole container box" in str(found.note) and found.expires_at
    told = {name: value for name, [value] in parse_qs(found.secrets["sas_token"]).items()}
    lines = ["rcwdl", told["st"], told["se"], "/blob/acc/box", "", "", "", "2020-12-06", "c", *[""] * 7]
    expected = base64.b64encode(hmac.digest(b"an-account-key", "\n".join(lines).encode(), hashlib.sha256)).decode()
    assert told["sig"] == expected and key not in repr(found)


def test_azure_s_login_is_given_a_key_that_signs() -> None:
    names = ("SignedOid", "SignedTid", "SignedStart", "SignedExpiry", "SignedService", "SignedVersion")
    value = base64.b64encode(b"delegated").decode()
    parts = "".join(f"<{name}>{name.lower()}</{name}>" for name in names) + f"<Value>{value}</Value>"
    with Cloud(f"<?xml version='1.0'?><UserDelegationKey>{parts}</UserDelegationKey>".encode()) as cloud:
        access = Access("az://box", {"account": "acc", "endpoint": cloud.url})
        found = narrowed(access, "mine", {"token": TOKEN})
    assert found is not None and TOKEN not in found.secrets["sas_token"] and b"<Expiry>" in cloud.asked[0]
    told: dict[str, Any] = parse_qs(found.secrets["sas_token"])
    assert told["skoid"] == ["signedoid"] and told["sr"] == ["c"] and told["sig"]
