"""Which indexes a machine is configured for: pip's and uv's own files and variables, in their own order."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.credentials import redact, shown
from launcher.errors import FetchError
from launcher.indexes.http import Page
from launcher.indexes.pages import links
from launcher.indexes.pip_settings import pip_settings
from launcher.indexes.settings import Indexes, configured
from launcher.indexes.simple import DefaultIndex, Folder, LinksPage, SimpleIndex, wheel_sources
from launcher.indexes.uv import default_index
from launcher.indexes.uv_settings import uv_settings
from launcher.lock.requirements import IndexOptions


class Machine:
    """A home and an /etc of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.etc, self.home, self.prefix = root, root / "etc", root / "home", root / "venv"
        self.environ = {"HOME": str(self.home)}

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def pip(self) -> dict[str, str]:
        return pip_settings(self.environ, etc=self.etc, prefix=self.prefix)

    def indexes(self, options: IndexOptions | None = None) -> Indexes:
        return configured(options, self.environ, etc=self.etc)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr("sys.prefix", str(made.prefix))
    return made


def test_a_bare_machine(machine: Machine) -> None:
    assert machine.indexes() == Indexes()


def test_pip_levels_in_their_order(machine: Machine) -> None:
    levels = [
        "etc/xdg/pip/pip.conf",
        "etc/pip.conf",
        "home/.pip/pip.conf",
        "home/.config/pip/pip.conf",
        "venv/pip.conf",
    ]
    for number, level in enumerate(levels):
        machine.write(level, f"[global]\nindex-url = https://{number}.example.org\n")
        assert machine.pip() == {"index-url": f"https://{number}.example.org"}
    machine.write("own.conf", "[global]\nindex_url = https://own.example.org\n[install]\nfind-links = a\n")
    machine.environ["PIP_CONFIG_FILE"] = str(machine.root / "own.conf")
    assert machine.pip() == {"index-url": "https://own.example.org", "find-links": "a"}
    machine.environ["PIP_INDEX_URL"] = "https://variable.example.org"
    machine.environ["PIP_FIND_LINKS"] = ""
    assert machine.pip() == {"index-url": "https://variable.example.org", "find-links": "a"}
    machine.environ["PIP_CONFIG_FILE"] = "/dev/null"
    assert machine.pip() == {"index-url": "https://variable.example.org"}


def test_pip_section_install_goes_before_global(machine: Machine) -> None:
    machine.write(
        "etc/pip.conf", "[install]\nextra-index-url =\n    https://a.example.org\n    https://b.example.org\n"
    )
    machine.write(
        "home/.config/pip/pip.conf", "[global]\nextra-index-url = https://c.example.org\n[list]\nformat = x\n"
    )
    assert machine.indexes().extra == ("https://a.example.org", "https://b.example.org")


