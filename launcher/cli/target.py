"""`launcher target`: name clusters, and see what is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from launcher.cli.output import json_option, print_json, print_text
from launcher.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launcher.profiles import Profile

SAID = ("host", "shared", "scratch", "partition", "account", "qos", "runtime", "transport", "store", "python")


@click.group("target")
def target() -> None:
    """Name clusters, and see what is known of them. `local` is this machine, and needs no name."""


@target.command("add")
@click.argument("name")
@click.option("--slurm", is_flag=True, help="It is a Slurm cluster: the only kind yet.")
@click.option(
    "--host", metavar="LOGIN", help="What ssh is told to reach its login node; without it this machine is one."
)
@click.option("--shared", metavar="DIR", help="A folder of yours that login node and nodes see under the same path.")
@click.option("--scratch", metavar="DIR", help="A folder on each node's own disk, for images.")
@click.option("--partition", metavar="P", help="Where jobs go (default: the cluster's default partition).")
@click.option("--account", metavar="A", help="Who is charged.")
@click.option("--qos", metavar="Q", help="Quality of service.")
@click.option("--store", metavar="URL", help="The store of runs there, when neither spec nor command line names one.")
@click.option("--python", metavar="PROGRAM", help="Python 3.10 or newer there (default: python3).")
@click.option("--runtime", metavar="NAME", help="What runs containers there (default: apptainer).")
@click.option("--transport", type=click.Choice(["ssh", "fabric"]), help="The system's ssh (default), or Fabric.")
@click.option("--set", "words", multiple=True, metavar="KEY=VALUE", help="Any other key; again for each line of setup.")
@click.option("--template", metavar="NAME", help="Begin with what ships for such sites; `target list` names them.")
@click.option("--replace", is_flag=True, help="Write the file anew when there is one.")
@click.option("--no-doctor", is_flag=True, help="Don't look there now.")
@click.pass_context
def add(
    ctx: click.Context,
    /,
    *,
    name: str,
    slurm: bool,
    words: tuple[str, ...],
    template: str | None,
    replace: bool,
    no_doctor: bool,
    **said: str | None,
) -> None:
    """Write down a cluster as NAME, and look at it (`launcher doctor NAME`).

    What you say goes to a file of yours that is never rewritten; edit it as you like.
    """
    from launcher import profiles
    from launcher.profiles import writing

    if not slurm:
        raise UsageError("what kind of target is it?", hint=f"`launcher target add {name} --slurm`: the only kind yet")
    values: dict[str, Any] = {key: said[key] for key in SAID if said[key] is not None}
    text = writing.filled(writing.template(template), values | writing.settings(words))
    file = profiles.save(name, text, replace=replace)
    print_text(f"{name}: {file}")
    if not no_doctor:
        from launcher.cli.doctor import examined

        ctx.exit(examined(profiles.load(name)))


@target.command("list")
@json_option
def list_targets(as_json: bool) -> None:
    """List the targets, and the templates to begin with."""
    from launcher import profiles
    from launcher.profiles.writing import templates

    known = [profiles.load(name) for name in profiles.names()]
    if as_json:
        print_json({"targets": [shown(one) for one in known], "templates": templates()})
        return
    print_text("local  this machine")
    for one in known:
        print_text(f"{one.name}  {summary(one)}")
    print_text("templates, for `target add --template`:")
    for name, text in templates().items():
        print_text(f"  {name}  {text}")


def summary(profile: Profile) -> str:
    parts = [profile.kind, f"by {profile.transport} at {profile.host}" if profile.host else "from this machine"]
    parts += [f"partition {profile.partition}"] if profile.partition else []
    parts += [f"looked at {profile.seen}" if profile.seen else "nobody has looked yet: `launcher doctor` does"]
    return ", ".join(parts)


@target.command("show")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show everything that is known of the target NAME: what you say and what was found."""
    from launcher import profiles
    from launcher.profiles.files import file_of, found_file_of

    profile = profiles.load(name)
    if as_json:
        print_json(shown(profile) | {"file": file_of(name), "found_file": found_file_of(name)})
        return
    print_text(f"{name}: {summary(profile)}\n  {file_of(name)}\n  {found_file_of(name)}")
    for line in facts(profile):
        print_text(f"  {line}")


def shown(profile: Profile) -> dict[str, Any]:
    return profile.to_json()


def facts(profile: Profile) -> Iterator[str]:
    """Yield a line for each thing that is known."""
    from launcher.profiles.explaining import described

    lists = ("name", "kind", "partitions", "qoses", "warnings", "seen")
    for key, value in profile.to_json().items():
        if key not in lists and value not in (None, "", (), {}):
            yield f"{key} = {', '.join(value) if isinstance(value, tuple) else value}"
    for partition in profile.partitions:
        yield f"partition {described(partition)}"
    for warning in profile.warnings:
        yield f"warning: {warning.says}"


@target.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Forget the target NAME. Nothing on the cluster is touched."""
    from launcher import profiles

    profiles.remove(name)
    print_text(f"{name} is forgotten; what launcher keeps there lies in its shared folder")
