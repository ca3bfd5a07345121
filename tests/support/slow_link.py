"""A program: a link with latency and loss into the network namespace of a process.

``slow_link.py NAME PID SECONDS LOSS`` makes the interface NAME here and eth0 there, and carries packets
between them, each SECONDS later than it was sent, a fraction LOSS of them never: netem, where a kernel
is built without it. It prints ``up``; both interfaces are gone when it ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

_TUNSETIFF = 0x400454CA
_TUN, _NO_INFORMATION = 0x0001, 0x1000
_MTU = 1500


def interface(name: str) -> int:
    """The descriptor of a new interface of this namespace, whose packets are read and written."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(
        descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TUN | _NO_INFORMATION)
    )
    return descriptor


def enter_network(pid: int) -> None:
    """Enter the network namespace of a process."""
    space = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(space, 0):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(space)


def carry(here: int, there: int, seconds: float, loss: float) -> None:
    """Carry packets for ever."""
    other = {here: there, there: here}
    chance = random.Random(0)
    waiting: list[tuple[float, int, int, bytes]] = []
    number = 0
    while True:
        patience = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for end in select.select([here, there], [], [], patience)[0]:
            packet = os.read(end, _MTU + 64)
            if chance.random() >= loss:
                number += 1
                heapq.heappush(waiting, (time.monotonic() + seconds, number, other[end], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, end, packet = heapq.heappop(waiting)
            try:
                os.write(end, packet)
            except OSError:  # an interface that is down drops packets too
                continue


def main(name: str, pid: str, seconds: str, loss: str) -> None:
    """Make the link and carry packets until killed."""
    here = interface(name)
    enter_network(int(pid))
    there = interface("eth0")
    sys.stdout.write("up\n")
    sys.stdout.flush()
    carry(here, there, float(seconds), float(loss))


if __name__ == "__main__":
    main(*sys.argv[1:])
