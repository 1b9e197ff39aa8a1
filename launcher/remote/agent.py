"""Calls of our own functions on a login node: one question in JSON on stdin, one answer in JSON on stdout.

    {"call": name, "argument": ...}   ->   {"answer": ...} or {"error": {"kind": ..., "problems": [...]}}

Errors of launcher's tree are raised again where the question was asked, with what they say and what to do.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launcher import errors
from launcher.errors import LauncherError, Problem, TargetError, Where
from launcher.remote.here import Here
from launcher.remote.model import Shell
from launcher.remote.tools import python
from launcher.remote.words import after_setup

AGENT = "launcher.slurm.agent"
MARK = "\nlauncher answers: "
Functions = Mapping[str, Callable[[Any], Any]]


def call(
    shell: Shell,
    tools: str,
    name: str,
    argument: Any = None,
    *,
    setup: Sequence[str] = (),
    functions: Functions | None = None,
    module: str = AGENT,
    timeout_s: float | None = None,
) -> Any:
    """Call a function of a module there: one round trip. `setup` are the lines of the profile.

    On this machine one of `functions` is called directly, unless `setup` has to come before it. Raises the launcher
    errors that the function raised, and TargetError when no answer came: nothing is known of what it did then.
    """
    if functions is not None and isinstance(shell, Here) and not setup:
        return functions[name](argument)
    asked = json.dumps({"call": name, "argument": argument}).encode()
    done = shell.run(after_setup(setup, [python(tools), "-I", "-m", module]), stdin=asked, timeout_s=timeout_s)
    _, mark, answer = done.stdout.rpartition(MARK.encode())
    try:
        told = json.loads(answer) if mark else {}
    except ValueError:
        told = {}
    if not isinstance(told, dict):
        told = {}
    if "error" in told:
        raise error_from(told["error"])
    if "answer" not in told:
        said = done.stderr.decode(errors="replace").strip()[-2000:]
        raise TargetError(
            f"{shell.where} gave no answer to `{name}` (exit code {done.code}): nothing is known of what it did: {said}"
        )
    return told["answer"]


def serve(functions: Functions) -> None:
    """Answer one question. Whatever the functions print, and the programs that they start, goes to stderr."""
    own = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(own, "wb") as out:
        answer = answered(functions, sys.stdin.buffer.read())
        sys.stdout.flush()
        out.write(MARK.encode() + json.dumps(answer).encode() + b"\n")


def answered(functions: Functions, question: bytes) -> dict[str, Any]:
    """Return the answer to a question; a mistake of our own is none, it ends the program with its traceback."""
    asked = json.loads(question)
    try:
        if asked["call"] not in functions:
            raise TargetError(
                f"there is no function `{asked['call']}` there", hint="submit again: it brings its own tools"
            )
        return {"answer": functions[asked["call"]](asked["argument"])}
    except LauncherError as e:
        return {"error": error_json(e)}


def error_json(error: LauncherError) -> dict[str, Any]:
    """Write an error of launcher's tree down; one of a room's own becomes the nearest that everybody knows."""
    kind = next(one.__name__ for one in type(error).__mro__ if getattr(errors, one.__name__, None) is one)
    return {"kind": kind, "problems": [problem_json(one) for one in error.problems]}


def problem_json(problem: Problem) -> dict[str, Any]:
    where = vars(problem.where) if problem.where else None
    return {"message": problem.message, "hint": problem.hint, "where": where}


def error_from(told: Any) -> LauncherError:
    """Read an error back; what is none was told by a machine that isn't ours, or by another launcher."""
    try:
        kind = getattr(errors, str(told["kind"]), TargetError)
        found: LauncherError = (kind if issubclass(kind, LauncherError) else TargetError).of(
            Problem(
                message=str(one["message"]), hint=one["hint"], where=Where(**one["where"]) if one["where"] else None
            )
            for one in told["problems"]
        )
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        return TargetError(f"an error was told that can't be read: {e!r}")
    return found
