"""Reads a spec file: text to nodes, nodes to values by the table of keys, all problems in one error."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from launcher.errors import Problem, SpecError, Where
from launcher.spec import command, nodes
from launcher.spec.forms import is_empty
from launcher.spec.keys import KEYS, SYNONYMS, Key
from launcher.spec.model import Build, CodeSpec, GpuSpec, ImageSpec, Keep, Resources, Spec
from launcher.spec.nodes import Entry
from launcher.spec.reading import Reading, nearest, said
from launcher.spec.sweep import assembled, check_sweep

MAX_BYTES = 1 << 17  # a parser in Python takes seconds for more


def load(path: str | Path) -> Spec:
    """Read and check a spec. Raises SpecError with every problem; places name the file as it was given."""
    return loads(read_text(path), path)


def loads(text: str, path: str | Path) -> Spec:
    """Check the text of a spec that lies, or would lie, at `path`. Raises SpecError."""
    file = Path(path).absolute()
    root, problems = nodes.compose(text, str(path))
    reading = Reading(folder=file.parent, problems=list(problems))
    if isinstance(root, nodes.Mapping):
        fields = read_section(root, "", reading)
        check_command(root, fields, reading)
        check_image(root, reading)
        check_sweep(fields, [entry.key for entry in written_params(root)], reading)
        if not reading.problems:
            return assemble(fields, file)
    elif not reading.problems:
        what = "empty" if root is None or is_empty(root) else f"{said(root)}, not a mapping of keys"
        hint = "it needs `name` and `run`; `launcher init` writes a start"
        reading.add(Where(file=str(path)), f"the spec is {what}", hint)
    raise SpecError.of(in_order(reading.problems, str(path)))


def in_order(problems: list[Problem], file: str) -> list[Problem]:
    """Return problems in the order in which a reader of the file meets them, each once; then those of other files."""
    unique = list(dict.fromkeys(problems))
    return sorted(unique, key=lambda problem: place(problem, file))


def place(problem: Problem, file: str) -> tuple[bool, int, int]:
    where = problem.where
    return bool(where and where.file != file), (where and where.line) or 0, (where and where.column) or 0


def read_text(path: str | Path) -> str:
    """Return the text of a spec file. Raises SpecError when it is missing, no text, or far too big."""
    where = Where(file=str(path))
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as e:
        raise SpecError("there is no such file", where=where, hint=missing_hint(Path(path))) from e
    except IsADirectoryError as e:
        raise SpecError("this is a folder", where=where, hint=f"write {Path(path) / 'experiment.yaml'}") from e
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or e
        raise SpecError(f"it can't be read: {reason}", where=where) from e
    if len(data) > MAX_BYTES:
        raise SpecError("it is larger than 128 KiB, and no spec is", where=where, hint="is this the right file?")
    return decoded(data, where)


def decoded(data: bytes, where: Where) -> str:
    if b"\0" in data:
        raise SpecError("it is a binary file", where=where, hint="is this the right file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        where = Where(file=where.file, line=line, column=e.start - data.rfind(b"\n", 0, e.start))
        raise SpecError(f"byte 0x{data[e.start]:02x} is no UTF-8", where=where, hint="save the file as UTF-8") from e


def missing_hint(path: Path) -> str:
    """Say what lies there instead, or how to begin."""
    folder = path.parent
    names = sorted(p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml")) if folder.is_dir() else []
    if near := nearest(path.name, names):
        return f"did you mean {folder / near}?"
    return "`launcher init` writes a spec to start from"


def read_section(mapping: nodes.Mapping, section: str, reading: Reading) -> dict[str, Any]:
    """Read the keys of one section; return the model's fields that were given."""
    known = {key.name: key for key in KEYS if key.section == section}
    fields: dict[str, Any] = {}
    for entry in mapping.entries:
        if (key := known.get(entry.key)) is None:
            refuse(entry, section, list(known), reading)
        elif (value := read_key(key, entry, reading)) is not None:
            fields[key.field] = value
    given = {entry.key for entry in mapping.entries}
    for key in known.values():
        if key.default is None and key.name not in given:
            where = Where(file=mapping.where.file, key=key.path)
            reading.add(where, "the key is missing", f"write, for example, {key.name}: {key.example}")
    return fields


