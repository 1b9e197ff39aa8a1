"""What a spec asks for in Python: lists, requirements files and pyproject.toml, in one form."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.lock.inputs import asked_python, inputs
from launcher.lock.requirements import Asked
from launcher.spec.model import CodeSpec, ImageSpec, Pip, Spec


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def spec(pip: Pip, **image: object) -> Spec:
    root = Path.cwd()
    made = ImageSpec(pip=pip, **image)  # type: ignore[arg-type]
    return Spec(name="x", image=made, code=CodeSpec(root=root), run="true", file=root / "experiment.yaml")


def write(name: str, text: str) -> Path:
    path = Path.cwd() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read(text: str, name: str = "requirements.txt", **pip: tuple[str, ...]) -> Asked:
    return asked_python(spec(Pip(file=write(name, text), **pip)))


def refused(text: str, name: str = "requirements.txt", **pip: tuple[str, ...]) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read(text, name, **pip)
    return str(caught.value).splitlines()


def test_lists_are_normalised_sorted_and_unique() -> None:
    pip = Pip(requirements=("Zope.Interface", "numpy <3, >=2", "numpy>=2,<3", "a[Y, x_z]; python_version<'4'"))
    made = inputs(spec(pip, apt=("jq", "git", "jq"), python="3.11"))
    assert made.pip == ('a[x-z,y] ; python_version < "4"', "numpy<3,>=2", "zope-interface")
    assert (made.apt, made.python, made.base, made.platform) == (
        ("git", "jq"),
        "3.11",
        "debian:bookworm",
        "linux/amd64",
    )


def test_a_requirements_file_with_everything() -> None:
    write("sub/more.txt", "-c ../limits.txt\nscipy\n-r ../requirements.txt\n")
    write("limits.txt", "numpy<3  # new API\n-r morelimits.txt")
    write("morelimits.txt", "scipy<2")
    asked = read(
        "\ufeff# comment\n\nnumpy>=2 \\\n  # not one line\n-r sub/more.txt\n"
        "pandas ; python_version >= '3.9' # why\n--prefer-binary\n--only-binary :all:\n--require-hashes\n"
    )
    assert asked.requirements == ("numpy>=2", 'pandas ; python_version >= "3.9"', "scipy")
    assert asked.constraints == ("numpy<3", "scipy<2")


def test_options_say_where_and_are_not_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    (Path.cwd() / "wheels").mkdir()
    asked = read(
        "-i https://me:${TOKEN}@example.org/simple\n--extra-index-url=https://b.example.org\n-f wheels\n"
        "--find-links https://c.example.org/x.html\n--trusted-host example.org\n--no-index\na\n"
    )
    assert asked.options.index_url == "https://me:s3cret@example.org/simple"
    assert asked.options.extra_index_urls == ("https://b.example.org",)
    assert asked.options.find_links == (str(Path.cwd() / "wheels"), "https://c.example.org/x.html")
    assert (asked.options.trusted_hosts, asked.options.no_index) == (("example.org",), True)
    assert asked.requirements == ("a",)
    assert "s3cret" not in repr(asked)
    assert "example" not in repr(inputs(spec(Pip(file=Path.cwd() / "requirements.txt"))))


def test_hashes_are_kept_for_the_resolver() -> None:
    one, two = "0" * 64, "1" * 64
    asked = read(f"A==1 \\\n    --hash=sha256:{one} \\\n    --hash=sha256:{two}\nb==2 --hash sha256:{one}\n")
    assert asked.requirements == ("a==1", "b==2")
    assert asked.hashes == {"a": frozenset({one, two}), "b": frozenset({one})}


def test_every_mistake_of_every_file_has_its_place() -> None:
    write("sub/bad.txt", "fine\nnot a requirement!\n-r missing.txt\n")
    said = refused(
        "-e .\n./local.whl\nhttps://me:pw@example.org/a.whl\ngit+https://example.org/x\na @ https://me:pw@example.org/a.whl\n"
        "-r sub/bad.txt\n--pre\n--no-binary :all:\n--frobnicate\n-c https://example.org/c.txt\n"
        "b --config-settings x=y\nc --hash=md5:123\n-i\n"
    )
    heads = [line.split(": ")[0] for line in said if not line.startswith("  hint")]
    own = [f"requirements.txt:{n}" for n in (1, 2, 3, 4, 5)]
    assert heads == [
        *own,
        "sub/bad.txt:2",
        "sub/bad.txt:3",
        *(f"requirements.txt:{n}" for n in (7, 8, 9, 10, 11, 12, 13)),
    ]
    assert "pw" not in " ".join(said)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_windows_files(encoding: str) -> None:
    path = write("requirements.txt", "")
    path.write_bytes("numpy>=2  # é\r\npywin32 ; sys_platform == 'win32'\r\n".encode(encoding))
    asked = asked_python(spec(Pip(file=path)))
    assert asked.requirements == ("numpy>=2", 'pywin32 ; sys_platform == "win32"')


def test_bytes_that_are_no_text() -> None:
    path = write("requirements.txt", "")
    path.write_bytes("caf\xe9\n".encode("latin-1"))
    with pytest.raises(SpecError, match=r"can't read requirements.txt: byte 4 is not UTF-8"):
        asked_python(spec(Pip(file=path)))


def test_a_wheel_that_conda_built_tells_its_version() -> None:
    line = "numpy @ file:///home/conda/build/1/work/dist/numpy-1.26.4-cp311-cp311-linux_x86_64.whl#sha256=d0\n"
    assert refused(line)[1] == "  hint: write numpy==1.26.4, if an index has it"
    assert "by name and version" in refused("numpy @ file:///croot/numpy_1/work\n")[1]


def test_a_list_tells_its_key() -> None:
    with pytest.raises(SpecError, match=r"experiment.yaml: image.pip\[1\]: `./x.whl` can't be pinned"):
        asked_python(spec(Pip(requirements=("a", "./x.whl"))))


def test_files_that_name_each_other_end() -> None:
    write("b.txt", "-r requirements.txt\nb\n")
    assert read("-r b.txt\na\n").requirements == ("a", "b")


PROJECT = """
[project]
name = "My.Project"
dependencies = ["numpy>=2", "torch"]
requires-python = ">=3.10"
[project.optional-dependencies]
plot = ["matplotlib", "my-project[Extra_One]"]
extra-one = ["tqdm"]
[dependency-groups]
test = ["pytest", {include-group = "Lint"}]
lint = ["ruff"]
[tool.uv]
constraint-dependencies = ["numpy<3"]
"""


def test_a_pyproject_with_extras_and_groups() -> None:
    asked = read(PROJECT, "pyproject.toml", extras=("plot",), groups=("test",))
    assert asked.requirements == ("matplotlib", "numpy>=2", "pytest", "ruff", "torch", "tqdm")
    assert (asked.constraints, asked.requires_python) == (("numpy<3",), ">=3.10")
    assert read(PROJECT, "pyproject.toml").requirements == ("numpy>=2", "torch")


def test_a_pyproject_tells_its_mistakes() -> None:
    text = PROJECT.replace('"torch"', '"to rch", 3') + "[[x]]\n"
    said = refused(text, "pyproject.toml", extras=("plott",), groups=("tests", "loop"))
    assert said[0].startswith("pyproject.toml:4: project.dependencies[1]: `to rch` is not a requirement (PEP 508): ")
    assert said[1:] == [
        "  hint: write it like numpy>=2,<3",
        "pyproject.toml:4: project.dependencies[2]: must be a string",
        "pyproject.toml: project.optional-dependencies: there is no extra `plott`",
        "  hint: did you mean `plot`?",
        "pyproject.toml: dependency-groups.tests: there is no group `tests`",
        "  hint: did you mean `test`?",
        "pyproject.toml: dependency-groups.loop: there is no group `loop`",
        "  hint: known are lint, test",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[project]\nname="x"\ndynamic = ["dependencies"]\n', "dependencies are dynamic"),
        ("[tool.poetry.dependencies]\nnumpy = '1'\n", "there is no [project] table"),
        ('[project]\ndependencies="numpy"\n', "must be a list"),
        ('[project]\ndependencies=["torch"]\n[tool.uv.sources]\nTorch = {index = "x"}\n', "a source of its own"),
        ('[project]\ndependencies=[]\n[tool.uv]\noverride-dependencies=["a"]\n', "overrides are not followed"),
        ("[project\n", "pyproject.toml:1:9: this is not TOML"),
    ],
)
def test_a_pyproject_that_cannot_be_followed(text: str, words: str) -> None:
    assert words in " ".join(refused(text, "pyproject.toml"))


def test_groups_that_include_themselves() -> None:
    text = '[dependency-groups]\na = [{include-group = "b"}]\nb = [{include-group = "a"}, {other = 1}]\n'
    said = " ".join(refused(text, "pyproject.toml", groups=("a",)))
    assert "the group `a` includes itself" in said
    assert "neither a requirement nor an include-group" in said
