"""The line between laptop and login node, with a delay that can be set: packets go from one TUN device to the other.

    line.py HOME SPACE SPACE        the delay, in milliseconds each way, is read from HOME/etc/delay whenever it changes

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
DEVICE = "line0"


def tun(space: str) -> int:
    """Make the device in a network namespace; it lives as long as this process."""
    namespace = os.open(f"/run/netns/{space}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0) != 0:
        raise OSError(ctypes.get_errno(), f"setns {space}")
    opened = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)  # it belongs to the namespace that it is opened in
    fcntl.ioctl(opened, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    os.close(namespace)
    return opened


class Delay:
    """What the file says, asked at most ten times a second."""

    def __init__(self, path: Path) -> None:
        self.path, self.seconds, self.asked = path, 0.0, 0.0

    def __call__(self, now: float) -> float:
        if now - self.asked > 0.1:
            self.asked = now
            with contextlib.suppress(OSError, ValueError):  # which is being written
                self.seconds = float(self.path.read_text()) / 1000
        return self.seconds


def forward(ends: tuple[int, int], delay: Delay) -> None:
    """Carry packets both ways, for ever."""
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    queue: deque[tuple[float, int, bytes]] = deque()
    while True:
        wait = max(0.0, queue[0][0] - time.monotonic()) if queue else 1.0
        for end in select.select(ends, [], [], wait)[0]:
            now = time.monotonic()
            queue.append((now + delay(now), other[end], os.read(end, MTU + 100)))
        while queue and queue[0][0] <= time.monotonic():
            _, end, packet = queue.popleft()
            with contextlib.suppress(OSError):  # the other device is down: a line that is not plugged in loses packets
                os.write(end, packet)


def main(home: str, *spaces: str) -> None:
    ends = tun(spaces[0]), tun(spaces[1])
    forward(ends, Delay(Path(home, "etc", "delay")))


if __name__ == "__main__":
    main(*sys.argv[1:])
