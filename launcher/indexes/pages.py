"""Read an index's page of files: PEP 503 and PEP 691, or any HTML page of links."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import parse_qs, unquote, urldefrag, urljoin, urlsplit

from launcher.credentials import shown, split_login, with_login
from launcher.errors import FetchError
from launcher.indexes.http import Page

JSON = "application/vnd.pypi.simple.v1+json"
ACCEPT = f"{JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True, kw_only=True)
class Link:
    """A file that a page offers; `sha256` and `requires_python` are what the page says of it, if it does."""

    filename: str
    url: str = field(repr=False)
    sha256: str | None = None
    requires_python: str | None = None
    yanked: bool = False


def links(page: Page) -> dict[str, list[Link]]:
    """Return a page's files by name. One name may have several links. Raises FetchError."""
    found: dict[str, list[Link]] = {}
    for link in from_json(page) if is_json(page) else from_html(page):
        found.setdefault(link.filename, []).append(link)
    return found


def is_json(page: Page) -> bool:
    return page.content_type.split(";")[0].strip().endswith("json")


def from_json(page: Page) -> Iterator[Link]:
    """Read the JSON form (simple repository API, section "Project detail")."""
    try:
        for file in json.loads(page.text)["files"]:
            sha256 = file.get("hashes", {}).get("sha256")
            yield Link(
                filename=file["filename"],
                url=joined(page.url, file["url"]),
                sha256=sha256,
                requires_python=file.get("requires-python"),
                yanked=bool(file.get("yanked")),  # a reason, or true (PEP 592)
            )
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise FetchError(f"{shown(page.url)}: is not a page of the simple repository API") from e


def from_html(page: Page) -> Iterator[Link]:
    """Read the HTML form: a file's name is the last part of its URL, its hash the fragment (PEP 503)."""
    anchors = Anchors()
    anchors.feed(page.text)
    base = urljoin(page.url, anchors.base) if anchors.base else page.url
    for href, attributes in anchors.found:
        url, fragment = urldefrag(joined(with_login(base, split_login(page.url)[1]), href))
        filename = unquote(urlsplit(url).path.rpartition("/")[2])
        if filename:
            yield Link(
                filename=filename,
                url=url,
                sha256=next(iter(parse_qs(fragment).get("sha256", [])), None),
                requires_python=attributes.get("data-requires-python"),
                yanked="data-yanked" in attributes,
            )


def joined(base: str, href: str) -> str:
    """Resolve a link; one to the same host keeps the page's login, as with pip."""
    url = urljoin(base, href)
    bare, login = split_login(base)
    same = (urlsplit(url).scheme, urlsplit(url).netloc) == (urlsplit(bare).scheme, urlsplit(bare).netloc)
    return with_login(url, login) if same else url


class Anchors(HTMLParser):
    """Collect the targets of a page's links with their other attributes, and its <base>."""

    def __init__(self) -> None:
        super().__init__()
        self.base: str | None = None
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "a" and href:
            self.found.append((href.strip(), dict(attrs)))
        elif tag == "base" and href and self.base is None:
            self.base = href.strip()
