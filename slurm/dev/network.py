"""The cables: a switch that all machines of the site hang on, and a line from the laptop to the login node.

The switch is a bridge in a network namespace of its own: a Docker engine's firewall would cut one in this machine's.
"""

from __future__ import annotations

from pathlib import Path

from processes import call
from settings import Settings

SWITCH = "switch"


def up(s: Settings) -> None:
    """Lay all cables. Every namespace is named, so that a machine that was switched off keeps its address."""
    add_space(s, SWITCH)
    ip(s, SWITCH, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
    ip(s, SWITCH, "link", "set", "br0", "up")
    plug_host(s)
    for machine in s.machines:
        add_space(s, machine)
        plug(s, machine)


def add_space(s: Settings, machine: str) -> None:
    call("ip", "netns", "add", s.space(machine))
    ip(s, machine, "link", "set", "lo", "up")


def plug_host(s: Settings) -> None:
    name = host_end(s)
    call("ip", "link", "add", name, "type", "veth", "peer", "name", "p-host", "netns", s.space(SWITCH))
    ip(s, SWITCH, "link", "set", "p-host", "master", "br0", "up")
    call("ip", "addr", "add", f"{s.host_address}/24", "dev", name)
    call("ip", "link", "set", name, "up")


def host_end(s: Settings) -> str:
    return s.space("host")


def plug(s: Settings, machine: str) -> None:
    ip(s, SWITCH, "link", "add", f"p-{machine}", "type", "veth", "peer", "name", "eth0", "netns", s.space(machine))
    ip(s, SWITCH, "link", "set", f"p-{machine}", "master", "br0", "up")
    if machine == "laptop":  # it reaches what the host serves, such as a store, and nothing of the site that way
        ip(s, machine, "addr", "add", f"{s.address(machine)}/32", "dev", "eth0")
        ip(s, machine, "link", "set", "eth0", "up")
        ip(s, machine, "route", "add", f"{s.host_address}/32", "dev", "eth0")
    else:
        ip(s, machine, "addr", "add", f"{s.address(machine)}/24", "dev", "eth0")
        ip(s, machine, "link", "set", "eth0", "up")
        ip(s, machine, "route", "add", "default", "via", s.host_address)


def link_laptop(s: Settings) -> None:
    """Give the line's ends their addresses; `line.py` has made them, and a machine that restarts keeps its own."""
    for machine in ("laptop", "login"):
        ip(s, machine, "addr", "add", f"{s.link_address(machine)}/30", "dev", "line0")
        ip(s, machine, "link", "set", "line0", "up", "mtu", "60000")


def delay(s: Settings, ms: float) -> None:
    """Let everything between laptop and login node take `ms` milliseconds each way."""
    (Path(s.home) / "etc" / "delay").write_text(str(ms))


def cut(s: Settings, machine: str) -> None:
    """Pull a machine's cable: nothing arrives, and nobody is told."""
    ip(s, SWITCH, "link", "set", f"p-{machine}", "nomaster")


def join(s: Settings, machine: str) -> None:
    ip(s, SWITCH, "link", "set", f"p-{machine}", "master", "br0")


def ip(s: Settings, machine: str, *args: str) -> None:
    call("ip", "-n", s.space(machine), *args)


def down(number: int) -> None:
    """Remove whatever of this number is there."""
    names = [line.split()[0] for line in call("ip", "netns", "list").splitlines() if line.strip()]
    for name in names:
        if name.startswith(f"sd{number}-"):
            call("ip", "netns", "del", name, check=False)
    call("ip", "link", "del", f"sd{number}-host", check=False)
