"""Fills parameters into a command, safely quoted; and gives them as environment variables.

The string form of `run` is a line for `/bin/sh -c`. A place is `{name}`, where `name` is a parameter; its value
is quoted for the shell where it stands. The list form is an argument list that no shell reads; its places are
filled with the plain text.

- `${name}` is the shell's own, and is left alone.
- `{{name}}` is the text `{name}`.
- A place inside quotes would be quoted twice, so it is refused; `{word}` of no parameter stays as it is there,
  as in awk '{print}'. Outside quotes an unknown `{word}` is an error.
- Comments are left alone. A place after a backquote, a here-document or `$(` within double quotes is refused: no
  quoting is right there in every shell. LAUNCHER_PARAM_<NAME> serves in such a spot.

As text, true and false are `true` and `false`, null is the empty string, and numbers are as Python's repr has them.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from launcher.spec.model import Param

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
PLACE = re.compile(r"(?<!\$)\{(" + NAME.pattern + r")\}")
ESCAPED = re.compile(r"(?<!\$)\{\{(" + NAME.pattern + r")\}\}")
SIMPLE_VARIABLE = re.compile(r"\$\{[A-Za-z0-9_]+\}")
HARMLESS = re.compile(r"[A-Za-z0-9_./:+-]+")
TOUCHING_BEFORE = re.compile(r"[A-Za-z0-9_]")
TOUCHING_AFTER = re.compile(r"[<>(]")
COMMENT_STARTS_AFTER = frozenset(" \t\n;&|()")

Context = Literal["bare", "quoted", "comment", "nested"]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a command: literal text, `{place}` or `{{escaped}}` with its name; and what surrounds it."""

    kind: Literal["text", "place", "escaped", "open quote"]
    text: str
    name: str = ""
    context: Context = "bare"
    touches: bool = False  # a neighbour would change what an unquoted value means, as in `$HOME{x}` or `{x}>file`


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """What is wrong with a command, and what to do."""

    message: str
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Template:
    """A command whose places are found: filling in many sets of parameters reads it once.

    Each word is text, or pieces of text and places in their order.
    """

    words: tuple[tuple[str | Piece, ...], ...]
    quote: bool

    def fill(self, params: Mapping[str, Param]) -> tuple[str, ...]:
        """Return the final argument list; `params` has the names that the template was made for."""
        words = tuple("".join(self.part(piece, params) for piece in word) for word in self.words)
        return ("/bin/sh", "-c", *words) if self.quote else words

    def part(self, piece: str | Piece, params: Mapping[str, Param]) -> str:
        if isinstance(piece, str):
            return piece
        value = text(params[piece.name])
        return quoted(value, piece.touches) if self.quote else value


def template(run: str | tuple[str, ...], names: Iterable[str]) -> Template:
    """Cut a command into text and places. Raises ValueError for a command that `mistakes` complains about."""
    known = frozenset(names)
    if found := mistakes(run, known):
        raise ValueError(found[0].message)
    parsed = [pieces(run)] if isinstance(run, str) else [bare(part) for part in run]
    return Template(words=tuple(joined(part, known) for part in parsed), quote=isinstance(run, str))


def joined(parsed: Iterable[Piece], known: frozenset[str]) -> tuple[str | Piece, ...]:
    """Join what no parameter changes into text."""
    found: list[str | Piece] = []
    stand_in = dict.fromkeys(known, "")
    for piece in parsed:
        if piece.kind == "place" and piece.name in known and piece.context != "comment":
            found.append(piece)
        elif found and isinstance(found[-1], str):
            found[-1] += filled(piece, stand_in, quote=False)
        else:
            found.append(filled(piece, stand_in, quote=False))
    return tuple(found)


def render(run: str | tuple[str, ...], params: Mapping[str, Param]) -> tuple[str, ...]:
    """Return the final argument list. Raises ValueError for a command that `mistakes` complains about."""
    return template(run, params).fill(params)


