"""The command line's frame: verbs that are imported when they are used, and the one place where errors become text."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import click

from launcher import __version__
from launcher.errors import UsageError


class Verb(NamedTuple):
    """A verb is the click command named like itself in `launcher.cli.<verb>`; `help` is its line in the list."""

    module: str
    attribute: str
    help: str


def verb(name: str, text: str) -> Verb:
    return Verb(f"launcher.cli.{name}", name, text)


# The lines stand here and not in the modules, so that `launcher --help` imports none of them.
VERBS: dict[str, Verb] = {
    "init": verb("init", "Write a starting spec into a training folder."),
    "schema": verb("schema", "Print the JSON Schema of a spec, for editors."),
    "lock": verb("lock", "Resolve a spec into a lock: every artifact by its digest."),
    "check": verb("check", "Say whether a target can serve a spec."),
    "build": verb("build", "Assemble the image of a lock."),
    "points": verb("points", "Show the points that a sweep makes."),
    "run": verb("run", "Run a spec, here or on a box: lock, build, run, record."),
    "submit": verb("submit", "Submit a spec and its sweep to a cluster."),
    "wait": verb("wait", "Wait until a sweep or a run is over."),
    "attach": verb("attach", "Come back to a run on a box."),
    "resume": verb("resume", "Go on with a run from its last checkpoint, where it was or elsewhere."),
    "pull": verb("pull", "Bring what a box has of a run to the store."),
    "cancel": verb("cancel", "Cancel a sweep, points of it, or a run on a box."),
    "retry": verb("retry", "Run points of a sweep again that failed, or were cancelled."),
    "rerun": verb("rerun", "Run a recorded run again, from its record."),
    "rebuild": verb("rebuild", "Build the image of a lock again, and compare it bit by bit."),
    "ls": verb("ls", "List runs."),
    "table": verb("table", "Compare runs, or the points of a sweep: parameters that differ, and metrics."),
    "status": verb("status", "Say how sweeps stand, what runs now, and what failed."),
    "show": verb("show", "Show the record of a run."),
    "logs": verb("logs", "Print or follow the logs of a run."),
    "store": verb("store", "Look at a store: what it can do, and how fast."),
    "get": verb("get", "Fetch what a run left: outputs, a checkpoint, logs."),
    "target": verb("target", "Name clusters: add, list, show, remove."),
    "doctor": verb("doctor", "Look at a cluster, and say what was found and what is missing."),
    "data": verb("data", "Put inputs into a store; list and remove those on this node."),
    "vault": verb("vault", "Keep the artifacts of a lock in a store."),
}


class LazyGroup(click.Group):
    """A group whose commands are modules that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (found := VERBS.get(cmd_name)) is None:
            return None
        try:
            module = importlib.import_module(found.module)
        except ModuleNotFoundError as e:
            if e.name != found.module:
                raise
            raise UsageError(f"`launcher {cmd_name}` is not part of this version") from e
        command = getattr(module, found.attribute)
        assert isinstance(command, click.Command), f"{found.module}:{found.attribute} is no command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            raise UsageError(f"there is no verb `{args[0]}`", hint=nearest_verb(args[0]))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, found.help) for name, found in VERBS.items()])


def nearest_verb(word: str) -> str:
    """Say which verb was probably meant."""
    import difflib

    near = difflib.get_close_matches(word, list(VERBS), 1)
    return f"did you mean `launcher {near[0]}`?" if near else "`launcher --help` lists the verbs"


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="launcher %(version)s")
@click.option("-q", "--quiet", is_flag=True, help="Tell nothing but results and errors.")
@click.option("-v", "--verbose", count=True, help="Tell what is done; twice: every program that is called.")
@click.option("--debug", is_flag=True, help="Print a traceback with every error.")
@click.pass_context
def launcher(ctx: click.Context, quiet: bool, verbose: int, debug: bool) -> None:
    """Compile an experiment spec into a lock, the lock into a bit-identical image, and run it anywhere."""
    import logging  # late: it costs a tenth of `launcher --help`

    from launcher.cli.settings import Settings

    ctx.obj = Settings(quiet=quiet, verbose=verbose)
    level = logging.DEBUG if verbose > 1 else logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", force=True)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(invoke(sys.argv[1:] if args is None else list(args)))


def invoke(args: list[str]) -> int:
    """Run the command line; return its exit code. This is the one boundary where errors are told."""
    try:
        code = dispatch(list(args))  # click empties the list that it is given
        if sys.stdout is not None:  # closed by whoever began this
            sys.stdout.flush()
        return code
    except (Exception, KeyboardInterrupt) as error:
        from launcher.cli.boundary import tell

        return tell(error, args)


def dispatch(args: list[str]) -> int:
    """Let click parse and call. Exceptions of every kind pass through."""
    if "_LAUNCHER_COMPLETE" in os.environ:  # set by the shell completion that click generates
        launcher.main(args, prog_name="launcher")
    try:
        with launcher.make_context("launcher", args) as ctx:
            result = launcher.invoke(ctx)
    except click.exceptions.Exit as e:
        return e.exit_code
    return result if isinstance(result, int) else 0
