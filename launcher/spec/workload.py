"""The forms of what runs in the environment: code, command, parameters, data, resources, outputs, store."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launcher.digest import SHA256
from launcher.spec import nodes
from launcher.spec.forms import Form, list_of, mapping_of
from launcher.spec.model import DataSpec, Gpus, Param
from launcher.spec.nodes import Entry, Node, Scalar
from launcher.spec.reading import Reading, kind_of, nearest, path_hint, said, shortened, text_of
from launcher.spec.units import MisreadError, gpus

NAME = r"[a-z0-9][a-z0-9._-]*"
DATA_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
PARAM_NAME = r"[A-Za-z_][A-Za-z0-9_.-]*"
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
NO_URL = r"^(?![A-Za-z][A-Za-z0-9+.-]*://)"
BUCKET_SCHEMES = ("s3", "gs", "az")
DATA_SCHEMES = (*BUCKET_SCHEMES, "https", "http")
ALIASES = {"gcs": "gs", "azure": "az", "abfs": "az", "abfss": "az", "s3a": "s3", "s3n": "s3"}
LOGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*@")


def read_name(node: Node, reading: Reading) -> str | None:
    expected = "a name of lower-case letters, digits, `.`, `_` and `-`"
    text = text_of(node, reading, expected)
    if text is None or (re.fullmatch(NAME, text) and len(text) <= 80):
        return text
    better = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:80]
    reading.add(node.where, f"expected {expected}, not {shortened(text)}", f"write {better}" if better else None)
    return None


def read_root(node: Node, reading: Reading) -> Path | None:
    text = text_of(node, reading, "a folder")
    if text is None:
        return None
    path = reading.path(text)
    if (kind := kind_of(path)) != "folder":
        problem = "is not there" if kind is None else "is no folder"
        reading.add(node.where, f"{shortened(text)} {problem}", path_hint(text, reading))
    return path


def read_pattern(node: Node, reading: Reading) -> str | None:
    """Read one pattern in the words of gitignore(5)."""
    text = text_of(node, reading, "a pattern such as *.csv", traps=False)
    if text is not None and ".." in text.split("/"):
        reading.add(node.where, f"{shortened(text)} leaves the folder", "write a pattern below code.root")
        return None
    return text


def read_output(node: Node, reading: Reading) -> str | None:
    text = text_of(node, reading, "a pattern such as model/*.pt", traps=False)
    if text is None:
        return None
    if text.startswith(("/", "~")) or ".." in text.split("/"):
        hint = "outputs are written below $LAUNCHER_OUTPUT_DIR; write the part of the path after it"
        reading.add(node.where, f"{shortened(text)} leaves the folder of outputs", hint)
        return None
    return text


def read_run(node: Node, reading: Reading) -> str | tuple[str, ...] | None:
    if not isinstance(node, nodes.Sequence):
        return text_of(node, reading, "a command, as text or as a list of arguments")
    if not node.items:
        reading.add(node.where, "expected a command, not an empty list")
        return None
    parts = [read_argument(item, reading) for item in node.items]
    return tuple(part for part in parts if part is not None) if None not in parts else None


def read_argument(node: Node, reading: Reading) -> str | None:
    """Read one element of the list form: text, or a number as it is written."""
    if isinstance(node, Scalar) and isinstance(node.value, (str, int, float)) and not isinstance(node.value, bool):
        return node.text
    hint = f'quote it: "{node.text}"' if isinstance(node, Scalar) and node.text else None
    reading.add(node.where, f"expected an argument as text, not {said(node)}", hint)
    return None


def read_param(node: Node, reading: Reading) -> Param:
    if not isinstance(node, Scalar):
        hint = "flat names such as `optimizer.lr: 0.1` group them" if isinstance(node, nodes.Mapping) else LIST_HINT
        reading.add(node.where, f"expected text, a number, true, false or null, not {said(node)}", hint)
        return None
    if node.trap:
        reading.add(node.where, node.trap.partition("; ")[0], node.trap.partition("; ")[2])
    return node.value


LIST_HINT = "several values for one parameter go under `sweep.grid`; quote it to pass it on as text"


def read_data(node: Node, reading: Reading) -> tuple[DataSpec, ...] | None:
    found = DATA_MAPPING.read(node, reading)
    if found is None:
        return None
    return tuple(DataSpec(name=name, **value) for name, value in found.items() if value is not None)


def read_source(node: Node, reading: Reading) -> dict[str, Any] | None:
    """Read one input: a path or URL, `{path:, sha256:}` or `{url:, sha256:}`; return the fields of a DataSpec."""
    if not isinstance(node, nodes.Mapping):
        return data_place(node, reading)
    entries = {entry.key: entry for entry in node.entries}
    for key, entry in entries.items():
        if key not in SOURCE_KEYS:
            near = nearest(key, SOURCE_KEYS)
            hint = f"did you mean {near}?" if near else "known are path, url and sha256"
            reading.add(entry.where, "unknown key", hint)
    sources = [entry for key, entry in entries.items() if key in ("path", "url")]
    if not sources:
        reading.add(node.where, "`path` is missing", "write path: some/folder, or url: s3://bucket/folder/")
        return None
    if len(sources) > 1:
        reading.add(sources[1].where, "`path` and `url` exclude each other", "leave one of them out")
        return None
    place = data_place(sources[0].value, reading)
    if place is None:
        return None
    if (said := next(iter(place))) != sources[0].key:
        reading.add(sources[0].where, f"expected a {sources[0].key}, not a {said}", f"write `{said}:`")
        return None
    return place | {"sha256": data_sha256(entries.get("sha256"), reading)}


def data_place(node: Node, reading: Reading) -> dict[str, Any] | None:
    """Read where an input comes from: `{"path": ...}` or `{"url": ...}`."""
    text = text_of(node, reading, "a path or URL, or {path: ..., sha256: ...}")
    if text is None:
        return None
    if found := URL.match(text):
        url = read_url(text, found[1], node, reading, DATA_SCHEMES)
        return None if url is None else {"url": url}
    path = data_path(text, node, reading)
    return None if path is None else {"path": path}


def read_url(text: str, scheme: str, node: Node, reading: Reading, known: tuple[str, ...]) -> str | None:
    """Check a URL's scheme and form. A login has no place in it: the spec goes into repositories."""
    bucket, _, rest = text[len(scheme) + 3 :].partition("/")
    if better := ALIASES.get(scheme.lower()):
        reading.add(node.where, f"{scheme}:// is called {better}:// here", f"write {better}://{bucket}/...")
    elif scheme not in known:
        schemes = ", ".join(f"{one}://" for one in known)
        reading.add(node.where, f"{scheme}:// is not known here", f"known are {schemes}")
    elif LOGIN.match(text):
        hint = "leave it out: logins come from the environment and from the tools' own files"
        reading.add(node.where, "there is a login in the URL, and a spec is no place for secrets", hint)
    elif not bucket:
        reading.add(node.where, f"{shortened(text)} names no bucket or host", f"write {scheme}://name/...")
    elif any(part in ("", ".", "..") for part in rest.rstrip("/").split("/")) and rest.strip("/"):
        reading.add(node.where, f"{shortened(text)} has an empty part, `.` or `..` in its path")
    else:
        return text
    return None