def read_key(key: Key, entry: Entry, reading: Reading) -> Any:
    if key.form is not None:
        return key.form.read(entry.value, reading)
    if is_empty(entry.value):
        return {}
    if isinstance(entry.value, nodes.Mapping):
        return read_section(entry.value, key.path, reading)
    inner = ", ".join(other.name for other in KEYS if other.section == key.path)
    reading.add(entry.value.where, f"expected a mapping with the keys {inner}, not {said(entry.value)}")
    return None


def refuse(entry: Entry, section: str, known: list[str], reading: Reading) -> None:
    """Tell that a key is not known, or belongs elsewhere."""
    if synonym := SYNONYMS.get(entry.key):
        reading.add(entry.where, "unknown key", f"did you mean {synonym}?")
    elif near := nearest(entry.key, known):
        reading.add(entry.where, "unknown key", f"did you mean {f'{section}.' if section else ''}{near}?")
    elif elsewhere := [key.path for key in KEYS if key.name == entry.key]:
        reading.add(entry.where, "the key is not known here", f"did you mean {elsewhere[0]}?")
    else:
        reading.add(entry.where, "unknown key", f"known {f'in {section} ' if section else ''}are {', '.join(known)}")


def check_image(root: nodes.Mapping, reading: Reading) -> None:
    """Refuse keys of the image that exclude each other."""
    image = next((e.value for e in root.entries if e.key == "image" and isinstance(e.value, nodes.Mapping)), None)
    written = {entry.key: entry for entry in image.entries} if image else {}
    if "base" in written and "containerfile" in written:
        message = "a Containerfile takes the base's place, and `base` is there too"
        reading.add(written["containerfile"].where, message, "leave one of them out; FROM names a Containerfile's base")


def check_command(root: nodes.Mapping, fields: dict[str, Any], reading: Reading) -> None:
    """Check the places of `run` against the parameters, and the parameters against each other."""
    entries = {entry.key: entry for entry in root.entries}
    written = written_params(root)
    if "run" in fields:
        for mistake in command.mistakes(fields["run"], [entry.key for entry in written]):
            reading.add(entries["run"].value.where, mistake.message, mistake.hint)
    check_variables(written, reading)


def written_params(root: nodes.Mapping) -> tuple[Entry, ...]:
    """Return the parameters' nodes: by these, one with a bad value is not called unknown as well."""
    params = next((entry.value for entry in root.entries if entry.key == "params"), None)
    return params.entries if isinstance(params, nodes.Mapping) else ()


def check_variables(params: tuple[Entry, ...], reading: Reading) -> None:
    """Refuse parameters that would share an environment variable."""
    shared: dict[str, list[Entry]] = defaultdict(list)
    for entry in params:
        shared[command.variable(entry.key)].append(entry)
    for variable, (first, *others) in shared.items():
        for other in others:
            message = f"it would be in the same environment variable as {first.key}: {variable}"
            reading.add(other.where, message, "rename one of them")


def assemble(fields: dict[str, Any], file: Path) -> Spec:
    """Make the model of the fields that were given."""
    written = fields.pop("image", {})
    image = ImageSpec(**{**written, "build": Build(**written.get("build", {}))})
    code = CodeSpec(**{"root": file.parent, **fields.pop("code", {})})
    resources = Resources(**fields.pop("resources", {}))
    gpu = GpuSpec(**fields.pop("gpu", {}))
    keep = Keep(**fields.pop("keep", {}))
    sweep = assembled(fields.pop("sweep", {}))
    return Spec(**fields, sweep=sweep, gpu=gpu, keep=keep, image=image, code=code, resources=resources, file=file)
