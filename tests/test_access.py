"""How this machine reaches a store: launcher's config file, variables, profiles, and what they call."""

from __future__ import annotations

import json
import stat
import sys
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from launcher import access
from launcher.access.lasting import Lasting, lasts
from launcher.errors import AccessError, StoreError
from launcher.store.access import Access, read_secrets
from tests.object_stores import ObjectStore, WithUsers, forget_settings

SECRET = "a-secret-that-nobody-sees"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDVARIABLE", "AWS_SECRET_ACCESS_KEY": SECRET}


class Machine:
    """A home without settings, and files to put there."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home, self.patch = home, patch

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self.patch.setenv(name, value)

    def write(self, name: str, text: str) -> Path:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def config(self, text: str) -> Path:
        return self.write(".config/launcher/config.toml", text)

    def program(self, name: str, code: str) -> Path:
        path = self.write(f"bin/{name}", f"#!{sys.executable}\nimport json, sys\n{code}\n")
        path.chmod(0o755)
        self.set(PATH=str(path.parent))
        return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    forget_settings(monkeypatch)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Machine(tmp_path, monkeypatch)


def told(url: str = "s3://bucket/x") -> dict[str, str]:
    return dict(access.of(url).settings)


def given(url: str = "s3://bucket/x") -> dict[str, str]:
    return access.credentials(access.of(url))


def test_a_folder_needs_nothing(machine: Machine, tmp_path: Path) -> None:
    found = access.of(str(tmp_path))
    assert (found.settings, access.credentials(found)) == ({}, {})
    assert not access.write_secrets(found, tmp_path / "secrets")
    machine.set(LAUNCHER_STORE=str(tmp_path / "own"))
    assert access.of().url == str(tmp_path / "own")
    assert access.open_to_read().list() == []
    assert not (tmp_path / "own").exists()


def test_variables(machine: Machine) -> None:
    machine.set(**KEYS, AWS_ENDPOINT_URL="http://one.example.org", AWS_DEFAULT_REGION="eu-1")
    assert told() == {"endpoint": "http://one.example.org", "region": "eu-1"}
    machine.set(AWS_ENDPOINT_URL_S3="http://two.example.org", AWS_REGION="eu-2", AWS_SESSION_TOKEN="token")
    assert told() == {"endpoint": "http://two.example.org", "region": "eu-2"}
    expected = {"access_key_id": "AKIDVARIABLE", "secret_access_key": SECRET, "session_token": "token"}
    assert given() == expected
    machine.set(AWS_SECRET_ACCESS_KEY="")
    with pytest.raises(AccessError, match="without AWS_SECRET_ACCESS_KEY"):
        given()


PROFILES = """
[default]
region = us-west-1
[profile lab]
region = eu-lab-1
endpoint_url = https://everything.example.org
services = of-the-lab
ca_bundle = {home}/ca.pem
s3 =
  addressing_style = virtual
  max_concurrent_requests = 5
[services of-the-lab]
s3 =
  endpoint_url = https://s3.example.org
