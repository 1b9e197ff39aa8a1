"""Names of images, what this machine says of registries, and where logins come from."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.errors import FetchError, UsageError
from launcher.registry.challenge import challenges
from launcher.registry.login import Credentials, find_credentials
from launcher.registry.reference import Reference, is_loopback, parse
from launcher.registry.settings import registry_settings
from launcher.registry.tls import keep_logs_clean

DIGEST = "a" * 64


@pytest.mark.parametrize(
    ("text", "host", "name", "tag", "digest"),
    [
        ("docker://registry.example.org/team/train:1", "registry.example.org", "team/train", "1", None),
        ("registry.example.org/train", "registry.example.org", "train", None, None),
        ("localhost/x", "localhost", "x", None, None),
        ("docker://127.0.0.1:5000/a/b/c", "127.0.0.1:5000", "a/b/c", None, None),
        ("docker://[::1]:5000/a", "[::1]:5000", "a", None, None),
        (f"docker://docker.io/python:3.11@sha256:{DIGEST}", "docker.io", "library/python", "3.11", DIGEST),
        ("docker.io/nvidia/cuda:12.6", "docker.io", "nvidia/cuda", "12.6", None),
        ("index.docker.io/python", "docker.io", "library/python", None, None),
        ("Registry.Example.org/a__b/c--d.e", "registry.example.org", "a__b/c--d.e", None, None),
    ],
)
def test_names_are_read(text: str, host: str, name: str, tag: str | None, digest: str | None) -> None:
    assert parse(text) == Reference(host=host, name=name, tag=tag, digest=digest)
    assert parse(str(parse(text))).repository == f"{host}/{name}"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("python:3.11", "docker.io/python:3.11"),
        ("team/train", "docker.io/team/train"),
        ("registry.example.org/Team/train", "lower case"),
        ("registry.example.org/", "HOST/NAME:TAG"),
        ("registry.example.org/a:", "HOST/NAME:TAG"),
        ("registry.example.org/a@sha256:123", "HOST/NAME:TAG"),
        ("https://registry.example.org/a", "HOST/NAME:TAG"),
        ("registry.example.org/a/../b", "HOST/NAME:TAG"),
        ("registry.example.org/a?x=1", "HOST/NAME:TAG"),
        ("user:password@registry.example.org/a", "HOST/NAME:TAG"),
    ],
)
def test_what_is_no_name_is_refused_with_advice(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert hint in str(error.value.problems[0].hint)


def test_dockers_own_registry_answers_elsewhere() -> None:
    assert parse("docker.io/python").endpoint == "registry-1.docker.io"
    assert parse("docker.io/python").asked == "latest"


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:80", "127.9.9.9", "[::1]:5000", "[::1]"])
def test_loopback_may_be_asked_in_clear(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example.org", "127.0.0.1.example.org", "10.0.0.1:5000", "[fe80::1]"])
def test_other_hosts_may_not(host: str) -> None:
    assert not is_loopback(host)


CONF = """
unqualified-search-registries = ["registry.example.org"]
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "mirror.example.org/hub"
insecure = true
[[registry.mirror]]
location = "digests.example.org"
pull-from-mirror = "digest-only"
[[registry]]
location = "old.example.org/team"
insecure = true
[[registry]]
prefix = "old.example.org/team/moved"
location = "new.example.org/moved"
[[registry]]
prefix = "bad.example.org"
blocked = true
"""


@pytest.fixture
def conf(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "registries.conf").write_text(CONF)
    return {"HOME": str(tmp_path), "CONTAINERS_REGISTRIES_CONF": str(tmp_path / "registries.conf")}


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (
            "docker.io/python:3",
            [("mirror.example.org/hub/library/python:3", True), ("docker.io/library/python:3", False)],
        ),
        ("old.example.org/team/x", [("old.example.org/team/x:latest", True)]),
        ("old.example.org/teams/x", [("old.example.org/teams/x:latest", False)]),
        ("old.example.org/team/moved/x", [("new.example.org/moved/x:latest", False)]),
        ("10.1.2.3:5000/x", [("10.1.2.3:5000/x:latest", True)]),
        ("lab.example.org:5000/x", [("lab.example.org:5000/x:latest", True)]),
        ("lab.example.org/x", [("lab.example.org/x:latest", False)]),
        ("127.0.0.1:5000/x", [("127.0.0.1:5000/x:latest", True)]),
    ],
)
def test_registries_conf_moves_and_mirrors(
    conf: Mapping[str, str], text: str, places: list[tuple[str, bool]], tmp_path: Path
) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "daemon.json").write_text('{"insecure-registries": ["10.0.0.0/8"], "data-root": "/x"}')
    settings = registry_settings(
        {**conf, "LAUNCHER_INSECURE_REGISTRIES": "a.example.org, lab.example.org:5000"}, etc=tmp_path
    )
    found = [(str(place.reference), place.insecure) for place in settings.places(parse(text))]
    assert found == places


def test_a_mirror_for_digests_is_asked_for_digests(conf: Mapping[str, str]) -> None:
    found = registry_settings(conf).places(parse(f"docker.io/a/b@sha256:{DIGEST}"))
    assert [place.reference.host for place in found] == ["mirror.example.org", "digests.example.org", "docker.io"]
    assert [place.mirror for place in found] == [True, True, False]
    pushed = registry_settings(conf).places(parse("docker.io/a/b"), mirrors=False)
    assert [place.reference.host for place in pushed] == ["docker.io"]


def test_a_blocked_registry_is_refused(conf: Mapping[str, str]) -> None:
    with pytest.raises(FetchError, match=r"blocks bad\.example\.org"):
        registry_settings(conf).places(parse("bad.example.org/x"))


def test_daemon_json_mirrors_the_hub(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "daemon.json").write_text('{"registry-mirrors": ["http://mirror.example.org:5000/"]}')
    found = registry_settings({"HOME": str(tmp_path)}, etc=tmp_path).places(parse("docker.io/python"))
    assert [(str(p.reference), p.insecure) for p in found] == [
        ("mirror.example.org:5000/library/python:latest", True),
        ("docker.io/library/python:latest", False),
    ]


def test_a_broken_registries_conf_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "c.conf").write_text("[[registry]\n")
    with pytest.raises(FetchError, match=r"c\.conf:1"):
        registry_settings({"HOME": str(tmp_path), "CONTAINERS_REGISTRIES_CONF": str(tmp_path / "c.conf")})


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, told: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told))


def user(found: Credentials | None) -> str | None:
    return found.login.user if found and found.login else None


def test_the_most_specific_entry_wins_and_podman_goes_before_docker(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    hub = {"https://index.docker.io/v1/": auth("hub", "p"), "registry.example.org": auth("docker", "p")}
    write(tmp_path / ".docker" / "config.json", {"auths": {**hub, "https://old.example.org/v2/": auth("old", "p")}})
    podman = {"registry.example.org/team": auth("team", "p"), "registry.example.org/team/x": auth("x", "a:b")}
    write(tmp_path / "run" / "containers" / "auth.json", {"auths": podman})
    expected = {"registry.example.org/team/x": "x", "registry.example.org/team/xy": "team", "docker.io/python": "hub"}
    expected |= {"registry.example.org/other": "docker", "old.example.org/a": "old"}
    assert {name: user(find_credentials(parse(name), env)) for name in expected} == expected
    found = find_credentials(parse("registry.example.org/team/x"), env)
    assert found and found.login and found.login.password == "a:b"
    assert find_credentials(parse("else.example.org/x"), env) is None
    own = tmp_path / "own.json"
    write(own, {"auths": {"registry.example.org": auth("own", "p")}})
    assert user(find_credentials(parse("registry.example.org/a"), {**env, "REGISTRY_AUTH_FILE": str(own)})) == "own"


def helper(folder: Path, name: str, body: str) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\nread server\n{body}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


@pytest.mark.parametrize("key", ["credHelpers", "credsStore"])
def test_helpers_are_asked(tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = 'echo "{\\"ServerURL\\": \\"$server\\", \\"Username\\": \\"$server-user\\", \\"Secret\\": \\"s3cret\\"}"'
    env = {"HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path / "d"), **helper(tmp_path / "bin", "test", said)}
    monkeypatch.setenv("PATH", env["PATH"])
    told = {"registry.example.org": "test"} if key == "credHelpers" else "test"
    write(tmp_path / "d" / "config.json", {key: told, "auths": {"registry.example.org": {}}})
    found = find_credentials(parse("registry.example.org/x"), env)
    assert user(found) == "registry.example.org-user"
    assert "s3cret" not in repr(found) and "registry.example.org-user" not in repr(found)
    if key == "credsStore":
        assert user(find_credentials(parse("docker.io/x"), env)) == "https://index.docker.io/v1/-user"


def test_helpers_may_give_identity_tokens_or_know_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = 'if [ $server = a.example.org ]; then echo \'{"Username": "<token>", "Secret": "id"}\'; else '
    body += "echo credentials not found in native keychain; exit 1; fi"
    monkeypatch.setenv("PATH", helper(tmp_path / "bin", "t", body)["PATH"])
    write(tmp_path / ".docker" / "config.json", {"credsStore": "t"})
    env = {"HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    found = find_credentials(parse("a.example.org/x"), env)
    assert found and found.identity_token == "id" and found.login is None
    assert find_credentials(parse("b.example.org/x"), env) is None


CANARY = "c4n4ry-s3cret"


@pytest.mark.parametrize(
    "told",
    [
        f'{{"auths": {{"r.example.org": {{"auth": "{CANARY}"}}}}}}',
        f'{{"auths": {{"r.example.org": {{"auth": "{base64.b64encode(CANARY.encode()).decode()}"}}}}}}',
        f'{{"auths": "{CANARY}',
        '{"credHelpers": {"r.example.org": "broken"}}',
        '{"credHelpers": {"r.example.org": "talks"}}',
        '{"credHelpers": {"r.example.org": "missing"}}',
        '{"credHelpers": {"r.example.org": "../evil"}}',
    ],
)
def test_no_secret_is_in_a_message(tmp_path: Path, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = helper(tmp_path / "bin", "broken", f"echo {CANARY}; echo {CANARY} >&2; exit 3")["PATH"]
    helper(tmp_path / "bin", "talks", f"echo {CANARY}")
    monkeypatch.setenv("PATH", path)
    (tmp_path / "auth.json").write_text(told)
    env = {"HOME": str(tmp_path), "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"), "PATH": path}
    with pytest.raises(FetchError) as error:
        find_credentials(parse("r.example.org/x"), env)
    shown = f"{error.value!r} {error.value} {error.value.__cause__!r}"
    assert CANARY not in shown and base64.b64encode(CANARY.encode()).decode() not in shown
    assert error.value.problems[0].hint


def test_challenges_are_read() -> None:
    found = challenges('Bearer realm="https://a/t?x=1,2",service="a \\"b\\"", scope="r:x:pull,push", Basic realm="x"')
    assert [one.scheme for one in found] == ["bearer", "basic"]
    assert found[0].params == {"realm": "https://a/t?x=1,2", "service": 'a "b"', "scope": "r:x:pull,push"}
    assert challenges("") == [] and challenges("Negotiate")[0].scheme == "negotiate"
    assert challenges("Bearer realm=bare")[0].params == {"realm": "bare"}


def test_logs_of_the_client_hold_no_query_and_no_headers(caplog: pytest.LogCaptureFixture) -> None:
    keep_logs_clean()
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpx").info('HTTP Request: %s %s "%s"', "GET", f"https://s.example.org/b?X-Sig={CANARY}", "200")
    logging.getLogger("httpcore.http11").debug("receive_response_headers.complete return_value=%s", CANARY)
    assert "https://s.example.org/b" in caplog.text
    assert CANARY not in caplog.text
