"""Guesses a starting spec from an existing training folder, by reading it only: nothing of it is run."""

from __future__ import annotations

from pathlib import Path

from launcher.spec.guess import imports, project, script, writing


def guess(folder: Path) -> str:
    """Return the text of a commented spec for a folder. It loads without an error as `folder/experiment.yaml`."""
    sources = imports.sources(folder)
    about = project.read(folder)
    entry = script.find(folder, sources)
    wanted = imports.distributions(folder, sources)
    return writing.text(about, entry, wanted)
