"""Changes of the nodes that runs may use: decided by the links to them, and taken in by every run."""

from msgspec import Struct

from handoff_actors.ids import Resources


class NodeUp(Struct, frozen=True):
    """A node can be used, or says something new of itself."""

    name: str
    #: Where other nodes fetch from it.
    address: str
    capabilities: Resources
    spare: Resources
    workers: int
    leaving: bool = False
    #: Nothing has been heard of it for a while.
    suspect: bool = False
    #: The minor version of its Python, for example "3.11".
    python: str = ""


class NodeDown(Struct, frozen=True):
    """A node is gone, and all that it held."""

    name: str
    reason: str
