"""apt's sources, passwords and options: what is read from them, and what is never shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.credentials import Login, shown
from launcher.errors import FetchError
from launcher.indexes import apt
from launcher.indexes.apt import AptConfig, mirrors, parse_logins
from launcher.indexes.apt_format import parse_sources
from launcher.indexes.apt_web import Web, fits

DEB822 = """\
# made by an installer
Types: deb deb-src
URIs: https://mirror.example.org/debian/ https://other.example.org/debian
Suites: bookworm bookworm-updates
Components: main contrib
Architectures: amd64 arm64
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 AAAA
 -----END PGP PUBLIC KEY BLOCK-----
Check-Valid-Until: no

Types: deb-src
URIs: https://sources.example.org/debian
Suites: bookworm

Enabled: no
Types: deb
URIs: https://off.example.org/debian
Suites: bookworm

Types: deb
URIs: https://security.example.org/debian-security
Suites: bookworm-security
Components: main
"""

ONE_LINE = """\
# deb http://off.example.org/debian bookworm main
deb [ arch=amd64,arm64 signed-by=/keys/a.gpg,/keys/b.asc ] http://mirror.example.org/debian bookworm main non-free # why
deb-src http://mirror.example.org/debian bookworm main
deb http://mirror.example.org/debian bookworm-updates main
deb http://flat.example.org/repo ./
"""


def test_deb822_sources() -> None:
    entries = parse_sources(DEB822, "debian.sources")
    assert [one.root for one in entries] == [
        "https://mirror.example.org/debian",
        "https://other.example.org/debian",
        "https://security.example.org/debian-security",
    ]
    first = entries[0]
    assert first.suites == ("bookworm", "bookworm-updates")
    assert first.components == ("main", "contrib")
    assert first.architectures == ("amd64", "arm64")
    assert first.check_valid_until is False
    assert first.signed_by.splitlines()[0] == "-----BEGIN PGP PUBLIC KEY BLOCK-----"
    assert (first.where.line, entries[2].where.line) == (2, 23)


def test_one_line_sources() -> None:
    entries = parse_sources(ONE_LINE, "sources.list")
    assert [(one.uri, one.suites) for one in entries] == [
        ("http://mirror.example.org/debian", ("bookworm",)),
        ("http://mirror.example.org/debian", ("bookworm-updates",)),
        ("http://flat.example.org/repo", ("./",)),
    ]
    assert entries[0].signed_by == "/keys/a.gpg /keys/b.asc"
    assert entries[0].architectures == ("amd64", "arm64")
    assert entries[0].components == ("main", "non-free")


@pytest.mark.parametrize(("name", "text"), [("x", DEB822), ("y", ONE_LINE)])
def test_the_notation_is_told_by_the_text_when_the_name_does_not(name: str, text: str) -> None:
    suffix = ".sources" if text is DEB822 else ".list"
    found, expected = parse_sources(text, name), parse_sources(text, name + suffix)
    assert [replace(one, where=expected[0].where) for one in found] == [
        replace(one, where=expected[0].where) for one in expected
    ]


def test_mirrors_of_a_suite_that_the_sources_do_not_name() -> None:
    config = AptConfig(entries=parse_sources(DEB822, "debian.sources"))
    found = mirrors(config, "trixie", "amd64")
    assert [(one.root.partition("//")[2], one.security) for one in found] == [
        ("mirror.example.org/debian", False),
        ("other.example.org/debian", False),
        ("security.example.org/debian-security", True),
    ]
    assert found[0].components == ("main", "contrib")
    assert [one.check_valid_until for one in found] == [False, False, True]


def test_an_architecture_that_no_source_serves() -> None:
    config = AptConfig(entries=parse_sources(ONE_LINE.splitlines()[1], "a.list"))
    with pytest.raises(FetchError, match="no mirror for riscv64"):
        mirrors(config, "bookworm", "riscv64")


def test_the_machines_word_on_expired_indexes() -> None:
    entries = parse_sources("deb http://mirror.example.org/debian bookworm main", "a.list")
    (mirror,) = mirrors(AptConfig(entries=entries), "bookworm", "amd64")
    assert mirror.check_valid_until
    lax = AptConfig(entries=entries, options={"acquire::check-valid-until": "false"})
    assert not mirrors(lax, "bookworm", "amd64")[0].check_valid_until
    strict = AptConfig(entries=(replace(entries[0], check_valid_until=True),), options=lax.options)
    assert mirrors(strict, "bookworm", "amd64")[0].check_valid_until


def test_a_folder_of_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.list").write_text("deb http://two.example.org/debian bookworm main\n")
    (tmp_path / "a.sources").write_text("Types: deb\nURIs: http://one.example.org/debian\nSuites: bookworm\n")
    (tmp_path / "c.list.disabled").write_text("nonsense")
    monkeypatch.setenv("LAUNCHER_APT_SOURCES", str(tmp_path))
    assert [one.root for one in apt.apt_config().entries] == [
        "http://one.example.org/debian",
        "http://two.example.org/debian",
    ]


def test_a_sources_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_APT_SOURCES", str(tmp_path / "none"))
    with pytest.raises(FetchError, match="can't read the apt sources"):
        apt.apt_config()


def test_the_machines_own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAUNCHER_APT_SOURCES", raising=False)
    monkeypatch.setattr(apt, "APT", tmp_path)
    (tmp_path / "sources.list").write_text("deb http://one.example.org/debian bookworm main\n")
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "x.sources").write_text(DEB822)
    (tmp_path / "auth.conf").write_text("machine one.example.org login me password s3cret\n")
    config = apt.apt_config()
    assert [one.root for one in config.entries][:2] == [
        "http://one.example.org/debian",
        "https://mirror.example.org/debian",
    ]
    assert [machine for machine, _ in config.logins] == ["one.example.org"]
    assert "s3cret" not in repr(config)


def test_passwords_are_for_their_host_and_path_only() -> None:
    text = """machine example.org/debian login a password b
              machine http://plain.example.org login c password d"""
    (tls, _), (plain, _) = parse_logins(text.split())
    assert fits(tls, "https://example.org/debian/dists/x")
    assert not fits(tls, "http://example.org/debian/dists/x")
    assert not fits(tls, "https://example.org/other")
    assert not fits(tls, "https://evil.example/debian")
    assert fits(plain, "http://plain.example.org/x")


