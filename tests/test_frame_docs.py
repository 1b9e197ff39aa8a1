"""The docs are held to the code: links resolve, commands exist with their options, pages are reachable."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from launcher import __version__
from launcher.cli import VERBS, launcher

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), ROOT / "images/README.md"]
)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
HEADING = re.compile(r"^#+ +(.+)$", re.M)
SHELL = {"console", "sh", "bash", "shell"}


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


def broken(page: Path) -> Iterator[str]:
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        place, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (page.parent / place).resolve() if place else page
        if not target.exists():
            yield f"{link} leads nowhere"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield f"{link}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_resolve(page: Path) -> None:
    assert not list(broken(page))


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop().resolve()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = (link.partition("#")[0] for link in LINK.findall(page.read_text()) if "://" not in link)
        ahead += [page.parent / link for link in links if link and (page.parent / link).is_file()]
    assert not {page_id(page) for page in ROOT.glob("docs/**/*.md")} - {page_id(page) for page in seen}


def commands(page: Path) -> Iterator[str]:
    """Yield the launcher commands of a page: lines of shell blocks, and code within a line."""
    text = page.read_text()
    for language, block in FENCE.findall(text):
        if language in SHELL:
            for line in block.replace("\\\n", " ").splitlines():
                yield from re.findall(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(launcher(?: [^|>&]+)?)", line)
    yield from re.findall(r"`(launcher [a-z][^`]*)`", FENCE.sub("", text))


def unknown(command: str) -> Iterator[str]:
    """Yield what a command names and the command line doesn't have."""
    words = [word for word in shlex.split(command, comments=True)[1:] if word not in ("...", "[...]")]
    while words and words[0].startswith("-"):
        words.pop(0)
    if not words:
        return
    if words[0] not in VERBS:
        yield f"no verb `{words[0]}`: {command}"
        return
    found = launcher.get_command(click.Context(launcher), words[0])
    if isinstance(found, click.Group) and len(words) > 1 and not words[1].startswith("-"):
        found = found.get_command(click.Context(found), words[1])
    options = {"--help", "-h"} | {option for param in (found.params if found else ()) for option in param.opts}
    for word in words:
        if word.startswith("-") and len(word) > 1 and word.partition("=")[0] not in options:
            yield f"no option `{word}`: {command}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_exist(page: Path) -> None:
    assert not [problem for command in commands(page) for problem in unknown(command)]


def test_the_check_of_commands_finds_mistakes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`launcher sumbit x`\n\n```console\n$ LAUNCHER_STORE=x launcher run --frosen a.yaml\n```\n")
    problems = [problem for command in commands(page) for problem in unknown(command)]
    assert [problem.partition(":")[0] for problem in problems] == ["no option `--frosen`", "no verb `sumbit`"]


def test_make_has_the_targets_that_the_docs_name() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        assert set(re.findall(r"`make ([a-z-]+)`", page.read_text())) <= targets, page_id(page)


def test_the_changelog_knows_this_version() -> None:
    assert re.search(rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_the_changelog_has_no_other_headings_than_versions() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert all(re.match(r"(\d+\.\d+\.\d+|Unreleased)\b", head) for head in re.findall(r"^## (.+)$", text, re.M))
