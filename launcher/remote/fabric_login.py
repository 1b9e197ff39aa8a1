"""How Fabric logs in here: the agent's and one's own keys, then what the server asks a person for."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Sequence
from typing import Any

from launcher.process import run


def strategy() -> type[Any]:
    """Return the class that Fabric asks for ways to log in, in their order."""
    from fabric.auth import OpenSSHAuthStrategy
    from paramiko import AuthenticationException
    from paramiko.auth_strategy import AuthSource, NoneAuth

    class Keys(OpenSSHAuthStrategy):  # type: ignore[misc]
        """Keys first. Then the server's questions (keyboard-interactive), where there is somebody to answer them.

        Some servers want both; a key that was taken but isn't enough counts as a failure to paramiko, and the
        questions follow it over the same connection.
        """

        def get_sources(self) -> Iterator[Any]:
            yield NoneAuth(username=self.username)
            yield from self.get_pubkeys()
            if asks():
                yield Questions(username=self.username)

        def authenticate(self, transport: Any) -> Any:
            transport.auth_timeout = 300  # a person may have to find their telephone
            return super().authenticate(transport)

    class Questions(AuthSource):  # type: ignore[misc]
        """RFC 4256: the server sends prompts, a person answers them."""

        def authenticate(self, transport: Any) -> Any:
            left = transport.auth_interactive(self.username, answers)
            if left:
                raise AuthenticationException(f"the server wants {', '.join(left)} as well")
            return left

    return Keys


def asks() -> bool:
    """Tell whether there is somebody, or a program, to ask."""
    return os.isatty(0) or bool(os.environ.get("SSH_ASKPASS"))


def answers(title: str, instructions: str, prompts: Sequence[tuple[str, bool]]) -> list[str]:
    """Ask a server's questions, each with whether the answer may be seen, as `ssh` would."""
    return [answer(" ".join(part for part in (title, instructions, prompt) if part), seen) for prompt, seen in prompts]


def answer(prompt: str, seen: bool) -> str:
    program = os.environ.get("SSH_ASKPASS")
    if program and (os.environ.get("SSH_ASKPASS_REQUIRE") in ("force", "prefer") or not os.isatty(0)):
        return run([program, prompt]).stdout.decode(errors="replace").rstrip("\n")
    return getpass.getpass(f"{prompt} ")
