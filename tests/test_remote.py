"""Ways to another machine, without one: words, hosts, this machine as a Shell, calls of our own functions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher import remote
from launcher.errors import (
    AccessError,
    DiskFullError,
    LauncherError,
    Problem,
    SpecError,
    TargetError,
    Where,
)
from launcher.process import pipe
from launcher.profiles.model import Profile
from launcher.remote import agent
from launcher.remote.fabric import Fabric
from launcher.remote.here import Here
from launcher.remote.host import Host, no_way, parse
from launcher.remote.openssh import OpenSSH
from launcher.remote.ssh_settings import control_folder
from launcher.remote.words import after_setup, command_line, packed
from tests.far import Far

NASTY = ["", " ", "a b", "it's", '"', "$HOME", "`id`", "\\", "\\n", "a\nb", "-n", "!", "!!", "*", "~", "{a,b}", "é"]
NASTY += ["\udcff", "%s", "%%", "\t;&|<>#", "^x", "[a]", "=cat", "\n"]


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "tcsh", "fish", "busybox"])
def test_words_arrive_whatever_the_login_shell_is(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell} here")
    line = os.fsdecode(command_line(["printf", "%s\\0", *NASTY]))
    args = [shell, "sh", "-c", line] if shell == "busybox" else [shell, "-c", line]
    said = subprocess.run(args, capture_output=True, check=True).stdout
    assert [os.fsdecode(word) for word in said.split(b"\0")[:-1]] == NASTY


def test_a_command_line_holds_nothing_that_shells_disagree_on() -> None:
    for word in NASTY:
        line = command_line(["x", word])
        assert line.isascii() and not set(line) & set(b"\n!"), line


def test_plain_words_stay_readable() -> None:
    assert b"squeue --me -o '\"'\"'%i %T'\"'\"'" in command_line(["squeue", "--me", "-o", "%i %T"])


def test_a_packed_program_does_the_same_and_needs_no_octal_numbers() -> None:
    source = "import sys\nif __name__ == '__main__':\n    print('é\\n', sys.argv[1:])\n" * 20
    line = command_line([sys.executable, "-I", "-c", packed(source), "a", "b"])
    assert b"printf %b" not in line and len(line) < 600
    said = subprocess.run(["sh", "-c", line.decode()], capture_output=True, check=True, text=True).stdout
    assert said == "é\n ['a', 'b']\n" * 20


def test_a_command_that_is_too_long_is_refused_here() -> None:
    with pytest.raises(TargetError, match="longer than Linux takes"):
        command_line(["echo", "x" * 200_000])


def test_a_sites_own_lines_come_first_and_keep_to_stderr() -> None:
    done = Here().run(after_setup(["echo noise", "export A='b  c'"], ["sh", "-c", 'printf %s "$A"']))
    assert done.stdout.endswith(b"b  c") and b"noise" not in done.stdout
    assert b"noise" in done.stderr
    assert after_setup([], ["a"]) == ["a"]


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("login", Host(name="login")),
        ("ada@login.example.org", Host(name="login.example.org", user="ada")),
        ("ada@login.example.org:2222", Host(name="login.example.org", user="ada", port=2222)),
        ("[2001:db8::1]:22", Host(name="2001:db8::1", port=22)),
        ("ssh://ada@login.example.org:22", Host(name="login.example.org", user="ada", port=22)),
    ],
)
def test_hosts(text: str, host: Host) -> None:
    assert parse(text) == host


@pytest.mark.parametrize(
    "text", ["", "-oProxyCommand=x", "a b", "x@-y", "-x@y", "host:99999", "host:0", "a@b@c:1", "a:b"]
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(TargetError, match=r"is no host|has no port"):
        parse(text)


def test_an_open_way_asks_nobody() -> None:
    assert isinstance(remote.open(Profile(name="x")), Here)
    assert isinstance(remote.open(Profile(name="x", host="ada@login.example.org")), OpenSSH)
    assert isinstance(remote.open(Profile(name="x", host="login", transport="fabric")), Fabric)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("ssh: Could not resolve hostname x: Name or service not known", "is `host` of the target right"),
        ("No ED25519 host key is known for x.\nHost key verification failed.", "compare the fingerprint"),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "ssh-keygen -R '[x]:7'",
        ),
        ("a@x: Permission denied (publickey,keyboard-interactive).", "run launcher in a terminal"),
        ("ssh: connect to host x port 22: Connection refused", "is sshd running"),
        ("ssh: connect to host x port 22: Connection timed out", "VPN"),
        ("", "does `ssh -p 7 a@x` work?"),
    ],
)
def test_no_way_says_what_to_do(said: str, hint: str) -> None:
    error = no_way(Host(name="x", user="a", port=7), said)
    assert hint in str(error) and error.exit_code == 69


def test_sockets_lie_in_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    if len(str(tmp_path)) < 55:
        assert control_folder() == tmp_path / "launcher-ssh"
    own = Path(f"/tmp/launcher-own-{os.getpid()}")
    assert control_folder(own).stat().st_mode & 0o777 == 0o700
    own.chmod(0o755)
    with pytest.raises(TargetError, match="only you may enter"):
        control_folder(own)
    own.rmdir()
    own.symlink_to(tmp_path)
    with pytest.raises(TargetError, match="only you may enter"):
        control_folder(own)
    own.unlink()
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    assert len(str(control_folder(deep))) < 70


def test_this_machine_is_a_shell() -> None:
    here = Here()
    done = here.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=iter([b"a", b"b"]))
    assert (done.code, done.stdout, done.stderr) == (3, b"ab", b"err\n")
    assert here.run(["no-such-program"]).code == 127
    assert here.trips == 2
    with pytest.raises(TargetError, match="nothing is known of what it did"):
        here.run(["sleep", "30"], timeout_s=0.2)


def test_a_program_is_ended_when_its_input_cannot_be_had() -> None:
    def chunks() -> object:
        yield b"x"
        raise ValueError("gone")

    began = time.monotonic()
    with pytest.raises(ValueError, match="gone"):
        pipe(["sleep", "60"], chunks())  # type: ignore[arg-type]
    assert time.monotonic() - began < 55


AGENT = """
import os, subprocess, sys
from launcher.errors import AccessError, Problem, SpecError, Where
from launcher.remote.agent import serve
class Own(AccessError): pass
def shout(argument):
    print("noise"); subprocess.run(["echo", "more noise"])
    return {"got": argument}
