"""How Fabric logs in here: the agent's and one's own keys, then what the server asks a person for."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from launcher.process import run

KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")  # ssh_config(5), IdentityFile
PATIENCE_S = 300  # a person may have to find their telephone


def strategy() -> type[Any]:
    """Return the class that Fabric asks to log in."""
    from fabric.auth import OpenSSHAuthStrategy
    from paramiko import AuthenticationException, SSHException
    from paramiko.auth_strategy import InMemoryPrivateKey

    class Login(OpenSSHAuthStrategy):  # type: ignore[misc]
        """Keys first, then the server's questions. Some servers want both, one after the other."""

        def authenticate(self, transport: Any) -> list[str]:
            transport.auth_timeout = PATIENCE_S
            said = "there is no key that could be tried, and nobody to ask for a password"
            try:
                for way in self.ways(transport):
                    try:
                        left = way()
                    except SSHException as e:
                        said = str(e)
                    else:
                        if not left:
                            return []
                        said = f"the server wants {', '.join(left)} as well"
            finally:
                self.close()
            raise AuthenticationException(f"authentication failed: {said}")

        def ways(self, transport: Any) -> Iterator[Any]:
            for key in self.keys():
                yield lambda key=key: InMemoryPrivateKey(self.username, key).authenticate(transport)
            if asks():
                yield lambda: transport.auth_interactive(self.username, answers)

        def keys(self) -> Iterator[Any]:
            if str(self.ssh_config.get("identitiesonly", "no")).lower() != "yes":
                yield from self.agent.get_keys()
            files = self.ssh_config.get("identityfile") or [f"~/.ssh/{name}" for name in KEYS]
            for path in files:
                if key := read_key(Path(path).expanduser()):
                    yield key

    return Login


def read_key(path: Path) -> Any:
    """Return a private key of a file; None when it is none, or nobody is there to say its passphrase."""
    from paramiko import PKey, SSHException

    if not path.is_file():
        return None
    try:
        return PKey.from_path(path)
    except (SSHException, TypeError, ValueError, OSError):  # TypeError: cryptography's word for one with a passphrase
        if not asks():
            return None
    try:
        return PKey.from_path(path, answer(f"Enter passphrase for key '{path}':").encode())
    except (SSHException, TypeError, ValueError, OSError):
        return None


def asks() -> bool:
    """Tell whether there is somebody, or a program, to ask."""
    return os.isatty(0) or bool(os.environ.get("SSH_ASKPASS"))


def answers(title: str, instructions: str, prompts: Sequence[tuple[str, bool]]) -> list[str]:
    """Ask a server's questions as `ssh` would (RFC 4256, 3.2)."""
    return [answer(" ".join(part for part in (title, instructions, prompt) if part)) for prompt, _ in prompts]


def answer(prompt: str) -> str:
    program = os.environ.get("SSH_ASKPASS")
    if program and (os.environ.get("SSH_ASKPASS_REQUIRE") in ("force", "prefer") or not os.isatty(0)):
        return run([program, prompt]).stdout.decode(errors="replace").rstrip("\n")
    return getpass.getpass(f"{prompt} ")
