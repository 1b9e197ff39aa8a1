"""The way into a box: by this version's tools, or by older ones where a full disk takes no more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from launcher.errors import DiskFullError
from launcher.profiles.model import Profile
from launcher.remote import tools
from launcher.remote.items import Item
from launcher.ssh.door import opened
from tests.far import Far


def test_a_full_box_is_asked_by_older_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tools, "environment", lambda *_: {"bin/python": b"none"})
    monkeypatch.setattr(tools, "own_digest", lambda cache: "0" * 64)
    box = Profile(name="box", kind="ssh", host="box", shared=str(tmp_path / "box"))
    with opened(box, shell=Far()) as door:
        older = door.tools
    monkeypatch.setattr(tools, "own_digest", lambda cache: "1" * 64)
    monkeypatch.setattr(Item, "size", property(lambda self: 1 << 60))
    with opened(box, shell=Far()) as door:
        assert door.tools == older and door.profile.shared == str(tmp_path / "box")
    shutil.rmtree(older)
    with pytest.raises(DiskFullError, match="no room in"), opened(box, shell=Far()):
        pass
