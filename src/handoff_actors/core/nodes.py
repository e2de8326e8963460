"""Changes of the nodes that runs may use, as the links report them to every run."""

from msgspec import Struct

from handoff_actors.ids import Resources


class NodeUp(Struct, frozen=True):
    """A node has become usable, or has published new figures."""

    name: str
    #: The address from which other nodes fetch values.
    address: str
    capabilities: Resources
    spare: Resources
    workers: int
    leaving: bool = False
    #: True if it has been silent for a while.
    suspect: bool = False
    #: The minor version of its Python, for example "3.11".
    python: str = ""


class NodeDown(Struct, frozen=True):
    """A node is gone, together with the values that it held."""

    name: str
    reason: str
