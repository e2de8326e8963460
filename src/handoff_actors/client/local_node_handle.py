"""A handle of the node in this process, as `register_local_node` returns it."""

from collections.abc import Awaitable, Callable

from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.ids import Resources


class LocalNodeHandle:
    """The node that a session has in this process. It ends with its session, or earlier with `close`."""

    def __init__(self, node: NodeActor, end: Callable[[NodeActor], Awaitable[None]]) -> None:
        self._node = node
        self._end = end

    @property
    def name(self) -> str:
        """Name of the node, unique in its cluster."""
        return self._node.name

    @property
    def address(self) -> str:
        """Address at which other members reach the node, such as "tcp://10.0.0.1:7070"; "" if it serves this process only."""
        return self._node.address

    @property
    def capabilities(self) -> Resources:
        """Resources as last declared: cpu in cores, memory in MB, gpu in devices, others in units of their own."""
        return dict(self._node.advertised.capabilities)

    async def close(self) -> None:
        """End the node at once, and remove its processes, files and sockets. The session goes on without it.

        Functions that run there are run again on other nodes; results that only it had are lost. A second call does
        nothing. Afterwards the session may register another node.
        """
        await self._end(self._node)

    def __repr__(self) -> str:
        return f"<LocalNodeHandle {self.name!r}: {self.capabilities}>"
