"""What a server or the network says becomes one error of ours: the right class, in words, with what to do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from launcher import store as stores
from launcher.errors import (
    AccessError,
    DiskFullError,
    LauncherError,
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
    UnreachableError,
)
from launcher.store import backends
from launcher.store.access import Access
from launcher.store.objects import Store
from tests.certificates import Certificate
from tests.fault_proxy import fault_proxy
from tests.object_stores import Faulty, ObjectStore, WithUsers, forget_settings
from tests.registries import free_port

SECRET = "a-secret-of-the-tests"
BODY = "<?xml version='1.0'?><Error><Code>{}</Code><Message>as told</Message></Error>"


class Stubborn(ThreadingHTTPServer):
    """Answers every request with one status and error code."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.status, self.code, self.requests = 200, "", 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Stubborn

    def answer(self) -> None:
        self.server.requests += 1
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = BODY.format(self.server.code).encode() if self.server.code and self.command != "HEAD" else b""
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def stubborn() -> Iterator[Stubborn]:
    server = Stubborn()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine's settings, and no tries within a call."""
    forget_settings(monkeypatch)
    monkeypatch.setattr(backends, "RETRIES", 0)


def at(endpoint: str, url: str = "s3://bucket/below", **settings: str) -> Store:
    told = {"endpoint": endpoint, "region": "eu-test-1", "style": "path", **settings}
    return stores.open(Access(url, told), lambda: {"access_key_id": "AKIDTESTS", "secret_access_key": SECRET})


def refused(ask: Callable[[], object]) -> LauncherError:
    with pytest.raises(LauncherError) as caught:
        ask()
    said = str(caught.value)
    assert SECRET not in said and SECRET not in repr(caught.value)
    assert "Debug source" not in said and "<Error>" not in said
    return caught.value


KINDS = [
    (403, "AccessDenied", AccessError, "don't have the right", "store check"),
    (403, "InvalidAccessKeyId", AccessError, "access key is not known", "profile or the variables"),
    (403, "SignatureDoesNotMatch", AccessError, "secret does not fit", "profile or the variables"),
    (400, "ExpiredToken", AccessError, "has expired", "log in again"),
    (400, "InvalidToken", AccessError, "token was refused", "log in again"),
    (403, "RequestTimeTooSkewed", AccessError, "clock", "set the clock"),
    (404, "NoSuchBucket", AccessError, "no such bucket", "misspelt"),
    (301, "PermanentRedirect", AccessError, "another region", "AWS_REGION"),
    (400, "AuthorizationHeaderMalformed", AccessError, "another region", "eu-test-1"),
    (401, "Unauthorized", AccessError, "credentials were refused", "right key"),
    (503, "SlowDown", UnreachableError, "patience", "later"),
    (429, "", UnreachableError, "patience", "later"),
    (500, "InternalError", UnreachableError, "in trouble", "trying again"),
    (502, "", UnreachableError, "in trouble", "trying again"),
    (408, "RequestTimeout", UnreachableError, "waited too long", "trying again"),
    (409, "OperationAborted", UnreachableError, "another request", "trying again"),
    (507, "InsufficientStorage", DiskFullError, "no space", "free some"),
    (403, "QuotaExceeded", DiskFullError, "no space", "free some"),
    (501, "NotImplemented", StoreError, "can't do this", "store check"),
    (400, "EntityTooLarge", StoreError, "as told", None),
]


@pytest.mark.parametrize(("status", "code", "kind", "says", "hint"), KINDS, ids=[f"{k[0]}-{k[1]}" for k in KINDS])
def test_answers_become_errors(
    stubborn: Stubborn, status: int, code: str, kind: type[LauncherError], says: str, hint: str | None
) -> None:
    stubborn.status, stubborn.code = status, code
    store = at(stubborn.endpoint)
    for ask in (lambda: store.put("a", b"x"), lambda: store.create("a", b"x"), lambda: store.get("a"), store.list):
        error = refused(ask)
        assert type(error) is kind
        assert says in str(error) and "s3://bucket/below" in str(error)
        assert (hint or "") in str(error)


def test_a_head_says_less_and_is_understood(stubborn: Stubborn) -> None:
    store = at(stubborn.endpoint)
    for status, kind in ((403, AccessError), (400, AccessError), (404, ObjectMissingError), (503, UnreachableError)):
        stubborn.status = status
        assert type(refused(lambda: store.size("a"))) is kind


def test_a_conflict_is_asked_again_and_is_no_winner(stubborn: Stubborn) -> None:
    """S3 answers 409 when two conditional writes meet: that tells of no object that is there."""
    stubborn.status, stubborn.code = 409, "ConditionalRequestConflict"
    error = refused(lambda: at(stubborn.endpoint).create("a", b"x"))
    assert isinstance(error, UnreachableError) and not isinstance(error, ObjectExistsError)
    assert stubborn.requests == 3