def data_path(text: str, node: Node, reading: Reading) -> Path | None:
    path = reading.path(text)
    if (kind := kind_of(path)) not in ("file", "folder"):
        problem = "is not there" if kind is None else "is neither a file nor a folder"
        reading.add(node.where, f"{shortened(text)} {problem}", path_hint(text, reading))
    return path


def data_sha256(entry: Entry | None, reading: Reading) -> str | None:
    if entry is None:
        return None
    text = entry.value.text if isinstance(entry.value, Scalar) else ""
    if SHA256.fullmatch(text):
        return text
    bare = text.lower().removeprefix("sha256:")
    hint = f"write {bare}" if SHA256.fullmatch(bare) else "leave it out, and `launcher lock` computes it"
    reading.add(entry.value.where, f"expected 64 hexadecimal digits, not {said(entry.value)}", hint)
    return None


def read_gpus(node: Node, reading: Reading) -> Gpus | None:
    expected = "a number, a model such as H100, or H100:8"
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Gpus(count=value)
    if not isinstance(node, Scalar) or not isinstance(value, str):
        reading.add(node.where, f"expected {expected}, not {said(node)}")
        return None
    if value.isdigit():
        return Gpus(count=int(value))
    try:
        return gpus(value)
    except MisreadError as e:
        reading.add(node.where, f"{shortened(value)} {e}", e.hint)
        return None


