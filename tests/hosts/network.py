"""Hosts of their own: network namespaces with addresses, joined by a switch in yet another namespace."""

import itertools
import json
import os
import subprocess
import sys
from typing import Any, Literal, Self

from handoff_actors.transport.keys import ClusterKey

#: The key of every process on a host: the user's own key is for one machine only.
KEY = {"HANDOFF_KEY": ClusterKey.generate().text()}

Parting = Literal["silent", "refused"]
#: The address of no network card.
NOBODY = "02:00:00:00:00:01"

_numbers = itertools.count(1)


def ip(*arguments: str) -> None:
    """Run iproute2's `ip`."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Host:
    """One namespace, reachable from the others of its network at `address`."""

    def __init__(self, namespace: str, address: str, plug: tuple[str, str]) -> None:
        self.namespace = namespace
        self.address = address
        #: The switch's namespace, and the switch's end of this host's cable.
        self._plug = plug
        #: The words before a command that have it run on the host.
        self.prefix = ("ip", "netns", "exec", namespace)

    def run_script(self, source: str, *arguments: str, timeout_s: float = 50.0) -> Any:
        """Run a Python script on the host; return the JSON value of its last line of output."""
        done = subprocess.run(
            [*self.prefix, sys.executable, "-", *arguments],
            env=os.environ | KEY,
            input=source,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])

    def unplug(self) -> None:
        """Cut it off in both directions."""
        switch, port = self._plug
        ip("-n", switch, "link", "set", port, "down")

    def plug_in(self) -> None:
        """End `unplug`."""
        switch, port = self._plug
        ip("-n", switch, "link", "set", port, "up")

    def lose_what_leaves(self) -> None:
        """Cut it off in one direction: it hears the others, and they don't hear it."""
        self._control_traffic("add", "dev", "eth0", "root", "blackhole")

    def stop_losing(self) -> None:
        """End `lose_what_leaves`."""
        self._control_traffic("del", "dev", "eth0", "root")

    def part(self, other: "Host", how: Parting) -> None:
        """Let nothing from here reach another host: "silent", as behind a firewall that drops, or "refused"."""
        if how == "silent":
            ip("-n", self.namespace, "neighbour", "replace", other.address, "lladdr", NOBODY, "dev", "eth0")
        else:
            ip("-n", self.namespace, "route", "add", "prohibit", other.address)

    def _control_traffic(self, *arguments: str) -> None:
        subprocess.run([*self.prefix, "tc", "qdisc", *arguments], check=True, capture_output=True)


class HostNetwork:
    """Hosts `net`.1, `net`.2, ... that only reach one another. Needs root."""

    def __init__(self, size: int, net: str = "10.77.0") -> None:
        self._net = net
        self._tag = f"ho{os.getpid() % 10000}x{next(_numbers)}"
        self._switch = f"{self._tag}-s"
        self._size = size
        self.hosts: list[Host] = []

    def __enter__(self) -> Self:
        ip("netns", "add", self._switch)
        ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self._switch, "link", "set", "br0", "up")
        for number in range(1, self._size + 1):
            self.hosts.append(self._add(number))
        return self

    def __exit__(self, *_: object) -> None:
        for namespace in (*(host.namespace for host in self.hosts), self._switch):
            ip("netns", "del", namespace)

    def _add(self, number: int) -> Host:
        namespace, port = f"{self._tag}-{number}", f"p{number}"
        address = f"{self._net}.{number}"
        ip("netns", "add", namespace)
        ip("-n", namespace, "link", "set", "lo", "up")
        ip(
            "-n",
            self._switch,
            "link",
            "add",
            port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            namespace,
        )
        ip("-n", self._switch, "link", "set", port, "master", "br0", "up")
        ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        ip("-n", namespace, "link", "set", "eth0", "up")
        return Host(namespace, address, (self._switch, port))
