"""The cables: a switch of a site, in a network namespace of its own (an engine's firewall would cut one in this
machine's), and for each box a line beside it whose delay and bandwidth can be set."""

from __future__ import annotations

import contextlib
import json

from tests.box.model import Parts, Site
from tests.box.processes import DEV, BoxError, call, recorded, start, waited


def up(site: Site) -> None:
    """Put the switch up, with this machine on it."""
    add_space(site.switch)
    ip(site.switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
    ip(site.switch, "link", "set", "br0", "up")
    call("ip", "link", "add", site.host_end, "type", "veth", "peer", "name", "p-host", "netns", site.switch)
    ip(site.switch, "link", "set", "p-host", "master", "br0", "up")
    call("ip", "addr", "add", f"{site.host_address}/24", "dev", site.host_end)
    call("ip", "link", "set", site.host_end, "up")


def plug(box: Parts) -> None:
    """Lay a box's cable. It has no way but to what hangs on the switch: no gateway."""
    add_space(box.space)
    switch = box.site.switch
    ip(switch, "link", "add", f"p-{box.k}", "type", "veth", "peer", "name", "eth0", "netns", box.space)
    ip(switch, "link", "set", f"p-{box.k}", "master", "br0", "up")
    ip(box.space, "addr", "add", f"{box.address}/24", "dev", "eth0")
    ip(box.space, "link", "set", "eth0", "up")


def add_space(name: str) -> None:
    call("ip", "netns", "add", name)
    ip(name, "link", "set", "lo", "up")


def cut(box: Parts) -> None:
    """Pull the cable: nothing arrives, and nobody is told."""
    ip(box.site.switch, "link", "set", f"p-{box.k}", "nomaster")
    write_line(box, "cut")


def join(box: Parts) -> None:
    ip(box.site.switch, "link", "set", f"p-{box.k}", "master", "br0")
    write_line(box, line_of(box))


def line(box: Parts, delay_ms: float, rate_mbit: float | None) -> None:
    """Let all packets between client and box take so long each way, at that many megabits a second; (0, None) gives
    the plain cable back."""
    if not delay_ms and rate_mbit is None:
        plain(box)
        return
    (box.home / "line").write_text(f"{delay_ms} {rate_mbit or ''}")
    write_line(box, line_of(box))
    if recorded(box.record("line")) is None:
        begin_line(box)
    call("ip", "route", "replace", f"{box.address}/32", "dev", box.line, "src", box.site.host_address)
    ip(box.space, "route", "replace", f"{box.site.host_address}/32", "dev", "line0", "src", box.address)


def plain(box: Parts) -> None:
    call("ip", "route", "del", f"{box.address}/32", "dev", box.line, check=False)
    call("ip", "-n", box.space, "route", "del", f"{box.site.host_address}/32", "dev", "line0", check=False)


def line_of(box: Parts) -> str:
    with contextlib.suppress(FileNotFoundError):
        return (box.home / "line").read_text()
    return "0"


def write_line(box: Parts, text: str) -> None:
    (box.home / "etc").mkdir(exist_ok=True)
    (box.home / "etc" / "delay").write_text(text)


def begin_line(box: Parts) -> None:
    args = ["python3", "-B", str(DEV / "line.py"), str(box.home), f":{box.line}", f"{box.space}:line0"]
    start(args, box.record("line"), box.log("line"))
    ends = (("ip",), ("ip", "-n", box.space))
    names = (box.line, "line0")

    def made() -> bool:
        return all(call(*end, "link", "show", name, check=False) for end, name in zip(ends, names, strict=True))

    if not waited(made, 20):
        raise BoxError(f"there is no line to {box.name}: {box.log('line').read_text()}")
    for end, name in zip(ends, names, strict=True):
        call(*end, "link", "set", name, "up", "mtu", "60000")


def counted(box: Parts) -> tuple[int, int]:
    """Return how many bytes the box has received and sent, over cable and line."""
    told = json.loads(call("ip", "-n", box.space, "-s", "-j", "link", "show"))
    mine = [one["stats64"] for one in told if one["ifname"] in ("eth0", "line0")]
    return sum(one["rx"]["bytes"] for one in mine), sum(one["tx"]["bytes"] for one in mine)


def ip(space: str, *args: str) -> None:
    call("ip", "-n", space, *args)


def down(site: Site) -> None:
    """Remove whatever of this site is there."""
    names = [text.split()[0] for text in call("ip", "netns", "list").splitlines() if text.strip()]
    for name in names:
        if name.startswith(f"bx{site.number}-"):
            call("ip", "netns", "del", name, check=False)
    call("ip", "link", "del", site.host_end, check=False)