def text(value: Param) -> str:
    """Return a parameter's value as a program gets it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def environment(params: Mapping[str, Param]) -> dict[str, str]:
    """Return the environment variables that carry the parameters."""
    return {variable(name): text(value) for name, value in params.items()}


def variable(name: str) -> str:
    """Return the environment variable of a parameter: `optimizer.lr` is in LAUNCHER_PARAM_OPTIMIZER_LR."""
    return "LAUNCHER_PARAM_" + re.sub(r"[^A-Z0-9]", "_", name.upper())


def places(run: str | tuple[str, ...], params: Iterable[str]) -> frozenset[str]:
    """Return the parameters that a command has places for."""
    known = frozenset(params)
    found = pieces(run) if isinstance(run, str) else (piece for part in run for piece in bare(part))
    return frozenset(piece.name for piece in found if piece.kind == "place" and piece.name in known)


def mistakes(run: str | tuple[str, ...], params: Iterable[str]) -> tuple[Mistake, ...]:
    """Return what is wrong with the places of a command."""
    known = frozenset(params)
    if not isinstance(run, str):
        found = [mistake for part in run for piece in bare(part) if (mistake := misplaced(piece, known))]
        return tuple(dict.fromkeys(found))
    parsed = list(pieces(run))
    found = [mistake for piece in parsed if (mistake := misplaced(piece, known))]
    if parsed and parsed[-1].kind == "open quote":
        quote = parsed[-1].text
        found.append(Mistake(message=f"the quote {quote} is never closed", hint=f"close it, or escape it as \\{quote}"))
    return tuple(dict.fromkeys(found))


def misplaced(piece: Piece, known: frozenset[str]) -> Mistake | None:
    """Return what is wrong with one piece, if anything is."""
    if piece.kind != "place" or piece.context == "comment":
        return None
    if piece.name not in known:
        return unknown(piece.name, known) if piece.context == "bare" else None
    if piece.context == "quoted":
        return Mistake(
            message=f"{piece.text} stands inside quotes",
            hint=f"take the quotes away (its value is quoted when filled in), or write ${{{variable(piece.name)}}}",
        )
    if piece.context == "nested":
        return Mistake(
            message=f"{piece.text} stands where no quoting is safe (after a backquote, a here-document or a nested $)",
            hint=f'write "${{{variable(piece.name)}}}" there, the environment variable with the same value',
        )
    return None


def unknown(name: str, known: frozenset[str]) -> Mistake:
    near = difflib.get_close_matches(name, sorted(known), 1)
    hint = f"did you mean {{{near[0]}}}? " if near else f"add `{name}` to params. " if not known else ""
    have = f"The parameters are: {', '.join(sorted(known))}. " if known and not near else ""
    return Mistake(
        message=f"{{{name}}} names no parameter", hint=f"{hint}{have}Write {{{{{name}}}}} to have the text {{{name}}}"
    )


def filled(piece: Piece, params: Mapping[str, Param], *, quote: bool) -> str:
    """Return the final text of one piece."""
    if piece.kind == "text":
        return piece.text
    # `{{x}}` is an escape only where `{x}` would have meant something; elsewhere braces are the program's own.
    if piece.kind == "escaped":
        meant = piece.context == "bare" or (piece.context == "quoted" and piece.name in params)
        return f"{{{piece.name}}}" if meant else piece.text
    if piece.name not in params or piece.context == "comment":
        return piece.text
    value = text(params[piece.name])
    return quoted(value, piece.touches) if quote else value


def quoted(value: str, touches: bool) -> str:
    """Quote a value for the shell; a harmless word that touches nothing stays as it is, for readers of records."""
    if HARMLESS.fullmatch(value):
        return f"'{value}'" if touches else value
    quoted_value = shlex.quote(value)
    return quoted_value if quoted_value != value else f"'{value}'"


def bare(part: str) -> Iterator[Piece]:
    """Cut one element of the list form into pieces."""
    at = 0
    while at < len(part):
        piece = piece_at(part, at, "bare")
        yield piece
        at += len(piece.text)


def piece_at(line: str, at: int, context: Context) -> Piece:
    """Return the piece that begins at an index: an escaped name, a place, or one character."""
    if found := ESCAPED.match(line, at):
        return Piece(kind="escaped", text=found[0], name=found[1], context=context)
    if found := PLACE.match(line, at):
        touches = bool(TOUCHING_BEFORE.match(line[:at][-1:]) or TOUCHING_AFTER.match(line, found.end()))
        return Piece(kind="place", text=found[0], name=found[1], context=context, touches=touches)
    return Piece(kind="text", text=line[at], context=context)


def pieces(line: str) -> Iterator[Piece]:
    """Cut a shell line into pieces, following quotes and comments (POSIX shell, 2.2 and 2.3)."""
    at, quote, nested = 0, "", False
    while at < len(line):
        nested = nested or opens_nesting(line, at, quote)
        if quote != "'" and line[at] == "\\":
            piece = Piece(kind="text", text=line[at : at + 2])
        elif not quote and not nested and starts_comment(line, at):
            end = line.find("\n", at)
            piece = Piece(kind="text", text=line[at : end if end >= 0 else len(line)], context="comment")
        else:
            piece = piece_at(line, at, "nested" if nested else "quoted" if quote else "bare")
            if piece.text in ("'", '"') and quote in ("", piece.text):
                quote = "" if quote else piece.text
        yield piece
        at += len(piece.text)
    if quote and not nested:
        yield Piece(kind="open quote", text=quote, context="quoted")


def starts_comment(line: str, at: int) -> bool:
    return line[at] == "#" and (at == 0 or line[at - 1] in COMMENT_STARTS_AFTER)


def opens_nesting(line: str, at: int, quote: str) -> bool:
    """Tell whether quoting rules change from here on in a way that this small reader doesn't follow."""
    if quote == "'":
        return False
    if line[at] == "`" or (not quote and line.startswith("<<", at)):
        return True
    return quote == '"' and (
        line.startswith("$(", at) or (line.startswith("${", at) and not SIMPLE_VARIABLE.match(line, at))
    )
