"""The messages of the agent on the other machine: see `remote/tasks.py`."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct


class ReadyNode(Struct, frozen=True):
    """The facts that a node has printed when it came to serve."""

    name: str
    address: str
    incarnation: str
    capabilities: Mapping[str, float]
    workers: int


class RefusedThere(Struct, frozen=True, tag="refused"):
    """The agent can't do what it was asked for, and has left nothing."""

    reason: str


class NeedsPackages(Struct, frozen=True, tag="needs"):
    """The machine has no handoff_actors, and has a Python of this build."""

    abi: str


class Able(Struct, frozen=True, tag="able"):
    """The machine can start a node, and waits for the order."""

    #: The address to listen at.
    host: str
    python: str
    version: str


class RunningThere(Struct, frozen=True, tag="running"):
    """The node is up since earlier."""

    ready: ReadyNode


class ServesThere(Struct, frozen=True, tag="serves"):
    """The node has come to serve, and ends again unless it is kept."""

    ready: ReadyNode
    #: A thing that its user should know.
    note: str = ""


class Kept(Struct, frozen=True, tag="kept"):
    """The node outlives the connection."""


class EndedThere(Struct, frozen=True, tag="ended"):
    """The node has ended, and its machine is as before `up`."""

    was: Literal["running", "stopped", "nothing"]
    killed: bool
    #: Paths that are in the way, and were not made by `up`.
    left: tuple[str, ...]


class LogBegins(Struct, frozen=True, tag="log"):
    """The rest is the log, as it is."""


FromAgent = RefusedThere | NeedsPackages | Able | RunningThere | ServesThere | Kept | EndedThere | LogBegins
