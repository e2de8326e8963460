"""Changes of the nodes that runs may use, as the links report them to every run."""

import sys
from collections.abc import Sequence

from msgspec import Struct, field

from handoff_actors.ids import Resources
from handoff_actors.wire.messages.members import WarmCopies


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
    #: Sync functions that run or wait there, and the sum of the claims of functions that wait, of all runs and apps.
    busy: int = 0
    waiting_claims: Resources = field(default_factory=dict)
    #: Upper limit of its processes for sync functions; beyond `workers`, it starts them for functions with claims.
    most_workers: int = sys.maxsize
    #: Why the node should not be used while another one can be; "" where it may.
    out_of_use: str = ""
    #: Capabilities of a node that it could have started, and seconds after which that one would begin to drain.
    can_start: Resources = field(default_factory=dict)
    can_start_for_s: float | None = None
    #: The time at which it begins to drain by itself; None: no end is known.
    ends_at: float | None = None
    #: Objects of `per_worker` that its workers have.
    warm: Sequence[WarmCopies] = ()


class NodeDown(Struct, frozen=True):
    """A node is gone, together with the values that it held."""

    name: str
    reason: str
