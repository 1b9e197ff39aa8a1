"""`launcher schema`: print the JSON Schema of a spec."""

from __future__ import annotations

import click

from launcher.cli.output import print_json


@click.command()
def schema() -> None:
    """Print the JSON Schema (2020-12) of a spec.

    Save it as experiment.schema.json beside the spec, and begin the spec with the line
    `# yaml-language-server: $schema=experiment.schema.json` to have editors check and complete it.
    """
    from launcher.spec.schema import json_schema

    print_json(json_schema())
