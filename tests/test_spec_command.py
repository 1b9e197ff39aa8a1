"""Parameters reach the program as they are, whatever they contain."""

from __future__ import annotations

import os
import subprocess

import pytest

from launcher.spec.command import environment, mistakes, places, render, text, variable

NASTY = [
    "plain",
    "two words",
    "it's",
    'say "hi"',
    "$HOME ${HOME} $(echo no) `echo no`",
    "line\nbreak\n",
    "-rf",
    "--",
    "",
    "*",
    "~",
    "#no comment",
    "a;b&c|d>e<f(g)",
    "back\\slash\\",
    "Grüße 世界 🙂",
    "{lr} {{lr}}",
    "tab\there",
    "!history",
    "a=b",
    "2",
    "if",
]
PRINT = r"printf '%s\0'"  # each argument, ended by NUL


def arguments(argv: tuple[str, ...]) -> list[str]:
    """Run a command that prints its arguments, each ended by NUL; return them."""
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/h"}
    done = subprocess.run(argv, capture_output=True, check=True, env=env)
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("value", NASTY)
def test_a_shell_hands_on_the_very_value(value: str) -> None:
    line = PRINT + ' {v} --v={v} pre{v}post {v}{v} "${HOME}"/{v} \'{"a": {"b": 1}}\' # {v} it\'s a comment'
    found = arguments(render(line, {"v": value}))
    assert found == [value, f"--v={value}", f"pre{value}post", value * 2, f"/h/{value}", '{"a": {"b": 1}}']


@pytest.mark.parametrize("value", NASTY)
def test_a_list_hands_on_the_very_value(value: str) -> None:
    argv = ("printf", r"%s\0", "{v}", "--v={v}", "{{v}}", "${v}")
    assert arguments(render(argv, {"v": value})) == [value, f"--v={value}", "{v}", "${v}"]


@pytest.mark.parametrize("value", NASTY)
def test_a_value_stays_apart_from_its_neighbours(value: str) -> None:
    """`$HOME` glued to a value is not `$HOMEplain`, and `2` glued to `>` is not a redirection of stderr."""
    line = PRINT + " $HOME{v} $(printf %s {v} >/dev/null) {v}>/dev/stdout"
    assert arguments(render(line, {"v": value})) == [f"/h{value}", value]


def test_a_value_in_a_command_substitution_and_over_lines() -> None:
    line = "x=$(printf %s {v})\n" + PRINT + ' "$x" \\\n  {v}\n'
    assert arguments(render(line, {"v": "it's $5"})) == ["it's $5"] * 2


def test_braces_that_are_the_shells_or_the_programs_own() -> None:
    same = [
        "awk '{print}' f",
        "awk '{ if ($1) { print }}' f",
        "echo ${HOME} ${A:-${B}}",
        "f() { echo hi; }; f",
        "echo '{{word}}'",
        'echo "{word}"',
        "find . -exec ls {} +",
        "echo {a,b} {1..3}",
        r"echo \{v\}",
        r"echo \{v}",
        """python -c 'd={"a":{"b":1}}'""",
        "echo a#{{ # {v}",
    ]
    for line in same:
        assert not mistakes(line, ["v"]), line
        assert render(line, {"v": 1}) == ("/bin/sh", "-c", line)


def test_doubled_braces_are_the_text_of_a_place() -> None:
    assert render("echo {{v}} '{{v}}' {{other}}", {"v": 1})[2] == "echo {v} '{v}' {other}"


def test_harmless_values_stay_readable() -> None:
    assert render("t --lr {lr} --p={p}", {"lr": 0.001, "p": "a/b.txt"})[2] == "t --lr 0.001 --p=a/b.txt"


@pytest.mark.parametrize(
    "line",
    [
        "echo '{v}'",
        'echo "{v}"',
        'echo "a \\" {v}"',
        "echo `echo {v}`",
        'echo "$(echo {v})"',
        'echo "$(echo "x {v}")"',
        'echo "${A:-"{v}"}"',
        "cat <<EOF\n{v}\nEOF",
        "cat <<EOF\n# {v}\nEOF",
        "echo '",
        'echo "',
        "echo {w}",
        "echo --w={w}",
    ],
)
def test_places_that_cannot_be_filled_safely(line: str) -> None:
    assert mistakes(line, ["v"])
    with pytest.raises(ValueError, match=r"\S"):
        render(line, {"v": 1})


def test_hints_name_the_way_out() -> None:
    (near,) = mistakes("echo {bach}", ["batch", "lr"])
    assert "did you mean {batch}?" in (near.hint or "")
    (quoted,) = mistakes("echo '{lr}'", ["lr"])
    assert "${LAUNCHER_PARAM_LR}" in (quoted.hint or "")


def test_values_as_text() -> None:
    assert [text(v) for v in (True, False, None, 3, 1e-3, 1e-5, 1e3, "x", 10**30)] == [
        "true", "false", "", "3", "0.001", "1e-05", "1000.0", "x", "1" + "0" * 30,
    ]  # fmt: skip


def test_environment_of_parameters() -> None:
    assert environment({"lr": 0.1, "optimizer.beta-1": None}) == {
        "LAUNCHER_PARAM_LR": "0.1",
        "LAUNCHER_PARAM_OPTIMIZER_BETA_1": "",
    }
    assert variable("a-b") == variable("A_b") == "LAUNCHER_PARAM_A_B"


def test_places_of_a_command() -> None:
    assert places("x {a} {b} '{c}' ${d}", ["a", "c", "d"]) == {"a", "c"}
    assert places(("x", "--a={a}", "{{b}}"), ["a", "b"]) == {"a"}
