"""`launcher target`: name clusters and boxes, and see what is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from launcher.cli.clean import clean
from launcher.cli.hostkeys import host_key_option
from launcher.cli.output import json_option, print_json, print_text
from launcher.errors import Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from launcher.profiles import Profile
    from launcher.profiles.model import Box

COMMON = ("runtime", "transport", "store", "python")
SAID = {  # options that say a key of the same name, by the kind of target that has it
    "slurm": (*COMMON, "host", "shared", "scratch", "partition", "account", "qos"),
    "ssh": (*COMMON, "folder", "ship", "notice"),
}


@click.group("target")
def target() -> None:
    """Name clusters and boxes, and see what is known of them. `local` is this machine, and needs no name."""


@target.command("add")
@click.argument("name")
@click.option("--slurm", is_flag=True, help="It is a Slurm cluster.")
@click.option(
    "--ssh", metavar="HOST", help="It is a box of yours: what ssh is told to reach it, such as root@box:2222."
)
@click.option(
    "--host", metavar="LOGIN", help="What ssh is told to reach its login node; without it this machine is one."
)
@click.option("--shared", metavar="DIR", help="A folder of yours that login node and nodes see under the same path.")
@click.option("--scratch", metavar="DIR", help="A folder on each node's own disk, for images.")
@click.option("--partition", metavar="P", help="Where jobs go (default: the cluster's default partition).")
@click.option("--account", metavar="A", help="Who is charged.")
@click.option("--qos", metavar="Q", help="Quality of service.")
@click.option("--folder", metavar="DIR", help="Of a box: launcher's folder there (default: where there is room).")
@click.option("--ship", metavar="HOW", help="Of a box: who writes to the store: direct, relay or auto (default).")
@click.option(
    "--notice", multiple=True, metavar="WHAT", help="Of a box: what tells that it is taken away: aws, a file."
)
@host_key_option
@click.option("--store", metavar="URL", help="The store of runs there, when neither spec nor command line names one.")
@click.option("--python", metavar="PROGRAM", help="Python 3.10 or newer there (default: python3).")
@click.option("--runtime", metavar="NAME", help="What runs containers there (default: apptainer; the best of a box).")
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
    ssh: str | None,
    words: tuple[str, ...],
    template: str | None,
    host_keys: tuple[str, ...],
    replace: bool,
    no_doctor: bool,
    **said: Any,
) -> None:
    """Write down a cluster or a box as NAME, and look at it (`launcher doctor NAME`).

    What you say goes to a file of yours that is never rewritten; edit it as you like.
    """
    from launcher import profiles
    from launcher.profiles import writing
    from launcher.profiles.keys import KINDS

    kind = kind_of(name, slurm, ssh)
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in said.items() if value}
    refuse_others({**values, "template": template, "host-key": host_keys}, kind)
    if ssh:
        values = {"host": ssh} | values
    text = writing.filled(writing.template(template, kind), values | writing.settings(words, KINDS[kind]))
    file = profiles.save(name, text, replace=replace)
    print_text(f"{name}: {file}")
    if not no_doctor:
        from launcher.cli.doctor import examined

        ctx.exit(examined(profiles.load(name), host_keys=host_keys))


def kind_of(name: str, slurm: bool, ssh: str | None) -> str:
    """Return what kind of target is meant. Raises UsageError where that is not one."""
    if slurm == (ssh is not None):
        says = "a target is either a cluster or a box" if slurm else "what kind of target is it?"
        hint = f"`launcher target add {name} --slurm` for a cluster, `launcher target add {name} --ssh HOST` for a box"
        raise UsageError(says, hint=hint)
    return "slurm" if slurm else "ssh"


def refuse_others(said: Mapping[str, object], kind: str) -> None:
    """Raise UsageError that tells of every option that targets of this kind don't have."""
    from launcher.profiles.keys import CALLED

    own = (*SAID[kind], "host-key", *(["template"] if kind == "slurm" else []))
    names = ", ".join(f"--{key}" for key in own)
    wrong = [key for key, value in said.items() if value and key not in own]
    hints = (
        {"host": "--ssh HOST says where it is", "shared": "--folder DIR names a folder on it"} if kind == "ssh" else {}
    )
    problems = [
        Problem(message=f"--{key} is not for {CALLED[kind]}", hint=hints.get(key, f"it may have {names}"))
        for key in wrong
    ]
    if problems:
        raise UsageError.of(problems)


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
    parts += [f"{inventory(profile.box)}, by {profile.runtime}"] if profile.box else []
    parts += [f"looked at {profile.seen}" if profile.seen else "nobody has looked yet: `launcher doctor` does"]
    return ", ".join(parts)


def inventory(box: Box) -> str:
    """Return what a box has in some words."""
    from launcher.gpu.verdict import inventory as gpus
    from launcher.profiles.box_fit import as_node

    return gpus(as_node(box).devices) if box.gpus else f"{box.cpus or '?'} CPUs, no GPU"


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

    if profile.kind == "ssh":
        yield from box_facts(profile)
        return
    lists = ("name", "kind", "partitions", "qoses", "warnings", "seen", "box", "ship", "notice")
    for key, value in profile.to_json().items():
        if key not in lists and value not in (None, "", (), {}):
            yield f"{key} = {', '.join(value) if isinstance(value, tuple) else value}"
    for partition in profile.partitions:
        yield f"partition {described(partition)}"
    for warning in profile.warnings:
        yield f"warning: {warning.says}"


def box_facts(profile: Profile) -> Iterator[str]:
    """Yield a line for each thing that is known of a box."""
    from launcher.profiles.box_fit import described
    from launcher.profiles.keys import BOX, FIELDS

    told = profile.to_json()
    lines = [(key, told[FIELDS.get(key, key)]) for key in BOX if key != "kind"]
    box = told.get("box") or {}
    lines += [(key, value) for key, value in box.items() if key not in ("engines", "gpus")]
    for key, value in lines:
        if value not in (None, "", (), {}):
            yield f"{key} = {', '.join(map(str, value)) if isinstance(value, tuple) else value}"
    for engine in profile.box.engines if profile.box else ():
        yield f"engine {described(engine)}" + (f": not usable, {engine.why}" if engine.why else "")
    for gpu in box.get("gpus", ()):
        yield f"gpu {', '.join(f'{key} {value}' for key, value in gpu.items())}"
    for warning in profile.warnings:
        yield f"warning: {warning.says}"


@target.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Forget the target NAME. Nothing that is there is touched."""
    from launcher import profiles

    profiles.remove(name)
    print_text(f"{name} is forgotten; what launcher keeps there lies in its folder")


target.add_command(clean)