def read_store(node: Node, reading: Reading) -> str | None:
    """Read where runs are kept: a folder (returned absolute) or a URL."""
    text = text_of(node, reading, "a folder or a URL")
    if text is None or text.startswith("file:///"):
        return text
    if found := URL.match(text):
        return read_url(text, found[1], node, reading, ("file", *BUCKET_SCHEMES))
    if (scheme := text.partition(":")[0]) in BUCKET_SCHEMES and ":" in text:
        reading.add(node.where, f"{shortened(text)} names no bucket", f"write {scheme}://bucket/folder")
        return None
    path = reading.path(text)
    if kind_of(path) in ("file", "something else"):
        reading.add(node.where, f"{shortened(text)} is no folder", "a store is a folder; it is made when it is missing")
    return str(path)


def form(expected: str, schema: dict[str, Any], read: Callable[[Node, Reading], Any]) -> Form:
    return Form(expected=expected, schema=schema, read=read)


def read_metric(node: Node, reading: Reading) -> str | None:
    return text_of(node, reading, "a metric's name")


SOURCE_KEYS = ("path", "url", "sha256")
PATH_SCHEMA = {"type": "string", "pattern": NO_URL}
URL_SCHEMA = {"type": "string", "pattern": rf"^({'|'.join(DATA_SCHEMES)})://[^/@]+(/|$)"}
DIGEST_SCHEMA = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
METRIC = form("a metric's name", {"type": "string", "minLength": 1}, read_metric)
NAME_FORM = form("a name", {"type": "string", "pattern": f"^{NAME}$", "maxLength": 80}, read_name)
ROOT = form("a folder", {"type": "string", "minLength": 1}, read_root)
PATTERNS = list_of(form("a pattern", {"type": "string", "minLength": 1}, read_pattern), "a list of patterns")
OUTPUTS = list_of(
    form("a pattern", {"type": "string", "pattern": r"^(?![/~])(?!(.*/)?\.\.(/|$))."}, read_output),
    "a list of patterns",
)
ARGUMENT_SCHEMA = {"type": ["string", "number"]}
RUN = form(
    "a command",
    {"oneOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": ARGUMENT_SCHEMA, "minItems": 1}]},
    read_run,
)
PARAMS = mapping_of(
    form("a value", {"type": ["string", "number", "boolean", "null"]}, read_param),
    "a mapping from parameters to values",
    PARAM_NAME,
    "a parameter",
    "a parameter begins with a letter or _, and goes on with letters, digits, `_`, `.` and `-`",
)
SOURCE = form(
    "a path or URL, or {path: ..., sha256: ...}",
    {
        "oneOf": [
            PATH_SCHEMA,
            URL_SCHEMA,
            *(
                {
                    "type": "object",
                    "properties": {name: schema, "sha256": DIGEST_SCHEMA},
                    "required": [name],
                    "additionalProperties": False,
                }
                for name, schema in (("path", PATH_SCHEMA), ("url", URL_SCHEMA))
            ),
        ]
    },
    read_source,
)
DATA_MAPPING = mapping_of(
    SOURCE,
    "a mapping from names to paths",
    DATA_NAME,
    "an input",
    "a name has letters, digits, `.`, `_` and `-`: it becomes the path /data/<name>",
)
DATA = form(DATA_MAPPING.expected, dict(DATA_MAPPING.schema), read_data)
GPUS = form(
    "a number, a model such as H100, or H100:8",
    {
        "oneOf": [
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": r"^([0-9]+|[A-Za-z][A-Za-z0-9._-]*(:0*[1-9][0-9]*)?)$"},
        ]
    },
    read_gpus,
)
STORE = form(
    "a folder or a URL",
    {"type": "string", "pattern": r"^(file:///|(s3|gs|az)://[^/@]+(/|$)|(?![A-Za-z][A-Za-z0-9+.-]*://))"},
    read_store,
)
