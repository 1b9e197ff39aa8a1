"""Inputs that a store keeps: which files each tree is made of, as `launcher data add` wrote it down."""

from __future__ import annotations

import json

from launcher.digest import tree_digest
from launcher.lock import Artifact
from launcher.store.objects import Store
from launcher.vault.contents import Wanted
from launcher.vault.references import INPUTS


def listed(store: Store) -> tuple[dict[str, Wanted], dict[str, str]]:
    """Return the files of all trees by sha256, and what is wrong with lists, by key. Raises StoreError."""
    found: dict[str, Wanted] = {}
    wrong: dict[str, str] = {}
    for key, data in store.get_many([entry.key for entry in store.list(INPUTS)]):
        digest = key.rpartition("/")[2].removesuffix(".json")
        try:
            found |= files(digest, data or b"")
        except (KeyError, TypeError, ValueError) as e:
            wrong[key] = f"is damaged: {e}"
    return found, wrong


def files(digest: str, data: bytes) -> dict[str, Wanted]:
    """Read a list. Raises KeyError, TypeError or ValueError when it isn't that of the tree with this digest."""
    lines = json.loads(data)["files"]
    entries = [
        (line["path"], "link", line["link"]) if "link" in line else (line["path"], "file", line["sha256"])
        for line in lines
    ]
    alone = len(lines) == 1 and not lines[0]["path"]  # an input that is one file, and known by its own sha256
    if (actual := lines[0]["sha256"] if alone else tree_digest(entries)) != digest:
        raise ValueError(f"it is the list of the tree {actual}")
    name = f"input {digest[:12]}"
    artifacts = [
        Artifact(
            name=name, version="", filename=line["path"] or "the file", size=int(line["size"]), sha256=line["sha256"]
        )
        for line in lines
        if "sha256" in line
    ]
    return {artifact.sha256: Wanted(artifact=artifact) for artifact in artifacts}
