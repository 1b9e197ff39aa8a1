"""Read a lock: every mistake in it is told at once, with its line and its key."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from launcher.errors import LockError, Problem, Where
from launcher.gpu.model import Code, Gpu
from launcher.lock import rules
from launcher.lock.model import (
    LOCK_VERSION,
    Artifact,
    Base,
    Blob,
    DataPin,
    Deb,
    ImagePin,
    Inputs,
    LayerPin,
    Lock,
    Wheel,
)
from launcher.lock.places import key_lines, line_of
from launcher.lock.rules import Field
from launcher.toml import parse

RELOCK = "restore the file from version control, or make it anew with `launcher lock --upgrade`"


def load(path: Path) -> Lock:
    """Read a lock file.

    Raises LockError: the file is not there or not UTF-8, or `loads` refuses it.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # some editors begin a file with U+FEFF
    except FileNotFoundError as e:
        raise LockError(f"there is no lock {path}", hint="make it with `launcher lock`") from e
    except (OSError, UnicodeDecodeError) as e:
        raise LockError(f"can't read the lock: {reason(e)}", where=Where(file=str(path)), hint=RELOCK) from e
    return loads(text, file=str(path))


def reason(error: OSError | UnicodeDecodeError) -> str:
    return f"byte {error.start + 1} is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error.strerror)


def loads(text: str, file: str = "<lock>") -> Lock:
    """Read a lock from its text; `file` is its name in messages. The order of tables doesn't matter.

    Raises LockError with every mistake.
    """
    raw = parse(text, file, LockError, hint=RELOCK)
    reading = Reading(text, file)
    if problem := reading.newer(raw):
        raise LockError.of([problem])
    reading.lock(raw)
    if reading.problems:
        raise LockError.of(sorted(reading.problems, key=lambda problem: (problem.where and problem.where.line) or 0))
    return assemble(raw)


class Reading:
    """One pass over a lock's tables that collects what is wrong."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.lines = key_lines(text)
        self.problems: list[Problem] = []

    def problem(self, key: str, message: str, hint: str | None = None) -> Problem:
        where = Where(file=self.file, line=line_of(key, self.lines), key=key)
        return Problem(message=message, where=where, hint=hint)

    def add(self, key: str, message: str, hint: str | None = None) -> None:
        self.problems.append(self.problem(key, message, hint))

    def newer(self, raw: Mapping[str, Any]) -> Problem | None:
        """Say so when the file was made by a newer launcher: then no other rule can be trusted."""
        version = raw.get("version")
        if not isinstance(version, int) or version <= LOCK_VERSION:
            return None
        words = f"this lock was made by a newer launcher (lock version {version}; this one reads {LOCK_VERSION})"
        return self.problem("version", words, "update launcher, or lock again with this one: `launcher lock --upgrade`")

    def lock(self, raw: Mapping[str, Any]) -> None:
        self.table("", raw, rules.TOP)
        for key, fields in (("inputs", rules.INPUTS), ("base", rules.BASE), ("gpu", rules.GPU), ("image", rules.IMAGE)):
            if isinstance(table := raw.get(key), dict):
                self.table(key, table, fields)
        self.lists(raw.get("inputs"))
        self.env(raw.get("env"))
        self.tables("data", raw.get("data"), rules.DATA)
        self.tables("deb", raw.get("deb"), rules.DEB)
        self.tables("wheel", raw.get("wheel"), rules.WHEEL)
        if isinstance(base := raw.get("base"), dict):
            self.base(base)
        if isinstance(gpu := raw.get("gpu"), dict):
            self.tables("gpu.code", gpu.get("code"), rules.CODE)
        if isinstance(image := raw.get("image"), dict):
            self.tables("image.layer", image.get("layer"), rules.LAYER, unique=False)
        self.filenames(raw)

    def base(self, base: Mapping[str, Any]) -> None:
        if isinstance(config := base.get("config"), dict):
            self.table("base.config", config, rules.ARTIFACT)
        self.tables("base.layer", base.get("layer"), rules.BLOB, unique=False)

    def table(self, path: str, table: Mapping[str, Any], fields: Mapping[str, Field]) -> None:
        for key in (key for key in table if key not in fields):
            near = difflib.get_close_matches(key, fields, 1)
            hint = f"did you mean `{near[0]}`?" if near else None
            self.add(joined(path, key), "a lock has no such key", hint)
        for key, field in fields.items():
            if key not in table:
                if not field.optional:
                    self.add(joined(path, key), "is missing", RELOCK)
            elif wrong := judge(table[key], field):
                self.add(joined(path, key), wrong)

    def tables(self, path: str, tables: object, fields: Mapping[str, Field], unique: bool = True) -> None:
        if not isinstance(tables, list):
            return  # missing, or told already
        for number, table in enumerate(tables):
            if isinstance(table, dict):
                self.table(f"{path}[{number}]", table, fields)
            else:
                self.add(f"{path}[{number}]", "must be a table")
        if unique:
            self.unique(path, [table.get("name") for table in tables if isinstance(table, dict)])

    def unique(self, path: str, names: list[object]) -> None:
        for name, count in Counter(map(str, names)).items():
            if count > 1:
                last = max(number for number, other in enumerate(names) if str(other) == name)
                self.add(f"{path}[{last}].name", f"`{name}` is there {count} times", RELOCK)

    def lists(self, inputs: object) -> None:
        for key in ("apt", "pip", "constraints", "build", "build_apt"):
            items = inputs.get(key, []) if isinstance(inputs, dict) else []
            for number, item in enumerate(items if isinstance(items, list) else []):
                if wrong := judge(item, rules.TEXT):
                    self.add(f"inputs.{key}[{number}]", wrong)

    def env(self, env: object) -> None:
        for key, value in env.items() if isinstance(env, dict) else ():
            if not isinstance(value, str):
                self.add(f"env.{key}", f"must be a string, not {typename(value)}")

    def filenames(self, raw: Mapping[str, Any]) -> None:
        """Hold file names against names and versions."""
        for number, wheel in enumerate(tables_of(raw, "wheel")):
            if wrong := wheel_mismatch(wheel):
                self.add(f"wheel[{number}].filename", wrong, RELOCK)
        for number, deb in enumerate(tables_of(raw, "deb")):
            pool, filename = str(deb.get("pool", "")), str(deb.get("filename", ""))
            if pool and filename and pool.rpartition("/")[2] != filename:
                self.add(f"deb[{number}].pool", f"must end in `{filename}`, and `{pool}` doesn't")


def judge(value: object, field: Field) -> str | None:
    """Return what is wrong with a value."""
    if not isinstance(value, field.type) or isinstance(value, bool):
        return f"must be {typename(field.type())}, not {typename(value)}"
    if isinstance(value, int) and value < field.least:
        return f"must be at least {field.least}, and {value} is not"
    return field.rule(value) if field.rule and isinstance(value, str) else None


def wheel_mismatch(wheel: Mapping[str, Any]) -> str | None:
    """Say how a wheel's file name contradicts its name or version (binary distribution format)."""
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
    from packaging.version import InvalidVersion, Version

    filename, name, version = (str(wheel.get(key, "")) for key in ("filename", "name", "version"))
    if not (filename and name and version) or rules.filename(filename):
        return None  # told already
    try:
        its_name, its_version, _, _ = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion):
        return f"`{filename}` is not the file name of a wheel"
    if canonicalize_name(name) != name:
        return f"the name must be in its normal form, `{canonicalize_name(name)}`, and `{name}` is not"
    if its_name != name:
        return f"`{filename}` is a wheel of `{its_name}`, not of `{name}`"
    try:
        fits = Version(version) == its_version
    except InvalidVersion:
        fits = False
    return None if fits else f"`{filename}` has version {its_version}, not {version}"


