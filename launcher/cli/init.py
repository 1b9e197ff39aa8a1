"""`launcher init`: write a starting spec into a training folder."""

from __future__ import annotations

from pathlib import Path

import click

from launcher.cli.output import print_text
from launcher.errors import UsageError

MODELINE = "# yaml-language-server: $schema=experiment.schema.json\n"


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite an experiment.yaml that is there.")
@click.option("--with-schema", is_flag=True, help="Also write experiment.schema.json, and point editors to it.")
def init(folder: Path, force: bool, with_schema: bool) -> None:
    """Write a commented experiment.yaml into DIR (this folder).

    Requirements, Python version, entry script, its options, data folders: what can be guessed is filled in.
    Nothing of the folder is run.
    """
    from launcher.spec.guess import guess
    from launcher.spec.loader import loads

    path = folder / "experiment.yaml"
    if path.exists() and not force:
        raise UsageError(f"{path} is there already", hint="--force overwrites it")
    text = (MODELINE if with_schema else "") + guess(folder)
    loads(text, path)  # a spec that we would refuse is never written
    write(path, text)
    if with_schema:
        write_schema(folder / "experiment.schema.json")
    print_text(f"next: read {path}, then `launcher run {path}`")


def write_schema(path: Path) -> None:
    from launcher.cli.output import json_text
    from launcher.spec.schema import json_schema

    write(path, json_text(json_schema()) + "\n")


def write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as e:
        raise UsageError(f"{path} can't be written: {e.strerror}") from e
    print_text(f"wrote {path}")
