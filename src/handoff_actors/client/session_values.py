"""The values that a session has nodes hold, for itself or for all."""

from abc import ABC, abstractmethod

from handoff_actors.client.hub import Hub
from handoff_actors.client.process.tracebacks import inside_hidden
from handoff_actors.client.run import StoredValue
from handoff_actors.text import check_kept_name


class SessionValues(ABC):
    """The part of a session that is about values without a run."""

    _hub: Hub

    @abstractmethod
    async def _ready(self) -> None:
        """Wait until some node can be used."""

    @inside_hidden
    async def put(self, value: object) -> StoredValue:
        """Place a value on a node once, as an argument of many functions and runs of this session, by reference.

        It goes to the node with the most memory to spare, and from there to others whose functions take it. It is dropped once
        nobody refers to what this returns, or with the session. It moves to another node if that one leaves in good order; if
        the node is lost, a run that needs it raises ValueLost.

        :param value: Anything that can be pickled.
        :returns: A `StoredValue`: awaited, it is the value again.
        :raises SerializationError: The value can't be pickled.
        :raises ValueLost: No node could take it.
        """
        await self._ready()
        return await self._hub.kept.put(value)

    @inside_hidden
    async def kept(self, name: str) -> StoredValue:
        """Return the value that nodes of the cluster keep under a name, which `Run.keep` of any app has given it.

        :param name: The name.
        :returns: A `StoredValue`: it may be awaited, and be an argument of functions of this session's runs.
        :raises KeyError: No node keeps a value under this name.
        """
        check_kept_name(name)
        await self._ready()
        return await self._hub.kept.find(name)

    @inside_hidden
    async def drop_kept(self, name: str) -> None:
        """Have all nodes drop the value that they keep under a name.

        :param name: The name.
        :raises KeyError: No node keeps a value under this name.
        """
        check_kept_name(name)
        await self._ready()
        await self._hub.kept.drop(name)