def typename(value: object) -> str:
    words = {str: "a string", int: "a number", list: "a list", dict: "a table", bool: "a boolean", float: "a fraction"}
    return words.get(type(value), type(value).__name__)


def joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def tables_of(raw: Mapping[str, Any], key: str) -> Iterable[dict[str, Any]]:
    """Return the tables of a kind; anything else becomes an empty table, so that numbers stay right."""
    tables = raw.get(key)
    return [table if isinstance(table, dict) else {} for table in tables] if isinstance(tables, list) else []


def assemble(raw: Mapping[str, Any]) -> Lock:
    """Make the value, in the order in which `dumps` writes it."""
    inputs = {key: tupled(value) for key, value in raw["inputs"].items()}
    return Lock(
        version=raw["version"],
        inputs=Inputs(**{"base": "", "python": None, **inputs}),
        suite=raw["suite"],
        architecture=raw["architecture"],
        python=raw.get("python"),
        interpreter=raw.get("interpreter"),
        libc=raw["libc"],
        base=assemble_base(raw.get("base")),
        gpu=assemble_gpu(raw.get("gpu")),
        env=dict(sorted(raw.get("env", {}).items())),
        data=tuple(DataPin(**table) for table in by_name(raw, "data")),
        debs=tuple(Deb(**table) for table in by_name(raw, "deb")),
        wheels=tuple(Wheel(**table) for table in by_name(raw, "wheel")),
        image=assemble_image(raw.get("image")),
    )


def by_name(raw: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    return sorted(tables_of(raw, key), key=lambda table: str(table["name"]))


def assemble_base(raw: Mapping[str, Any] | None) -> Base | None:
    if raw is None:
        return None
    words = {key: raw[key] for key in ("kind", "manifest", "system")}
    layers = tuple(Blob(**layer) for layer in raw.get("layer", []))
    return Base(**words, config=Artifact(**raw["config"]), layers=layers)


def assemble_gpu(raw: Mapping[str, Any] | None) -> Gpu | None:
    if raw is None:
        return None
    code = tuple(Code(**{key: tupled(value) for key, value in table.items()}) for table in raw.get("code", []))
    return Gpu(**{key: value for key, value in raw.items() if key != "code"}, code=code)


def tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def assemble_image(raw: Mapping[str, Any] | None) -> ImagePin | None:
    if raw is None:
        return None
    layers = tuple(LayerPin(**layer) for layer in raw.get("layer", []))
    return ImagePin(assembler=raw["assembler"], id=raw["id"], layers=layers)
