"""Reads parameters of the command line: `name=value` words, typed as a spec's own parameters are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from launcher.errors import Problem, UsageError
from launcher.spec.model import Param


def overridden(words: Iterable[str], params: Mapping[str, Param]) -> dict[str, Param]:
    """Read `name=value` words by the rules that a spec's own parameters are read by.

    Raises UsageError that tells of every word that is no such pair, or names no parameter of the spec.
    """
    from launcher.spec.scalars import word_meaning, word_trap

    found: dict[str, Param] = {}
    problems: list[Problem] = []
    for word in words:
        name, equals, text = word.partition("=")
        if not is_utf8(word):
            problems.append(Problem(message=f"-p {name}: {text!r} is not UTF-8", hint="JSON can't carry other bytes"))
        elif not equals:
            problems.append(Problem(message=f"`-p {word}` is no name=value"))
        elif name not in params:
            problems.append(Problem(message=f"the spec has no parameter `{name}`", hint=known(name, params)))
        elif reason := word_trap(text):
            problems.append(Problem(message=f"-p {word}: {reason}"))
        else:
            found[name] = word_meaning(text)
    if problems:
        raise UsageError.of(problems)
    return found


def is_utf8(text: str) -> bool:
    """Tell whether a word of the command line was UTF-8: other bytes arrive as lone surrogates (PEP 383)."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def known(name: str, params: Mapping[str, Param]) -> str:
    import difflib

    near = difflib.get_close_matches(name, list(params), 1)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"it has {', '.join(sorted(params))}" if params else "it has none: list them under `params:`"