def test_a_password_goes_into_a_header_that_redirects_do_not_take_along() -> None:
    web = Web(AptConfig(entries=(), logins=(("example.org", Login(user="me", password="s3cret")),)))
    request = web.request("https://example.org/debian/x", {})
    assert request.unredirected_hdrs["Authorization"].startswith("Basic ")
    assert "Authorization" not in request.headers
    inline = web.request("http://u:p%40ss@mirror.example.org:8080/debian/x", {})
    assert inline.full_url == "http://mirror.example.org:8080/debian/x"
    assert inline.unredirected_hdrs["Authorization"] == "Basic dTpwQHNz"


def test_what_is_shown_of_a_url() -> None:
    assert shown("https://user:s3cret@mirror.example.org/debian?token=abc#x") == "https://mirror.example.org/debian"


def test_a_mirror_that_does_not_answer_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.indexes.apt_web.PAUSE_S", 0)
    with pytest.raises(FetchError) as caught:
        Web(AptConfig(entries=())).get("http://user:s3cret@127.0.0.1:1/debian/dists/x/InRelease")
    assert "can't fetch http://127.0.0.1:1/debian/dists/x/InRelease" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_apts_proxy_wins_over_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://env.example.org:1")
    monkeypatch.setenv("https_proxy", "http://env.example.org:1")
    options = {"acquire::http::proxy": "http://apt.example.org:2", "acquire::https::proxy": "DIRECT"}
    web = Web(AptConfig(entries=(), options=options))
    proxies = next(h.proxies for h in web.opener.handlers if hasattr(h, "proxies"))  # type: ignore[attr-defined]
    assert proxies["http"] == "http://apt.example.org:2"
    assert "https" not in proxies
