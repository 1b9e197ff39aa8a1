"""Wheels from where pip finds them: simple indexes, over HTTP or as files, and find-links pages and folders."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from launcher.credentials import shown, split_login, with_login
from launcher.errors import FetchError, IntegrityError
from launcher.indexes.http import Http, Page
from launcher.indexes.local import local_path, open_file
from launcher.indexes.pages import ACCEPT, Link, links
from launcher.indexes.settings import Indexes
from launcher.indexes.source import Source, Stream
from launcher.indexes.uv import default_index
from launcher.lock.model import Artifact, Wheel

Links = Mapping[str, list[Link]]


class LinkPages:
    """A place whose pages link to wheels. A page is read once; a file is found by its name and its sha256.

    A `strict` one refuses remote files that have no sha256 on their page: for locking, when it isn't known otherwise.
    """

    kind = "package index"
    holds = Wheel

    def __init__(self, url: str, http: Http, *, strict: bool = False) -> None:
        self.url, self.http, self.strict = url, http, strict
        self.pages: dict[str, Links | None] = {}
        self.guards: dict[str, threading.Lock] = {}

    @property
    def name(self) -> str:
        return f"{self.kind} {shown(self.url)}".rstrip()

    def page_url(self, artifact: Artifact) -> str:
        raise NotImplementedError

    @contextlib.contextmanager
    def open(self, artifact: Artifact) -> Iterator[Stream | None]:
        link = self.find(artifact)
        if link is None:
            yield None
        elif path := local_path(link.url):
            with open_file(path) as stream:
                yield stream
        else:
            with self.http.stream(link.url) as stream:
                yield stream

    def find(self, artifact: Artifact) -> Link | None:
        """Return the link to a file. Raises IntegrityError when the place has only other files of that name."""
        offers = (self.links(self.page_url(artifact)) or {}).get(artifact.filename, [])
        fitting = [link for link in offers if link.sha256 in (artifact.sha256, None)]
        if offers and not fitting:
            raise IntegrityError(f"{self.name} has another {artifact.filename}, with sha256 {offers[0].sha256}")
        best = max(fitting, key=lambda link: link.sha256 is not None, default=None)
        if best and self.strict and best.sha256 is None and local_path(best.url) is None:
            # uv downloads such a file and believes what it got: the first to ask would decide for everybody
            raise FetchError(f"{self.name} gives no sha256 for {best.filename}, so nobody could tell if it changed")
        return best

    def links(self, url: str) -> Links | None:
        """Read a page, once: threads that want the same one wait for the first."""
        with self.guards.setdefault(url, threading.Lock()):
            if url not in self.pages:
                page = self.read(url)
                self.pages[url] = links(page) if page else None
            return self.pages[url]

    def read(self, url: str) -> Page | None:
        path = local_path(url)
        if path is None:
            page = self.http.get(url, accept=ACCEPT)
            return page and keep_login(page, url)
        try:
            place = path / "index.html" if path.is_dir() else path
            return Page(text=place.read_text(encoding="utf-8"), content_type="text/html", url=place.absolute().as_uri())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as e:
            raise FetchError(f"can't read {place}: {e}") from e


class SimpleIndex(LinkPages):
    """A simple index: one page for each project, at `<index>/<normalised name>/` (PEP 503)."""

    def page_url(self, artifact: Artifact) -> str:
        return f"{self.url.rstrip('/')}/{artifact.name}/"


class DefaultIndex(SimpleIndex):
    """The index that uv is made with, for a machine where nothing is configured. uv is asked for it when needed."""

    def __init__(self, http: Http, *, strict: bool = False) -> None:
        super().__init__("", http, strict=strict)

    def page_url(self, artifact: Artifact) -> str:
        self.url = default_index()
        return super().page_url(artifact)


class LinksPage(LinkPages):
    """A find-links page: one HTML page of links."""

    kind = "find-links page"

    def page_url(self, artifact: Artifact) -> str:
        return self.url


class Folder:
    """A find-links folder: wheels lie in it under their file names."""

    holds = Wheel

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return f"find-links folder {self.path}"

    @contextlib.contextmanager
    def open(self, artifact: Artifact) -> Iterator[Stream | None]:
        with open_file(self.path / artifact.filename) as stream:
            yield stream


def wheel_sources(indexes: Indexes, http: Http | None = None, *, strict: bool = False) -> list[Source]:
    """Return this machine's places for wheels: those on its own disk first, because they cost nothing to ask."""
    http = http or Http(cert=indexes.cert, trusted_hosts=indexes.trusted_hosts)
    urls = () if indexes.no_index else (*indexes.extra, *((indexes.default,) if indexes.default else ()))
    found = [(place, find_links(place, http, strict)) for place in indexes.find_links]
    found += [(url, SimpleIndex(url, http, strict=strict)) for url in urls]
    found.sort(key=lambda pair: local_path(pair[0]) is None)
    own = [] if indexes.no_index or indexes.default else [DefaultIndex(http, strict=strict)]
    return [*(source for _, source in found), *own]


def find_links(place: str, http: Http, strict: bool = False) -> Source:
    """Make a source of a find-links entry: a folder, an HTML file or a URL of a page."""
    path = local_path(place)
    if path and not path.is_file():
        return Folder(path)
    return LinksPage(path.absolute().as_uri() if path else place, http, strict=strict)


def keep_login(page: Page, asked: str) -> Page:
    """Give a page's address the login that it was asked with: the client doesn't keep it in URLs."""
    bare, login = split_login(asked)
    same_host = urlsplit(bare).netloc == urlsplit(page.url).netloc
    return Page(
        text=page.text, content_type=page.content_type, url=with_login(page.url, login) if same_host else page.url
    )
