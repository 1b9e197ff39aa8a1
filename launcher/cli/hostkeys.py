"""What a person is asked about a host key that nobody here knows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from launcher.remote.hostkeys import HostKey

host_key_option = click.option(
    "--host-key",
    "host_keys",
    multiple=True,
    metavar="SHA256:...",
    help="Take exactly this host key where none is known, and ask nothing; again for each jump host.",
)


def decide(shown: HostKey) -> bool:
    """Show a key and ask whether it is the right one. Raises TargetError where there is nobody to ask."""
    from launcher.remote.hostkeys import unknown

    if not (os.isatty(0) and os.isatty(2)):
        raise unknown(shown)
    click.echo(f"The host key of {shown.name} is not known here:\n  {shown.kind} {shown.fingerprint}", err=True)
    click.echo("Compare it with what its provider shows, or with `ssh-keygen -lf` of its public key there.", err=True)
    return click.confirm("Is it the same?", default=False, err=True)
