"""graphviz' list of plugins, which `dot -c` makes by loading each of them; without it `dot` draws nothing."""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import basename, dirname
from typing import Any

from launcher import toml
from launcher.data import data_path
from launcher.errors import ImageError
from launcher.image.debian.system import System

CORE = "libgvplugin_core.so."
DATA = "graphviz-plugins.toml"


def graphviz_plugins(system: System) -> None:
    """Write `config6a` beside the plugins that are there, if images/graphviz-plugins.toml knows their interface."""
    for core in [path for path in system.entries if basename(path).startswith(CORE)]:
        interface = basename(core).removeprefix(CORE)
        known = [plugin for plugin in plugins() if plugin["library"].endswith(f".so.{interface}")]
        there = [plugin for plugin in known if system.exists(f"{dirname(core)}/{plugin['library']}")]
        if interface.isdigit() and any(system.is_added(f"{dirname(core)}/{p['library']}") for p in there):
            system.write(f"{dirname(core)}/config{interface}a", "".join(text for p in there for text in lines(p)))


def plugins() -> list[dict[str, Any]]:
    text = data_path("images", DATA).read_text(encoding="utf-8")
    found: list[dict[str, Any]] = toml.parse(text, f"images/{DATA}", ImageError)["plugin"]
    return found


def lines(plugin: dict[str, Any]) -> Iterator[str]:
    """Write one plugin in graphviz' own syntax (graphviz lib/gvc/gvconfig.c)."""
    yield f"{plugin['library']} {plugin['name']} {{\n"
    for kind, offers in plugin["offers"]:
        yield f"\t{kind} {{\n"
        yield from (f"\t\t{offer}\n" for offer in offers.split(", "))
        yield "\t}\n"
    yield "}\n"
