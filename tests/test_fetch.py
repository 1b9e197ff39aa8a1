"""Fetching: what sources give is checked, what is cut goes on, and all that is missing is told at once."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import store as stores
from launcher.cache import Cache
from launcher.errors import FetchError, IntegrityError
from launcher.fetch import fetch, fill_sizes
from launcher.indexes.http import Http, Page
from launcher.indexes.pages import links
from launcher.indexes.settings import Indexes
from launcher.indexes.simple import Folder, SimpleIndex, wheel_sources
from launcher.indexes.source import Source
from launcher.lock import Artifact, Deb, Wheel
from launcher.store import keys
from launcher.vault import VaultSource
from tests.conftest import Notes
from tests.index_server import Index, serve


class Given:
    """A source that gives the bytes that it was made with."""

    holds = Artifact

    def __init__(self, name: str, data: bytes | None) -> None:
        self.name, self.data = name, data
        self.asked = 0

    @contextlib.contextmanager
    def open(self, artifact: Artifact) -> Iterator[io.BytesIO | None]:
        self.asked += 1
        yield None if self.data is None else io.BytesIO(self.data)


@pytest.fixture
def index() -> Iterator[Index]:
    with serve() as running:
        yield running


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("NETRC", "/dev/null")


def source(index: Index, url: str | None = None) -> SimpleIndex:
    return SimpleIndex(url or index.url, Http(sleep=lambda seconds: None))


def pin(data: bytes = b"bytes", name: str = "tiny") -> Wheel:
    filename = f"{name}-1.0-py3-none-any.whl"
    return Wheel(name=name, version="1.0", filename=filename, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def leftovers(cache: Cache) -> list[Path]:
    return [path for path in cache.root.rglob("*") if path.is_file() and "notes" not in path.parts]


@pytest.mark.parametrize("as_json", [False, True])
def test_fetches_from_an_index(index: Index, cache: Cache, as_json: bool) -> None:
    index.as_json = as_json
    wheel = index.pin(index.add("tiny-name"), "tiny-name")
    paths = fetch([wheel], cache, [source(index)])
    assert hashlib.sha256(paths[wheel.sha256].read_bytes()).hexdigest() == wheel.sha256
    assert index.requests == ["/simple/tiny-name/", f"/files/tiny-name/{wheel.filename}"]


def test_asks_nobody_for_what_is_cached(index: Index, cache: Cache) -> None:
    wheel = index.pin(index.add("tiny"), "tiny")
    fetch([wheel], cache, [source(index)])
    index.requests.clear()
    assert fetch([wheel, wheel], cache, [source(index)]).keys() == {wheel.sha256}
    assert index.requests == []


def test_a_yanked_file_is_still_fetched(index: Index, cache: Cache) -> None:
    file = index.add("tiny")
    file.yanked = True
    assert fetch([index.pin(file, "tiny")], cache, [source(index)])


def test_fetches_what_has_no_hash_on_the_index(index: Index, cache: Cache) -> None:
    file = index.add("tiny")
    file.sha256 = None
    assert fetch([index.pin(file, "tiny")], cache, [source(index)])


@pytest.mark.parametrize("ranges", [True, False])
def test_goes_on_where_the_connection_was_cut(index: Index, cache: Cache, ranges: bool) -> None:
    file = index.add("tiny")
    file.cuts, file.ranges = [100, 50, 0, 200], ranges
    wheel = index.pin(file, "tiny")
    paths = fetch([wheel], cache, [source(index)])
    assert paths[wheel.sha256].read_bytes() == file.data
    assert index.ranges[:2] == ["bytes=100-", "bytes=150-" if ranges else "bytes=100-"]


def test_gives_up_when_it_is_cut_again_and_again(index: Index, cache: Cache) -> None:
    file = index.add("tiny")
    file.cuts = [10] + [0] * 50
    with pytest.raises(FetchError, match="cut after 10 bytes, again and again"):
        fetch([index.pin(file, "tiny")], cache, [source(index)])
    assert leftovers(cache) == []


def test_tries_again_when_a_server_is_busy(index: Index, cache: Cache) -> None:
    wheel = index.pin(index.add("tiny"), "tiny")
    index.failures = 2
    assert fetch([wheel], cache, [source(index)])


def test_a_busy_server_is_not_asked_for_ever(index: Index, cache: Cache) -> None:
    wheel = index.pin(index.add("tiny"), "tiny")
    index.failures = 1000
    with pytest.raises(FetchError, match="503"):
        fetch([wheel], cache, [source(index)])
    assert len(index.requests) == 4


def test_a_dead_host_is_asked_a_few_times_in_all(cache: Cache, index: Index) -> None:
    waits: list[float] = []
    http = Http(sleep=waits.append)
    dead = SimpleIndex("http://127.0.0.1:9/simple", http)  # discard: nothing listens there
    wanted = [pin(str(n).encode(), f"p{n}") for n in range(5)]
    with pytest.raises(FetchError) as caught:
        fetch(wanted, cache, [dead], workers=1)
    assert len(caught.value.problems) == 5
    assert len(waits) == 3


def test_wrong_bytes_are_told_and_left_for_the_next_source(cache: Cache) -> None:
    notes = Notes()
    wheel = pin(b"right")
    paths = fetch([wheel], cache, [Given("liar", b"wrong"), Given("honest", b"right")], notes)
    assert paths[wheel.sha256].read_bytes() == b"right"
    wrong = hashlib.sha256(b"wrong").hexdigest()
    assert notes.said == [
        f"liar gave a wrong {wheel.filename}: sha256 {wrong}, and {wheel.sha256} was expected; "
        "the right one came from elsewhere"
    ]


def test_wrong_bytes_everywhere_stop(cache: Cache) -> None:
    wheel = pin(b"right")
    with pytest.raises(IntegrityError) as caught:
        fetch([wheel], cache, [Given("first", b"wrong"), Given("second", None)])
    said = str(caught.value)
    assert "first gave a wrong tiny-1.0-py3-none-any.whl" in said
    assert "second: has no such file" in said
    assert leftovers(cache) == []


def test_too_many_bytes_are_not_waited_for(cache: Cache) -> None:
    class Endless:
        def read(self, size: int) -> bytes:
            return b"x" * 1000

    class Flood(Given):
        @contextlib.contextmanager
        def open(self, artifact: Artifact) -> Iterator[Endless]:  # type: ignore[override]
            yield Endless()

    with pytest.raises(IntegrityError, match="more than the 5 bytes"):
        fetch([pin(b"right")], cache, [Flood("flood", None)])
    assert leftovers(cache) == []


def test_too_few_bytes_are_trouble_and_not_a_lie(cache: Cache) -> None:
    with pytest.raises(FetchError, match="ended early: 3 bytes, and 5 were expected"):
        fetch([pin(b"right")], cache, [Given("short", b"rig")])


def test_another_file_of_that_name_is_refused_without_reading_it(index: Index, cache: Cache) -> None:
    wheel = replace(index.pin(index.add("tiny"), "tiny"), sha256="0" * 64)
    with pytest.raises(IntegrityError, match=r"has another tiny-1\.0-py3-none-any\.whl"):
        fetch([wheel], cache, [source(index)])
    assert index.requests == ["/simple/tiny/"]


def test_everything_that_is_missing_is_told_at_once(index: Index, cache: Cache) -> None:
    present = index.pin(index.add("here"), "here")
    with pytest.raises(FetchError) as caught:
        fetch([pin(name="one"), present, pin(b"other", name="two")], cache, [source(index)])
    assert [problem.message.split(":")[0] for problem in caught.value.problems] == ["one 1.0", "two 1.0"]
    assert "vault" in str(caught.value.problems[0].hint)
    assert cache.find("artifacts", present.sha256), "what was found stays"


def test_offline_is_no_sources(cache: Cache) -> None:
    with pytest.raises(FetchError, match="is not in the cache, and there is nowhere else to look"):
        fetch([pin()], cache, [])


def test_a_login_is_used_and_never_shown(index: Index, cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    index.login = ("me", "pa/ss wörd")
    url = index.url.replace("//", "//me:pa%2Fss%20w%C3%B6rd@")
    wheel = index.pin(index.add("tiny"), "tiny")
    assert fetch([wheel], cache, [source(index, url)])
    with pytest.raises(FetchError) as caught:
        fetch([pin(name="other")], cache, [source(index, url)])
    with pytest.raises(FetchError, match="401") as refused:
        fetch([pin(name="third")], cache, [source(index, index.url.replace("//", "//me:secret-x@"))])
    for text in (str(caught.value), str(refused.value), caplog.text, repr(caught.value)):
        assert "pa%2Fss" not in text and "pa/ss" not in text and "secret-x" not in text


def test_a_file_on_another_host_gets_no_login() -> None:
    html = '<a href="https://files.example.net/a.whl">a</a><a href="https://index.example.org/b.whl">b</a>'
    page = Page(text=html, content_type="text/html", url="https://me:password@index.example.org/simple/x/")
    found = links(page)
    assert found["a.whl"][0].url == "https://files.example.net/a.whl"
    assert found["b.whl"][0].url == "https://me:password@index.example.org/b.whl"


def test_local_places_are_asked_first_and_cost_no_request(index: Index, cache: Cache, tmp_path: Path) -> None:
    file = index.add("tiny")
    folder = tmp_path / "links with space"
    folder.mkdir()
    (folder / file.filename).write_bytes(file.data)
    sources = wheel_sources(Indexes(default=index.url, find_links=(str(folder),)))
    assert isinstance(sources[0], Folder)
    assert fetch([index.pin(file, "tiny")], cache, sources)
    assert index.requests == []


def test_a_file_index_and_a_links_page(index: Index, cache: Cache, tmp_path: Path) -> None:
    first, second = index.add("first"), index.add("second")
    project = tmp_path / "simple" / "first"
    project.mkdir(parents=True)
    (tmp_path / first.filename).write_bytes(first.data)
    (project / "index.html").write_text(f'<a href="../../{first.filename}#sha256={first.sha256}">it</a>')
    page = tmp_path / "links.html"
    page.write_text(f'<base href="{index.url.replace("simple", "files")}/second/"><a href="{second.filename}">it</a>')
    file_index = (tmp_path / "simple").as_uri()
    indexes = Indexes(default=file_index, find_links=(str(page),))
    wanted = [index.pin(first, "first"), index.pin(second, "second")]
    assert len(fetch(wanted, cache, wheel_sources(indexes))) == 2


def test_a_vault_holds_any_artifact(cache: Cache, tmp_path: Path) -> None:
    wheel = pin(b"kept")
    store = stores.open(str(tmp_path / "vault"))
    store.put(keys.artifact(wheel.sha256), b"kept")
    vault = VaultSource(store)
    deb = Deb(
        name="jq", version="1", filename="jq.deb", size=4, sha256=wheel.sha256,
        architecture="amd64", group="apt", pool="pool/jq.deb",
    )  # fmt: skip
    assert fetch([deb], cache, [Folder(tmp_path), vault])


def test_a_source_is_asked_only_for_what_it_holds(cache: Cache, tmp_path: Path) -> None:
    wheel_only: Source = Folder(tmp_path)
    art = Artifact(name="x", version="1", filename="x", size=1, sha256="0" * 64)
    with pytest.raises(FetchError) as caught:
        fetch([art], cache, [wheel_only])
    assert "find-links" not in str(caught.value)


def test_a_wrong_size_in_the_lock_is_told(index: Index, cache: Cache) -> None:
    wheel = index.pin(index.add("tiny"), "tiny")
    fetch([wheel], cache, [source(index)])
    with pytest.raises(IntegrityError, match="the lock says 1 bytes"):
        fetch([replace(wheel, size=1)], cache, [])


def test_unknown_sizes_are_filled_in(index: Index, cache: Cache) -> None:
    wheel = index.pin(index.add("tiny"), "tiny")
    unknown = replace(wheel, size=0)
    assert fill_sizes([unknown], fetch([unknown], cache, [source(index)])) == (wheel,)


def test_many_are_fetched_at_once_and_a_page_is_read_once(index: Index, cache: Cache) -> None:
    wanted = [index.pin(index.add("tiny", f"1.{n}", content=str(n)), "tiny") for n in range(20)]
    assert len(fetch(wanted, cache, [source(index)], workers=4)) == 20
    assert index.requests.count("/simple/tiny/") == 1


class Choosy(Given):
    def may_hold(self, artifact: Artifact) -> bool:
        return not isinstance(artifact, Wheel)


def test_a_place_that_never_has_such_a_file_is_not_named(cache: Cache) -> None:
    with pytest.raises(FetchError) as caught:
        fetch([pin()], cache, [Choosy("a registry", None), Given("an index", None)])
    assert "an index: has no such file" in str(caught.value)
    assert "registry" not in str(caught.value)


class Locked:
    holds, name = Artifact, "a registry"

    def open(self, artifact: Artifact) -> contextlib.AbstractContextManager[io.BytesIO | None]:
        raise FetchError(f"{self.name} wants a login", hint="log in")


def test_the_advice_of_a_registry_is_passed_on_once(cache: Cache) -> None:
    blobs = [
        Artifact(name="team/base", version="1", filename=name, size=1, sha256=digit * 64)
        for name, digit in (("b", "1"), ("a", "2"))
    ]
    with pytest.raises(FetchError) as caught:
        fetch(blobs, cache, [Locked()])
    assert [problem.message.split()[2] for problem in caught.value.problems] == ["a", "b"]
    assert all((problem.hint or "").startswith("log in; where the registry") for problem in caught.value.problems)
