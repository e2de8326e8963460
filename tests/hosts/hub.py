"""A network as bad as you like, for kernels that have no `netem`: hosts on one cable, whose other end is in this process.

The far end of each host's `eth0` is a TAP device, read and written by a thread here. It hands every frame to all other
hosts: late, sometimes not at all, and sometimes before those that came before.
"""

import ctypes
import fcntl
import os
import selectors
import struct
import threading
import time
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from typing import Self

from tests.hosts.network import Host, ip

TUNSETIFF = 0x400454CA
IFF_TAP_WITHOUT_HEADER = 0x1002
CLONE_NEWNET = 0x40000000
LONGEST_FRAME = 65536


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions that a frame meets on its way, in either direction."""

    delay_s: float
    jitter_s: float
    loss: float
    #: The share of the arriving frames that overtake all others.
    overtaking: float


class Hub:
    """Hosts `net`.1, `net`.2, ... on a bad cable. Needs root."""

    def __init__(self, size: int, conditions: Conditions, net: str = "10.79.0") -> None:
        self._conditions = conditions
        self._random = Random(size)
        self._names = [f"hub{os.getpid() % 10000}-{number}" for number in range(1, size + 1)]
        self.hosts = [
            Host(name, f"{net}.{number}", ("", "")) for number, name in enumerate(self._names, start=1)
        ]
        self._cables: list[int] = []
        self._on_the_way: list[tuple[float, int, int, bytes]] = []
        self._frames = 0
        self._closing, self._close = os.pipe()
        self._thread = threading.Thread(target=self._carry)

    def __enter__(self) -> Self:
        for host in self.hosts:
            ip("netns", "add", host.namespace)
            self._cables.append(_in_namespace(host.namespace))
            ip("-n", host.namespace, "link", "set", "lo", "up")
            ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            ip("-n", host.namespace, "link", "set", "eth0", "up")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._close)
        self._thread.join()
        for descriptor in (*self._cables, self._closing):
            os.close(descriptor)
        for host in self.hosts:
            ip("netns", "del", host.namespace)

    def _carry(self) -> None:
        with selectors.DefaultSelector() as selector:
            for descriptor in (*self._cables, self._closing):
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                now = time.monotonic()
                until = max(0.0, self._on_the_way[0][0] - now) if self._on_the_way else None
                ready = [key.fd for key, _ in selector.select(until)]
                if self._closing in ready:
                    return
                for cable in ready:
                    self._take(cable)
                self._deliver()

    def _take(self, cable: int) -> None:
        frame = os.read(cable, LONGEST_FRAME)
        conditions, random = self._conditions, self._random
        for other in self._cables:
            if other == cable or random.random() < conditions.loss:
                continue
            delay_s = conditions.delay_s + random.uniform(-1, 1) * conditions.jitter_s
            overtakes = random.random() < conditions.overtaking
            self._frames += 1
            due = time.monotonic() + (delay_s / 2 if overtakes else delay_s)
            heappush(self._on_the_way, (due, self._frames, other, frame))

    def _deliver(self) -> None:
        while self._on_the_way and self._on_the_way[0][0] <= time.monotonic():
            _, _, cable, frame = heappop(self._on_the_way)
            os.write(cable, frame)


def _in_namespace(namespace: str) -> int:
    """The far end of a new `eth0` there. Only a thread of its own can go there and leave this process where it is."""
    opened: list[int] = []

    def enter_and_open() -> None:
        with Path(f"/run/netns/{namespace}").open() as there:
            if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", b"eth0", IFF_TAP_WITHOUT_HEADER))
        opened.append(descriptor)

    thread = threading.Thread(target=enter_and_open)
    thread.start()
    thread.join()
    return opened[0]
