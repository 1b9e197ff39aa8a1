"""What the tests of object storage stand on: the servers are what they say, and the proxy does what it is told."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from tests.object_stores import Faulty, ObjectStore, WithUsers

DATA = bytes(range(256)) * 400
SIGNED = "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
BROKEN = (OSError, http.client.HTTPException)


def ask(store: ObjectStore, method: str, key: str, data: bytes | None = None) -> Any:
    """Ask without retries, so that what is seen is what happened."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    head = {"Content-Type": "application/octet-stream", "Authorization": SIGNED}  # moto reads a form otherwise, slowly
    place = f"{store.endpoint}/{store.bucket}/{key}"
    request = urllib.request.Request(place, data=data, method=method, headers=head)
    with opener.open(request, timeout=20) as answer:
        return answer.read(), answer.headers


def test_a_fresh_bucket_takes_and_gives(s3: ObjectStore) -> None:
    client = s3.client()
    assert "Contents" not in client.list_objects_v2(Bucket=s3.bucket)
    client.put_object(Bucket=s3.bucket, Key="a", Body=DATA)
    assert client.get_object(Bucket=s3.bucket, Key="a")["Body"].read() == DATA
    client.close()


def test_users_have_the_rights_that_they_were_given(s3_with_users: WithUsers) -> None:
    admin, reader, wrong = (s.client() for s in (s3_with_users, s3_with_users.read_only, s3_with_users.wrong))
    place = {"Bucket": s3_with_users.bucket, "Key": "a"}
    admin.put_object(**place, Body=b"x")
    assert reader.get_object(**place)["Body"].read() == b"x"
    for client, code in ((reader, "AccessDenied"), (wrong, "SignatureDoesNotMatch")):
        with pytest.raises(ClientError) as told:
            client.put_object(**place, Body=b"y")
        assert told.value.response["Error"]["Code"] == code
    for client in (admin, reader, wrong):
        client.close()


@pytest.mark.services
def test_rclone_overwrites_where_it_was_asked_to_create(rclone_s3: ObjectStore) -> None:
    client = rclone_s3.client()
    for data in (b"first", b"second"):
        client.put_object(Bucket=rclone_s3.bucket, Key="a", Body=data, IfNoneMatch="*")
    assert client.get_object(Bucket=rclone_s3.bucket, Key="a")["Body"].read() == b"second"
    client.close()


def test_without_faults_the_proxy_changes_nothing(faulty_s3: Faulty) -> None:
    client = faulty_s3.client()
    client.put_object(Bucket=faulty_s3.bucket, Key="a", Body=DATA)
    assert client.get_object(Bucket=faulty_s3.bucket, Key="a")["Body"].read() == DATA
    client.close()
    proxy = faulty_s3.proxy
    assert proxy.up >= len(DATA) and proxy.down >= len(DATA) and proxy.seen == {"PUT": 1, "GET": 1}


def test_the_proxy_carries_many_at_once(faulty_s3: Faulty) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: ask(faulty_s3, "PUT", f"k{n}", DATA * 4), range(48)))
        assert all(data == DATA * 4 for data, _ in pool.map(lambda n: ask(faulty_s3, "GET", f"k{n}"), range(48)))


def test_a_request_is_cut(faulty_s3: Faulty) -> None:
    faulty_s3.proxy.fault("cut-request", only="^PUT", after=1000, times=1)
    with pytest.raises(BROKEN):
        ask(faulty_s3, "PUT", "a", DATA)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        ask(faulty_s3, "GET", "a")
    ask(faulty_s3, "PUT", "a", DATA)
    assert ask(faulty_s3, "GET", "a")[0] == DATA


def test_an_answer_is_lost_although_the_server_did_it(faulty_s3: Faulty) -> None:
    faulty_s3.proxy.fault("cut-response", only="^PUT")
    with pytest.raises(BROKEN):
        ask(faulty_s3, "PUT", "a", DATA)
    assert ask(faulty_s3, "GET", "a")[0] == DATA


def test_a_download_is_cut(faulty_s3: Faulty) -> None:
    ask(faulty_s3, "PUT", "a", DATA)
    faulty_s3.proxy.fault("cut-response", only="^GET", after=5000)
    with pytest.raises(BROKEN):
        ask(faulty_s3, "GET", "a")


def test_an_error_is_answered_a_given_number_of_times(faulty_s3: Faulty) -> None:
    slow = faulty_s3.proxy.fault("answer", status=503, code="SlowDown", times=2, skip=1)
    ask(faulty_s3, "PUT", "a", b"x")
    for _ in range(2):
        with pytest.raises(urllib.error.HTTPError, match="503") as told:
            ask(faulty_s3, "PUT", "a", DATA)
        assert b"<Code>SlowDown</Code>" in told.value.read()
    assert ask(faulty_s3, "GET", "a")[0] == b"x" and slow.done == 2


@pytest.mark.parametrize("kind", ["flip-request", "flip-response"])
def test_a_bit_is_flipped(faulty_s3: Faulty, kind: Any) -> None:
    faulty_s3.proxy.fault(kind, only="^PUT" if kind == "flip-request" else "^GET", after=70_000)
    ask(faulty_s3, "PUT", "a", DATA)
    got = ask(faulty_s3, "GET", "a")[0]
    assert [n for n in range(len(DATA)) if got[n] != DATA[n]] == [70_000]
    assert (ask(faulty_s3.direct, "GET", "a")[0] == DATA) == (kind == "flip-response")


@pytest.mark.alone
def test_a_stall(faulty_s3: Faulty) -> None:
    ask(faulty_s3, "PUT", "a", b"x")
    faulty_s3.proxy.fault("stall", seconds=0.4, times=1)
    took = []
    for _ in range(2):
        before = time.monotonic()
        ask(faulty_s3, "GET", "a")
        took.append(time.monotonic() - before)
    assert took[0] >= 0.4 > took[1]


def test_a_wrong_clock(faulty_s3: Faulty) -> None:
    faulty_s3.proxy.fault("skew", seconds=-7200)
    headers = ask(faulty_s3, "PUT", "a", b"x")[1]
    behind_s = (datetime.now(timezone.utc) - parsedate_to_datetime(headers["Date"])).total_seconds()
    assert 7190 < behind_s < 7210


def test_connections_are_refused_and_taken_again(faulty_s3: Faulty) -> None:
    client = faulty_s3.client()
    client.put_object(Bucket=faulty_s3.bucket, Key="a", Body=b"x")
    faulty_s3.proxy.refuse()
    with pytest.raises(EndpointConnectionError):
        client.get_object(Bucket=faulty_s3.bucket, Key="a")
    faulty_s3.proxy.listen()
    assert client.get_object(Bucket=faulty_s3.bucket, Key="a")["Body"].read() == b"x"
    client.close()


def test_the_same_seed_gives_the_same_faults(s3: ObjectStore) -> None:
    from tests.fault_proxy import fault_proxy

    def run(seed: int) -> list[str]:
        with fault_proxy(s3.endpoint, seed=seed) as proxy:
            proxy.fault("answer", chance=0.3)
            for number in range(40):
                try:
                    ask(ObjectStore(endpoint=proxy.endpoint, bucket=s3.bucket), "PUT", f"k{number}", b"x")
                except urllib.error.HTTPError as e:
                    e.close()
            return proxy.log

    assert run(1) == run(1) != run(2)
    assert 4 <= len(run(1)) <= 22