def test_pip_settings_that_say_where(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(machine.root)
    machine.write(
        "etc/pip.conf", "[global]\nno-index = yes\ntrusted-host = a.example.org b.example.org\ncert = /c.pem\n"
    )
    machine.environ["PIP_FIND_LINKS"] = "wheels https://c.example.org/x.html file:///w"
    made = machine.indexes()
    assert made.no_index and made.trusted_hosts == ("a.example.org", "b.example.org") and made.cert == Path("/c.pem")
    assert made.find_links == (str(machine.root / "wheels"), "https://c.example.org/x.html", "file:///w")


def test_uv_levels_in_their_order(machine: Machine) -> None:
    machine.write("etc/uv/uv.toml", 'index-url = "https://system.example.org"\nfind-links = ["/s"]\n')
    machine.write(
        "home/.config/uv/uv.toml",
        '[[index]]\nname = "in-house"\nurl = "https://extra.example.org"\n'
        '[[index]]\nurl = "https://user.example.org"\ndefault = true\n'
        '[[index]]\nname = "only"\nurl = "https://explicit.example.org"\nexplicit = true\n'
        '[pip]\nindex-strategy = "first-index"\nfind-links = ["/u"]\n',
    )
    machine.environ |= {"UV_INDEX_IN_HOUSE_USERNAME": "me", "UV_INDEX_IN_HOUSE_PASSWORD": "p/w"}
    made = uv_settings(machine.environ, etc=machine.etc)
    assert made.default == "https://user.example.org"
    assert made.indexes == ("https://me:p%2Fw@extra.example.org",)
    assert (made.find_links, made.strategy) == (("/u", "/s"), "first-index")
    machine.environ |= {
        "UV_DEFAULT_INDEX": "https://variable.example.org",
        "UV_INDEX": "in-house=https://x.example.org",
    }
    made = uv_settings(machine.environ, etc=machine.etc)
    assert made.default == "https://variable.example.org"
    assert made.indexes[0] == "https://me:p%2Fw@x.example.org"
    assert uv_settings({**machine.environ, "UV_NO_CONFIG": "1"}, etc=machine.etc).find_links == ()


def test_pip_goes_first_and_uv_fills_in(machine: Machine) -> None:
    machine.environ["UV_DEFAULT_INDEX"] = "https://uv.example.org"
    machine.environ["UV_INDEX"] = "https://uv-extra.example.org"
    machine.environ["UV_INDEX_STRATEGY"] = "first-index"
    made = machine.indexes()
    assert (made.default, made.strategy) == ("https://uv.example.org", "first-index")
    machine.environ["PIP_INDEX_URL"] = "https://pip.example.org"
    machine.environ["PIP_EXTRA_INDEX_URL"] = "https://pip-extra.example.org"
    made = machine.indexes()
    assert (made.default, made.strategy) == ("https://pip.example.org", "unsafe-best-match")
    assert made.extra == ("https://pip-extra.example.org", "https://uv-extra.example.org")
    own = IndexOptions(index_url="https://file.example.org", extra_index_urls=("https://file-extra.example.org",))
    made = machine.indexes(own)
    assert made.default == "https://file.example.org"
    assert made.extra[0] == "https://file-extra.example.org"


@pytest.mark.parametrize(("name", "text"), [("etc/pip.conf", "index-url = x"), ("etc/uv/uv.toml", "[[index")])
def test_a_settings_file_that_cannot_be_read(machine: Machine, name: str, text: str) -> None:
    machine.write(name, text + "  # https://me:s3cret@example.org")
    with pytest.raises(FetchError) as caught:
        machine.indexes()
    assert Path(name).name in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_sources_in_their_order(tmp_path: Path) -> None:
    page = tmp_path / "x.html"
    page.write_text("")
    made = wheel_sources(
        Indexes(
            default="https://a.example.org/simple",
            extra=("https://b.example.org", "file:///simple"),
            find_links=("https://c.example.org/x.html", str(tmp_path), str(page)),
        )
    )
    assert [type(source) for source in made] == [Folder, LinksPage, SimpleIndex, LinksPage, SimpleIndex, SimpleIndex]
    assert [type(source) for source in wheel_sources(Indexes())] == [DefaultIndex]
    assert wheel_sources(Indexes(default="https://a.example.org", no_index=True)) == []


def test_uv_tells_its_default_index() -> None:
    assert default_index().startswith("https://")


def test_logins_are_not_in_what_is_shown() -> None:
    url = "https://me:p%40ss-word@example.org:8443/simple?token=abcdef#x"
    assert shown(url) == "https://example.org:8443/simple"
    made = Indexes(default=url, extra=(url,), find_links=(url,))
    assert "ss-word" not in repr(made) + repr(wheel_sources(made)[0].name) + repr(IndexOptions(index_url=url))
    text = f"error at {url}, password p@ss-word and p%40ss-word, 'https://x:y@b.example.org/z?sig=1'"
    assert redact(text, (url,)) == (
        "error at https://example.org:8443/simple#x, password **** and ****, 'https://b.example.org/z'"
    )


def test_html_pages() -> None:
    html = (
        '<base href="/files/"><A HREF=" a-1-py3-none-any.whl#sha256=00&egg=x ">a</A>'
        '<a href="https://other.example.org/b%2B1.whl?x=1">b</a><a>none</a><a href="../">up</a>'
    )
    page = Page(text=html, content_type="text/html; charset=utf-8", url="https://me:pw@example.org/simple/a/")
    found = links(page)
    assert found.keys() == {"a-1-py3-none-any.whl", "b+1.whl"}
    (a,) = found["a-1-py3-none-any.whl"]
    assert (a.url, a.sha256) == ("https://me:pw@example.org/files/a-1-py3-none-any.whl", "00")
    assert found["b+1.whl"][0].url == "https://other.example.org/b%2B1.whl?x=1"


def test_a_json_page_that_is_none() -> None:
    page = Page(
        text='{"files": [1]}', content_type="application/vnd.pypi.simple.v1+json", url="https://me:pw@example.org/a/"
    )
    with pytest.raises(FetchError, match=r"^https://example.org/a/: is not a page"):
        links(page)