def refuse(argument):
    raise SpecError.of([Problem(message="one", hint="do this", where=Where(file="f", line=3)), Problem(message="two")])
def own(argument):
    raise Own("mine")
def bug(argument):
    raise KeyError("oops")
def die(argument):
    os._exit(9)
serve({"shout": shout, "refuse": refuse, "own": own, "bug": bug, "die": die})
"""


@pytest.fixture
def tools(tmp_path: Path) -> str:
    """Tools with an interpreter that finds launcher and the agent of these tests."""
    (tmp_path / "tools/bin").mkdir(parents=True)
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents/trial.py").write_text(AGENT)
    places = f"{Path(remote.__file__).parents[2]}:{tmp_path}/agents"
    script = f'echo "a login file speaks"\nshift\nPYTHONPATH={places} exec {sys.executable} "$@"\n'
    (tmp_path / "tools/bin/python").write_text(f"#!/bin/sh\n{script}")
    (tmp_path / "tools/bin/python").chmod(0o755)
    return str(tmp_path / "tools")


@pytest.mark.parametrize("way", ["here", "far"])
def test_calls_and_their_answers(tools: str, way: str) -> None:
    shell = Here() if way == "here" else Far()
    argument = {"a": [1, None, "é\n"], "b": {"c": 0.5}}
    assert agent.call(shell, tools, "shout", argument, module="trial") == {"got": argument}
    assert shell.trips == 1


def test_errors_travel(tools: str) -> None:
    with pytest.raises(SpecError) as raised:
        agent.call(Far(), tools, "refuse", module="trial")
    expected = [Problem(message="one", hint="do this", where=Where(file="f", line=3)), Problem(message="two")]
    assert list(raised.value.problems) == expected
    with pytest.raises(AccessError, match="mine"):
        agent.call(Far(), tools, "own", module="trial")
    with pytest.raises(TargetError, match="there is no function `none`"):
        agent.call(Far(), tools, "none", module="trial")


@pytest.mark.parametrize(("name", "told"), [("bug", "KeyError: 'oops'"), ("die", "exit code 9")])
def test_no_answer_means_that_nothing_is_known(tools: str, name: str, told: str) -> None:
    with pytest.raises(TargetError, match="nothing is known of what it did") as raised:
        agent.call(Far(), tools, name, module="trial")
    assert told in str(raised.value)


def test_tools_that_are_gone(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"exit code 127.*nothing is known"):
        agent.call(Far(), str(tmp_path / "gone"), "shout", module="trial")


def test_on_a_login_node_functions_are_called_directly() -> None:
    assert agent.call(Here(), "/nowhere", "twice", 4, functions={"twice": lambda x: 2 * x}) == 8


def test_setup_comes_before_the_agent_also_here(tools: str, tmp_path: Path) -> None:
    lines = [f"touch '{tmp_path}/set up'", "echo loaded"]
    assert agent.call(Here(), tools, "shout", 1, module="trial", setup=lines, functions={}) == {"got": 1}
    assert (tmp_path / "set up").exists()


@pytest.mark.parametrize("error", [TargetError("a", hint="b"), DiskFullError("c"), LauncherError("d")])
def test_errors_go_through_json(error: LauncherError) -> None:
    back = agent.error_from(json.loads(json.dumps(agent.error_json(error))))
    assert type(back) is type(error) and back.problems == error.problems
