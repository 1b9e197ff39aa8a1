"""The JSON Schema and the reference say what the loader does: all three come from one table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from launcher.spec import nodes
from launcher.spec.keys import KEYS, SYNONYMS
from launcher.spec.loader import loads
from launcher.spec.model import Build, CodeSpec, GpuSpec, ImageSpec, Keep, Resources, Spec, Sweep
from launcher.spec.schema import example, json_schema, reference

GOLDEN = Path(__file__).parent / "golden" / "spec"
REFERENCE = Path(__file__).parents[1] / "docs" / "reference" / "spec.md"
VALIDATOR = Draft202012Validator(json_schema())

# Bad specs that a schema can't find fault with: YAML's own rules, files, and what holds between keys.
ONLY_THE_LOADER_KNOWS = {
    "run-list-unknown", "run-nested", "run-open-quote", "run-places", "params-collide", "pip-missing-file",
    "time-clock", "name-trap",
}  # fmt: skip


def value(path: Path) -> Any:
    """Return the plain value of a spec, or None when YAML's own rules are broken."""
    root, problems = nodes.compose(path.read_text(), path.name)
    return None if root is None or problems else nodes.plain(root)


FIT_FOR_THE_SCHEMA = [
    path for path in sorted(GOLDEN.glob("*.yaml")) if path.stem not in ONLY_THE_LOADER_KNOWS and value(path) is not None
]


def test_it_is_a_valid_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", sorted((GOLDEN / "good").glob("*.yaml")), ids=lambda path: path.stem)
def test_good_specs_fit(path: Path) -> None:
    VALIDATOR.validate(value(path))


@pytest.mark.parametrize("path", FIT_FOR_THE_SCHEMA, ids=lambda path: path.stem)
def test_bad_specs_do_not_fit(path: Path) -> None:
    assert not VALIDATOR.is_valid(value(path))


def test_most_bad_specs_are_seen_in_the_editor_already() -> None:
    assert len(FIT_FOR_THE_SCHEMA) >= 30


def test_every_key_has_a_field_of_the_model_and_every_field_a_key() -> None:
    fields = {f"{prefix}{name}" for prefix, model in MODELS.items() for name in model.__dataclass_fields__}
    keys = {f"{key.section}.{key.field}" if key.section else key.field for key in KEYS}
    assert fields - {"file"} == keys


MODELS: dict[str, Any] = {
    "": Spec,
    "image.": ImageSpec,
    "image.build.": Build,
    "code.": CodeSpec,
    "gpu.": GpuSpec,
    "keep.": Keep,
    "resources.": Resources,
    "sweep.": Sweep,
}


def test_synonyms_lead_to_keys_and_hide_none() -> None:
    paths = {key.path for key in KEYS}
    assert set(SYNONYMS.values()) <= paths
    for section in (
        "",
        "image",
        "code",
        "resources",
        "gpu",
        "sweep",
    ):  # where one would be found before the key that it hides
        assert not set(SYNONYMS) & {key.name for key in KEYS if key.section == section}


@pytest.mark.parametrize("key", [key for key in KEYS if key.example], ids=lambda key: key.path)
def test_every_example_loads(key: Any, tmp_path: Path) -> None:
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    (tmp_path / "Containerfile").write_text("FROM scratch\n")
    needed = {"name": "name: a", "run": "run: 'true'"}
    (tmp_path / "points.csv").write_text("lr,hidden\n0.1,16\n")
    params = ["params: {lr: 1, hidden: 8}"] if key.path == "run" or key.section == "sweep" else []
    lines = [*(line for path, line in needed.items() if path != key.path), *params, *example(key)]
    loads("\n".join(lines), tmp_path / "experiment.yaml")


def test_the_reference_holds_the_text_of_the_table() -> None:
    """UPDATE_GOLDEN=1 writes it anew."""
    page = REFERENCE.read_text()
    before, mark, _ = page.partition("<!-- made from launcher/spec/keys.py -->\n")
    expected = f"{before}{mark}\n{reference()}"
    if os.environ.get("UPDATE_GOLDEN"):
        page = expected
        REFERENCE.write_text(page)
    assert page == expected