"""


def test_profiles(machine: Machine) -> None:
    machine.write("ca.pem", "PEM\n")
    machine.write(".aws/config", PROFILES.format(home=machine.home))
    machine.write(".aws/credentials", f"[lab]\naws_access_key_id = AKIDLAB\naws_secret_access_key = {SECRET}\n")
    assert told() == {"region": "us-west-1"}
    with pytest.raises(AccessError, match="the profile `default` has no credentials"):
        given()
    machine.set(AWS_PROFILE="lab")
    lab = {"endpoint": "https://s3.example.org", "region": "eu-lab-1", "style": "virtual", "ca": "PEM\n"}
    assert told() == lab
    assert given() == {"access_key_id": "AKIDLAB", "secret_access_key": SECRET}
    machine.set(**KEYS)
    assert given()["access_key_id"] == "AKIDVARIABLE"  # variables go before a profile that a variable names
    machine.config('[store."s3://bucket"]\nprofile = "lab"\nregion = "own"\n')
    assert given()["access_key_id"] == "AKIDLAB"  # but not before one that was chosen for this store
    assert told() == {**lab, "region": "own"}
    machine.set(AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="true")
    assert "endpoint" not in told()
    machine.set(AWS_PROFILE="typo")
    with pytest.raises(AccessError, match=r"no profile `typo`[\s\S]*known are default, lab"):
        told("s3://another")


def test_the_config_file(machine: Machine) -> None:
    machine.write(".config/launcher/ca.pem", "OWN\n")
    machine.config(
        '[store."s3://data"]\nendpoint = "https://a.example.org"\nca_bundle = "ca.pem"\nstyle = "virtual"\n'
        '[store."s3://data/deep"]\nanonymous = true\nconditional_put = "disabled"\n'
    )
    assert told("s3://data/x") == {"endpoint": "https://a.example.org", "ca": "OWN\n", "style": "virtual"}
    assert told("s3://data/deep/er") == {"anonymous": "true", "conditional_put": "disabled"}
    assert told("s3://data-2") == told("s3://other") == {}
    assert given("s3://data/deep") == {}


def test_mistakes_of_the_config_file_come_all_at_once(machine: Machine) -> None:
    file = machine.config(
        '[store."s3://data"]\nendpoint = "s3.example.org"\nregoin = "x"\n'
        f'secret_access_key = "{SECRET}"\nanonymous = "yes"\nstyle = "dns"\n'
    )
    with pytest.raises(StoreError) as caught:
        told("s3://something-else")
    assert [problem.where.line for problem in caught.value.problems if problem.where] == [2, 3, 4, 5, 6]
    assert SECRET not in str(caught.value) and f"{file}:3" in str(caught.value)
    machine.config("[store\n")
    with pytest.raises(StoreError, match="not TOML"):
        told()


def test_a_credential_process(machine: Machine) -> None:
    ends = (datetime.now(timezone.utc) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = {"Version": 1, "AccessKeyId": "AKIDCALLED", "SecretAccessKey": SECRET, "Expiration": ends}
    program = machine.program("keys", f"print(json.dumps({answer!r}))")
    machine.write(".aws/config", f"[profile called]\ncredential_process = '{program}' --role 'a b'\n")
    machine.set(AWS_PROFILE="called")
    assert given() == {"access_key_id": "AKIDCALLED", "secret_access_key": SECRET, "expires_at": ends}
    machine.program("keys", f"print('{SECRET}'); sys.exit('no ticket')")
    with pytest.raises(AccessError, match="ended with code 1: no ticket") as caught:
        given()
    assert SECRET not in str(caught.value)
    machine.program("keys", f"print('{SECRET}')")
    with pytest.raises(AccessError, match="did not answer with credentials") as caught:
        given()
    assert SECRET not in str(caught.value)
    program.unlink()
    with pytest.raises(AccessError, match="can't be asked"):
        given()


def test_logins_and_roles_go_through_aws_own_program(machine: Machine) -> None:
    machine.write(".aws/config", "[profile sso]\nsso_session = lab\n[profile role]\nrole_arn = arn:x\n")
    machine.set(PATH="/nowhere")
    for name in ("sso", "role"):
        machine.set(AWS_PROFILE=name)
        with pytest.raises(AccessError, match=r"needs the program `aws`[\s\S]*hint: install the AWS CLI"):
            given()
    code = f"print(json.dumps({{'AccessKeyId': ' '.join(sys.argv[1:]), 'SecretAccessKey': '{SECRET}'}}))"
    machine.program("aws", code)
    assert given()["access_key_id"] == "configure export-credentials --profile role --format process"


def test_a_damaged_file_is_told_by_its_line_alone(machine: Machine) -> None:
    machine.write(".aws/credentials", f"[default]\n{SECRET}\n")
    with pytest.raises(AccessError, match=r"credentials:2: this is no file of profiles") as caught:
        given()
    assert SECRET not in str(caught.value)


def test_nothing_at_all_is_told_at_once(machine: Machine) -> None:
    with pytest.raises(AccessError, match=r"no credentials for S3[\s\S]*set AWS_ACCESS_KEY_ID"):
        given()
    with pytest.raises(AccessError):
        access.open("s3://bucket")


def test_certificates_that_are_not_there(machine: Machine) -> None:
    machine.set(AWS_CA_BUNDLE="/no/such.pem")
    with pytest.raises(AccessError, match=r"/no/such.pem \(AWS_CA_BUNDLE\) can't be read"):
        told()


def test_google(machine: Machine) -> None:
    assert (told("gs://bucket"), given("gs://bucket")) == ({}, {})
    file = machine.write("key.json", json.dumps({"type": "service_account", "private_key": SECRET}))
    machine.set(GOOGLE_APPLICATION_CREDENTIALS=str(file))
    assert given("gs://bucket") == {"service_account_key": file.read_text()}
    file.write_text('{"type": "external_account"}')
    with pytest.raises(AccessError, match="of the kind external_account"):
        given("gs://bucket")
    machine.set(GOOGLE_APPLICATION_CREDENTIALS="/no/such.json")
    with pytest.raises(AccessError, match="there is no file"):
        given("gs://bucket")
    machine.set(STORAGE_EMULATOR_HOST="127.0.0.1:4443")
    assert told("gs://bucket") == {"endpoint": "http://127.0.0.1:4443", "anonymous": "true"}
    assert given("gs://bucket") == {}


class Exchange(BaseHTTPRequestHandler):
    """A token endpoint (RFC 6749)."""

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["content-length"])).decode()
        good = "grant_type=refresh_token" in form and "refresh_token=mine" in form
        body = {"access_token": SECRET, "expires_in": 1800} if good else {"error_description": "revoked"}
        data = json.dumps(body).encode()
        self.send_response(200 if good else 400)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


def test_a_google_login_is_exchanged_for_a_token(machine: Machine) -> None:
    server = HTTPServer(("127.0.0.1", 0), Exchange)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        login = {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "mine"}
        login["token_uri"] = f"http://127.0.0.1:{server.server_port}/token"
        place = machine.write(".config/gcloud/application_default_credentials.json", json.dumps(login))
        found = given("gs://bucket")
        assert found["token"] == SECRET and 1000 < lasts(found) < 1800
        place.write_text(json.dumps({**login, "refresh_token": "old"}))
        with pytest.raises(AccessError, match=r"was refused: revoked[\s\S]*gcloud auth"):
            given("gs://bucket")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_azure(machine: Machine) -> None:
    machine.set(PATH="/nowhere")
    with pytest.raises(AccessError, match="needs the name of its account"):
        told("az://box")
    machine.set(AZURE_STORAGE_ACCOUNT="lab", AZURE_STORAGE_ACCOUNT_KEY=SECRET)
    assert (told("az://box"), given("az://box")) == ({"account": "lab"}, {"account_key": SECRET})
    machine.patch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    machine.set(AZURE_STORAGE_SAS_TOKEN="?sv=1&sig=2")
    assert given("az://box") == {"sas_token": "sv=1&sig=2"}
    for name in ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_ACCOUNT"):
        machine.patch.delenv(name)
    text = f"DefaultEndpointsProtocol=https;AccountName=other;AccountKey={SECRET}==;EndpointSuffix=example.org"
    machine.set(AZURE_STORAGE_CONNECTION_STRING=text)
    assert told("az://box") == {"account": "other", "endpoint": "https://other.blob.example.org"}
    assert given("az://box") == {"account_key": SECRET + "=="}
    machine.set(AZURE_STORAGE_CONNECTION_STRING="UseDevelopmentStorage=true")
    assert told("az://box")["endpoint"] == "http://127.0.0.1:10000/devstoreaccount1"


def test_an_azure_login(machine: Machine) -> None:
    machine.set(AZURE_STORAGE_ACCOUNT="lab")
    machine.program("az", f"print(json.dumps({{'accessToken': '{SECRET}', 'expires_on': 1900000000}}))")
    assert given("az://box") == {"token": SECRET, "expires_at": "2030-03-17T17:46:40+00:00"}
    machine.program("az", "sys.exit('please log in')")
    with pytest.raises(AccessError, match=r"gave no token[\s\S]*az login"):
        given("az://box")


def test_secrets_are_written_for_their_owner_alone(machine: Machine, tmp_path: Path) -> None:
    machine.set(**KEYS)
    place = tmp_path / "secrets.json"
    place.write_text("older")
    place.chmod(0o644)
    assert access.write_secrets(access.of("s3://bucket"), place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert read_secrets(str(place)) == {"access_key_id": "AKIDVARIABLE", "secret_access_key": SECRET}
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]
    found = access.of("s3://bucket")
    assert SECRET not in json.dumps(found.to_json())


def test_credentials_are_asked_for_again_before_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    asked: list[float] = []

    def ask() -> dict[str, str]:
        asked.append(now)
        return {"token": str(len(asked)), "expires_at": datetime.fromtimestamp(now + 3600, timezone.utc).isoformat()}

    monkeypatch.setattr("launcher.access.lasting.time.time", lambda: now)
    lasting = Lasting(ask)
    assert {lasting()["token"] for _ in range(5)} == {"1"}
    now += 3200
    assert lasting()["token"] == "1"
    now += 200
    assert lasting()["token"] == "2"
    assert len(asked) == 2


def test_a_profile_that_changes_heals_an_open_store(
    s3_with_users: WithUsers, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login that was renewed in its file is used by a store that is open."""
    monkeypatch.setattr("launcher.access.lasting.STATIC_S", 0.0)

    def log_in(view: ObjectStore) -> None:
        text = f"[default]\naws_access_key_id = {view.key}\naws_secret_access_key = {view.secret}\n"
        machine.write(".aws/credentials", text)

    machine.set(AWS_ENDPOINT_URL=s3_with_users.endpoint, AWS_REGION="us-east-1")
    log_in(s3_with_users.wrong)
    opened = access.open(s3_with_users.url)
    with pytest.raises(AccessError, match="secret does not fit"):
        opened.put("a", b"1")
    log_in(s3_with_users)
    opened.put("a", b"2")
    assert opened.get("a") == b"2"


def test_an_access_survives_json() -> None:
    from launcher.store.access import from_json

    one = Access("s3://bucket", {"region": "x"}, "/secrets")
    assert vars_of(from_json(json.loads(json.dumps(one.to_json())))) == vars_of(one)
    with pytest.raises(ValueError, match="no setting secret"):
        from_json({"url": "s3://b", "settings": {"secret": "x"}})


def vars_of(one: Access) -> tuple[str, dict[str, str], str | None]:
    return one.url, dict(one.settings), one.secrets
