"""A node in a worker of another cluster: the part that runs there, in whatever that cluster calls a task.

The app makes a `NodeOrder`, and the cluster carries it to a worker. There a task makes a `WorkerNode` of it, which is a child
process that ends with the worker however that ends, waits until it serves, and tells the app the address.
"""

import os
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from handoff_actors.actors.interfaces import is_of_this_machine
from handoff_actors.actors.node.limits import MemoryOptions
from handoff_actors.actors.node.local_node import LocalNode
from handoff_actors.addresses import TcpAddress, ip_of
from handoff_actors.ids import Resources
from handoff_actors.transport.credentials import INSECURE_VARIABLE
from handoff_actors.transport.keys import ALSO_ACCEPT_VARIABLE, KEY_FILE_VARIABLE, KEY_VARIABLE

_LOOPBACK: Final = "127.0.0.1"
#: They would make the node part of another cluster.
_FOREIGN_VARIABLES: Final = (
    "HANDOFF_SEEDS",
    "HANDOFF_JOIN_FILE",
    KEY_FILE_VARIABLE,
    ALSO_ACCEPT_VARIABLE,
    INSECURE_VARIABLE,
)


class NodeOrder(Struct, frozen=True):
    """A node that a worker is to start. Its repr hides the key: clusters log the arguments of tasks that fail."""

    #: Unique in the cluster.
    name: str
    capabilities: Resources
    #: The text of the cluster's key.
    key: str
    #: The IP address or name under which others reach the worker's machine; "": none needs to from elsewhere.
    host: str = ""
    #: Addresses of nodes to join; (): the app introduces it to the others.
    seeds: tuple[str, ...] = ()
    log_level: str = "warning"

    def __repr__(self) -> str:
        return f"<NodeOrder {self.name}>"


class WorkerNode:
    """The node of one order, a child of this process that ends with it. The methods block: call them in a thread."""

    def __init__(self, order: NodeOrder) -> None:
        """Start it. Raises OSError."""
        options = {
            "capabilities": order.capabilities,
            "workers": None,
            "join": order.seeds,
            **where_to_listen(order.host),
        }
        self._node = LocalNode(order.name, options, _environment(order, os.environ), order.log_level)

    @property
    def name(self) -> str:
        """The name of the node."""
        return self._node.name

    @property
    def pid(self) -> int:
        """The process id of the node."""
        return self._node.pid

    def wait_until_ready(self) -> str:
        """Return its address once it serves. Raises HandoffError if it doesn't come to that; then nothing is left of it."""
        self._node.wait_until_ready()
        return self._node.address

    @property
    def has_ended(self) -> bool:
        """True once it has ended."""
        return not self._node.is_running

    def has_ended_within(self, seconds: float) -> bool:
        """Wait until it has ended by itself, so long at most."""
        return self._node.has_ended_within(seconds)

    def drain(self) -> None:
        """Have it leave once its functions have ended, and hand its values on: the worker is about to be closed."""
        self._node.ask_to_leave()

    def end(self) -> None:
        """End it at once. Returns when nothing of it is left."""
        self._node.ask_to_end()
        self._node.wait_until_ended()


def where_to_listen(host: str) -> Mapping[str, str]:
    """Return the options of a node that others reach under this name or address of its machine."""
    if not host:
        return {"listen": str(TcpAddress(_LOOPBACK, 0))}
    ip = ip_of(host)
    if ip is not None and is_of_this_machine(host):
        return {"listen": str(TcpAddress(host, 0))}
    # A name may be a loopback address here, and an address that of a gateway.
    every = "::" if ip is not None and ip.version == 6 else "0.0.0.0"  # noqa: PLR2004, S104 - there is a key
    return {"listen": str(TcpAddress(every, 0)), "advertise": host}


def _environment(order: NodeOrder, variables: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in variables.items() if name not in _FOREIGN_VARIABLES}
    return _store_limit(order, variables) | inherited | {KEY_VARIABLE: order.key}


def _store_limit(order: NodeOrder, variables: Mapping[str, str]) -> dict[str, str]:
    # Workers of one machine share its memory: each node keeps values in half of its own worker's, if so much is free.
    memory_mb = order.capabilities.get("memory")
    if memory_mb is None:
        return {}
    free_nbytes = MemoryOptions.from_environment(variables).limits().store_nbytes or 0
    return {"HANDOFF_STORE_LIMIT": f"{min(memory_mb / 2, free_nbytes / 1e6):.0f}"}