def test_a_dead_endpoint_and_an_unknown_host() -> None:
    error = refused(lambda: at(f"http://127.0.0.1:{free_port()}").list())
    assert type(error) is UnreachableError and "connection was refused" in str(error)
    error = refused(lambda: at("http://no-such-host.invalid").put("a", b""))
    assert type(error) is UnreachableError
    assert "no-such-host.invalid" in str(error)


def test_a_connection_that_breaks_or_stalls(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "READ_S", 1)
    with fault_proxy(s3.endpoint) as proxy:
        store = at(proxy.endpoint, s3.url)
        store.put("a", b"x" * 300_000)
        proxy.fault("cut-response", after=1000)
        error = refused(lambda: store.get("a"))
        assert type(error) is UnreachableError and "broke" in str(error)
        proxy.refuse()
        assert type(refused(lambda: store.get("a"))) is UnreachableError
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        error = refused(lambda: at(f"http://127.0.0.1:{silent.getsockname()[1]}").get("a"))
        assert type(error) is UnreachableError and "in time" in str(error)
        assert time.monotonic() - began < 25


def test_a_certificate_that_nobody_knows(s3: ObjectStore, certificate: Certificate) -> None:
    with fault_proxy(s3.endpoint, tls=certificate.server) as proxy:
        endpoint = proxy.endpoint.replace("http://", "https://")
        error = refused(lambda: at(endpoint, s3.url).list())
        assert type(error) is AccessError and "certificate" in str(error) and "AWS_CA_BUNDLE" in str(error)
        store = at(endpoint, s3.url, ca=certificate.path.read_text())
        store.put("a", b"x")
        assert store.get("a") == b"x"


def test_tls_is_not_spoken_there(stubborn: Stubborn) -> None:
    error = refused(lambda: at(stubborn.endpoint.replace("http", "https")).list())
    assert type(error) is AccessError and "write http://" in str(error)


def test_rights_and_secrets_on_a_server_with_users(s3_with_users: WithUsers) -> None:
    def opened(view: ObjectStore) -> Store:
        return stores.open(Access(view.url, view.settings), lambda: view.credentials)

    error = refused(lambda: opened(s3_with_users.wrong).put("a", b""))
    assert type(error) is AccessError and "SignatureDoesNotMatch" in str(error)
    reader = opened(s3_with_users.read_only)
    assert reader.list() == []
    error = refused(lambda: reader.put("a", b""))
    assert type(error) is AccessError and "the right" in str(error)


def test_renewed_credentials_heal_an_open_store(s3_with_users: WithUsers, tmp_path: Path) -> None:
    secrets = s3_with_users.wrong.write_secrets(tmp_path / "secrets.json")
    store = stores.open(Access(s3_with_users.url, s3_with_users.settings, str(secrets)))
    assert type(refused(lambda: store.put("a", b"1"))) is AccessError
    assert type(refused(lambda: store.put("a", b"1"))) is AccessError
    s3_with_users.write_secrets(secrets)
    store.put("a", b"2")
    secrets.unlink()  # away for a moment, as a mount may be
    assert store.get("a") == b"2"
    assert s3_with_users.secret not in repr(vars(store)) + repr(store)


def test_all_threads_see_renewed_credentials(s3_with_users: WithUsers, tmp_path: Path) -> None:
    secrets = s3_with_users.wrong.write_secrets(tmp_path / "secrets.json")
    store = stores.open(Access(s3_with_users.url, s3_with_users.settings, str(secrets)))
    assert type(refused(lambda: store.put("a", b"1"))) is AccessError
    s3_with_users.write_secrets(secrets)
    store.put_many((f"many/{n}", b"") for n in range(40))
    assert len(store.list("many/")) == 40


def test_secrets_that_can_not_be_read_are_told_without_them(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text(f'{{"secret_access_key": "{SECRET}", "expires": 5}}')
    access = Access("s3://bucket", {"endpoint": "http://127.0.0.1:1"}, str(tmp_path / "secrets"))
    error = refused(lambda: stores.open(access))
    assert isinstance(error, AccessError) and "can't be read" in str(error)
    access.secrets = str(tmp_path / "nothing")
    assert "nothing can't be read" in str(refused(lambda: stores.open(access)))


def test_a_damaged_upload_is_refused_by_the_signature(faulty_s3: Faulty) -> None:
    """Every part is signed with its digest, so a server that checks it takes no bytes that changed on their way."""
    store = at(faulty_s3.endpoint, faulty_s3.url)
    faulty_s3.proxy.fault("flip-request", only="PUT", after=5000)
    error = refused(lambda: store.put("a", b"x" * 100_000))
    assert type(error) is UnreachableError and "damaged on its way" in str(error)
    faulty_s3.proxy.clear()
    assert not store.exists("a")
