"""A line such as that between laptop and login node, with a delay: packets go from one TUN device to the other.

    line.py HOME END END        an end is SPACE or SPACE:DEVICE; without SPACE it lies in the own network namespace

HOME/etc/delay says what the line is like, whenever it changes: `40`: milliseconds each way; `40 100`: and no more than
100 Mbit/s each way; `cut`: nothing arrives.

Kernels without the netem queue (tc-netem(8)) have TUN devices (the kernel's Documentation/networking/tuntap.rst).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque
from pathlib import Path

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MTU = 60000
QUEUE_S = 0.2  # longer than that nothing waits for its turn
DEVICE = "line0"


def tun(namespace: int, device: str) -> int:
    """Make the device in a network namespace; it lives as long as this process."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0) != 0:
        raise OSError(ctypes.get_errno(), f"setns for {device}")
    opened = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)  # it belongs to the namespace that it is opened in
    fcntl.ioctl(opened, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    os.close(namespace)
    return opened


class Nature:
    """What the file says of the line, asked at most ten times a second."""

    def __init__(self, path: Path) -> None:
        self.path, self.asked = path, 0.0
        self.delay_s, self.bytes_s, self.is_cut = 0.0, float("inf"), False

    def ask(self, now: float) -> None:
        if now - self.asked > 0.1:
            self.asked = now
            with contextlib.suppress(OSError, ValueError, IndexError):  # which is being written
                words = self.path.read_text().split()
                self.is_cut = words[0] == "cut"
                if not self.is_cut:
                    self.delay_s = float(words[0]) / 1000
                    self.bytes_s = float(words[1]) * 1e6 / 8 if words[1:] else float("inf")


class Way:
    """One direction: packets leave one after the other, and arrive a while later; who comes to a full queue is lost."""

    def __init__(self, to: int, nature: Nature) -> None:
        self.to, self.nature, self.busy_until = to, nature, 0.0
        self.queue: deque[tuple[float, bytes]] = deque()

    def take(self, packet: bytes, now: float) -> None:
        self.nature.ask(now)
        begins = max(now, self.busy_until)
        if self.nature.is_cut or begins - now > QUEUE_S:
            return
        self.busy_until = begins + len(packet) / self.nature.bytes_s
        self.queue.append((self.busy_until + self.nature.delay_s, packet))

    def give(self) -> None:
        while self.queue and self.queue[0][0] <= time.monotonic():
            with contextlib.suppress(OSError):  # the other device is down: a line that is not plugged in loses packets
                os.write(self.to, self.queue.popleft()[1])


def forward(ends: tuple[int, int], nature: Nature) -> None:
    """Carry packets both ways, for ever."""
    ways = {ends[0]: Way(ends[1], nature), ends[1]: Way(ends[0], nature)}
    while True:
        due = [way.queue[0][0] for way in ways.values() if way.queue]
        wait = max(0.0, min(due) - time.monotonic()) if due else 1.0
        for end in select.select(ends, [], [], wait)[0]:
            ways[end].take(os.read(end, MTU + 100), time.monotonic())
        for way in ways.values():
            way.give()


def main(home: str, *ends: str) -> None:
    split = [end.partition(":") for end in ends]
    spaces = [os.open(f"/run/netns/{space}" if space else "/proc/self/ns/net", os.O_RDONLY) for space, _, _ in split]
    first, second = (tun(at, device or DEVICE) for at, (_, _, device) in zip(spaces, split))  # noqa: B905
    forward((first, second), Nature(Path(home, "etc", "delay")))


if __name__ == "__main__":
    main(*sys.argv[1:])
