"""The command line's frame: light to start, one boundary for errors."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from launcher import __version__, cli, errors
from launcher.cli import VERBS, Verb, boundary, invoke
from launcher.cli.output import json_option, json_text, print_json
from launcher.cli.status import NOT_OVER
from launcher.errors import FetchError, LauncherError, Problem, SpecError, Where
from launcher.runner.preflight import NODE_REFUSED

EXIT_CODES = Path(__file__).parents[1] / "docs" / "reference" / "exit-codes.md"
HEAVY = {"yaml", "rich", "httpx", "docker", "obstore", "uv", "packaging", "asyncio", "jsonschema", "ssl", "zstandard"}


def run_process(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launcher", *args]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | env)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module with a verb `probe`, whose body a test sets as `module.body`."""
    module = ModuleType("probe_module")

    @click.command()
    @json_option
    @click.option("--level", type=int)
    def probe(as_json: bool, level: int | None) -> object:
        return module.body()

    module.probe = probe  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "probe_module", module)
    monkeypatch.setitem(VERBS, "probe", Verb("probe_module", "probe", "A test's own."))
    yield module


def failing(error: BaseException) -> object:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize("flag", ["--help", "--version", "-h", "-V"])
def test_help_and_version_import_nothing_heavy(flag: str) -> None:
    code = (
        "import sys, launcher.cli\n"
        f"code = launcher.cli.invoke([{flag!r}])\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
        "print(*(name for name in sys.modules if name.startswith('launcher')), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    roots, own = done.stderr.splitlines()
    assert "click" in roots.split()
    assert not HEAVY & set(roots.split())
    assert set(own.split()) == {"launcher", "launcher.cli", "launcher.errors"}


def test_help_lists_every_verb_even_those_whose_module_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VERBS, "tomorrow", Verb("launcher.cli.tomorrow", "tomorrow", "Not written yet."))
    assert invoke(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^  {name} .*{re.escape(found.help[:20])}", printed, re.M) for name, found in VERBS.items())
    assert invoke(["tomorrow"]) == 2
    assert "not part of this version" in capsys.readouterr().err


def test_a_broken_import_within_a_verb_is_a_bug_and_not_a_missing_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_verb.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(VERBS, "broken", Verb("broken_verb", "broken", ""))
    assert invoke(["broken", "--debug"]) == 70
    assert "no_such_library" in capsys.readouterr().err


@pytest.mark.parametrize("args", [[], ["-q"]])
def test_no_verb_at_all_tells_the_help(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(args) == 2
    told = capsys.readouterr()
    assert "launcher --help" in told.err or told.err.startswith("Usage: launcher")
    assert told.out == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--version"]) == 0
    assert capsys.readouterr().out == f"launcher {__version__}\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["biuld"], "hint: did you mean `launcher build`?"),
        (["xyzzy"], "hint: `launcher --help` lists the verbs"),
        (["--quite"], "did you mean --quiet?"),
        (["schema", "--jsn"], "no such option"),
        (["schema", "extra"], "extra"),
        (["probe", "--level", "x"], "'x' is not a valid integer"),
        (["schema", "-q"], "it stands before the verb: `launcher -q ...`"),
    ],
)
def test_slips_of_the_command_line(
    args: list[str], said: str, verb: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(args) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert said in told


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)], ids=str)
def test_every_error_of_the_tree_ends_with_its_code(
    kind: type, verb: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    if not issubclass(kind, LauncherError):
        return
    verb.body = failing(kind("it is off", hint="mend it"))  # type: ignore[attr-defined]
    assert invoke(["probe"]) == kind.exit_code
    assert capsys.readouterr().err == "error: it is off\n  hint: mend it\n"


def test_all_problems_are_told_as_text_and_as_json(verb: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    where = Where(file="e.yaml", line=3, column=5, key="image.apt")
    problems = [Problem(message="one", where=where), Problem(message="two", hint="mend it")]
    verb.body = failing(SpecError.of(problems))  # type: ignore[attr-defined]
    assert invoke(["probe"]) == 65
    assert capsys.readouterr().err == "error: e.yaml:3:5: image.apt: one\nerror: two\n  hint: mend it\n"
    assert invoke(["probe", "--json"]) == 65
    told = json.loads(capsys.readouterr().err)["error"]
    assert (told["kind"], told["exit_code"]) == ("SpecError", 65)
    place = {"file": "e.yaml", "line": 3, "column": 5, "key": "image.apt"}
    assert told["problems"][0] == {"message": "one", "where": place, "hint": None}
    assert told["problems"][1] == {"message": "two", "where": None, "hint": "mend it"}


def test_a_hint_that_problems_share_is_told_once(verb: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    problems = [Problem(message=m, hint=h) for m, h in (("a", "x"), ("b", "x"), ("c", "y"), ("d", None), ("e", "y"))]
    verb.body = failing(SpecError.of(problems))  # type: ignore[attr-defined]
    invoke(["probe"])
    told = "error: a\nerror: b\n  hint: x\nerror: c\n  hint: y\nerror: d\nerror: e\n  hint: y\n"
    assert capsys.readouterr().err == told


def test_of_many_lost_artifacts_the_first_are_named(verb: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    problems = [Problem(message=f"{number} is lost", hint="find it") for number in range(97)]
    verb.body = failing(FetchError.of(problems))  # type: ignore[attr-defined]
    assert invoke(["probe"]) == 69
    told = capsys.readouterr().err.splitlines()
    assert told[-3:] == [
        "error: 4 is lost",
        "  hint: find it",
        "error: and 92 more of the same kind (`--json` tells of all)",
    ]
    assert len(told) == 7
    assert invoke(["probe", "--json"]) == 69
    assert len(json.loads(capsys.readouterr().err)["error"]["problems"]) == 97
    verb.body = failing(SpecError.of(problems))  # type: ignore[attr-defined]
    invoke(["probe"])
    assert len(capsys.readouterr().err.splitlines()) == 98  # what a person wrote is told of in full


def test_an_unforeseen_error_is_a_bug_with_a_traceback_file(
    verb: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    verb.body = failing(KeyError("ouch"))  # type: ignore[attr-defined]
    assert invoke(["probe"]) == 70
    told = capsys.readouterr().err
    (kept,) = tmp_path.iterdir()
    assert "this is a bug in launcher: KeyError: 'ouch'" in told
    assert str(kept) in told
    assert "Traceback" in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_debug_prints_the_traceback_and_keeps_no_file(
    verb: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    verb.body = failing(KeyError("ouch"))  # type: ignore[attr-defined]
    assert invoke(["--debug", "probe"]) == 70
    assert "Traceback" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "code"), [(errno.EACCES, 1), (errno.ENOSPC, 73), (errno.ENOENT, 70)])
def test_what_the_machine_refuses_is_no_bug(
    number: int, code: int, verb: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    verb.body = failing(OSError(number, "Refused", "/some/file"))  # type: ignore[attr-defined]
    assert invoke(["--debug", "probe"]) == code
    assert "/some/file" in capsys.readouterr().err


def test_interrupts(verb: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    verb.body = failing(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert invoke(["probe"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_verb_may_return_its_exit_code(verb: ModuleType) -> None:
    verb.body = lambda: 3  # type: ignore[attr-defined]
    assert invoke(["probe"]) == 3
    verb.body = failing(click.exceptions.Exit(4))  # type: ignore[attr-defined]
    assert invoke(["probe"]) == 4


def test_what_follows_two_dashes_is_not_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.tell(LauncherError("off"), ["run", "--", "--json"]) == 1
    assert capsys.readouterr().err == "error: off\n"


def test_a_closed_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "launcher", "schema"]
    with os.fdopen(write, "wb") as stdout:
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, b"")


def test_ctrl_c_of_the_process_ends_with_130() -> None:
    code = (
        "import os, signal, sys, types, click, launcher.cli as cli\n"
        "module = types.ModuleType('wait_module')\n"
        "module.wait = click.command()(lambda: (os.kill(os.getpid(), signal.SIGINT), signal.pause()))\n"
        "sys.modules['wait_module'] = module\n"
        "cli.VERBS['wait'] = cli.Verb('wait_module', 'wait', '')\n"
        "cli.main(['wait'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "interrupted\n")


def test_colour_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert boundary.styled("x", fg="red") == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert boundary.styled("x", fg="red") == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert boundary.styled("x", fg="red") == "x"


def test_errors_are_told_where_the_locale_lacks_the_letters() -> None:
    done = run_process("größe", PYTHONUTF8="0", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 2
    assert "error: there is no verb `gr" in done.stderr


def test_json_of_values(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"where": Where(file="ü"), "set": {"b", "a"}, "path": Path("/x"), "tuple": (1, None)}
    print_json(value)
    assert json.loads(capsys.readouterr().out) == {
        "where": {"file": "ü", "line": None, "column": None, "key": None},
        "set": ["a", "b"],
        "path": "/x",
        "tuple": [1, None],
    }
    with pytest.raises(ValueError, match="JSON"):
        json_text(float("nan"))


def test_the_page_on_exit_codes_tells_of_the_whole_tree() -> None:
    rows = re.findall(r"^\| +(\d+) \| (?:`(\w+)`)? ?\|", EXIT_CODES.read_text(), re.M)
    told = {(name, int(code)) for code, name in rows if name}
    tree = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LauncherError)}
    assert told == {(kind.__name__, kind.exit_code) for kind in tree}
    others = {int(code) for code, name in rows if not name}
    assert others == {0, NOT_OVER, NODE_REFUSED, boundary.BUG, boundary.INTERRUPTED, boundary.BROKEN_PIPE}


def test_settings_reach_the_verb(verb: ModuleType) -> None:
    from launcher.cli.settings import Settings, settings

    seen: list[Settings] = []
    verb.body = lambda: seen.append(settings())  # type: ignore[attr-defined]
    assert invoke(["-q", "-vv", "probe"]) == 0
    assert seen == [Settings(quiet=True, verbose=2)]
    assert settings() == Settings()


def test_group_is_named_like_the_program() -> None:
    assert cli.launcher.name == "launcher"
