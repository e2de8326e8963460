"""What happens to a run beside the messages about it, and what it may decide to do."""

from collections.abc import Sequence

from msgspec import Struct

from handoff_actors.errors import HandoffError
from handoff_actors.ids import Attempt, Index, Resources
from handoff_actors.wire.messages import (
    Assign,
    Close,
    Closed,
    Completed,
    Copied,
    Copy,
    Failed,
    Recall,
    Recalled,
)

# --- Events -----------------------------------------------------------------------------------------------------


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


class NodeDown(Struct, frozen=True):
    """A node is gone, and all that it held."""

    name: str
    reason: str


class Heard(Struct, frozen=True):
    """A node has said something about this run."""

    name: str
    message: Completed | Failed | Recalled | Copied | Closed


class BroughtHome(Struct, frozen=True):
    """A stored value has arrived in the app."""

    index: Index


class NotBroughtHome(Struct, frozen=True):
    """None of its holders could give a stored value."""

    index: Index
    reason: str


class Cancel(Struct, frozen=True):
    """The caller wants no result any more; or, with an error, the shell can't go on."""

    error: HandoffError | None = None


class LetGo(Struct, frozen=True):
    """After the end: nobody will ask for stored values any more."""


RunEvent = NodeUp | NodeDown | Heard | BroughtHome | NotBroughtHome | Cancel | LetGo

# --- Effects ----------------------------------------------------------------------------------------------------


class Tell(Struct, frozen=True):
    """Say something to a node."""

    name: str
    message: Assign | Recall | Copy | Close


class BringHome(Struct, frozen=True):
    """Fetch a stored value into the app; answered by `BroughtHome` or `NotBroughtHome`."""

    index: Index
    nbytes: int
    #: Names of nodes.
    holders: Sequence[str]


class Observed(Struct, frozen=True):
    """For whoever watches the run: "assigned", "completed", "failed", "retried", "recalled", "lost" or "reused"."""

    kind: str
    index: Index
    node: str
    attempt: Attempt
    reason: str = ""


class Record(Struct, frozen=True):
    """These functions are done, and their values are inline, at home, or not to come home: a journal may have them."""

    indices: Sequence[Index]


class Finished(Struct, frozen=True):
    """The run is over. `cause` is the user's own exception, encoded, or b""."""

    error: HandoffError | None
    cause: bytes = b""
    cancelled: bool = False


class Forgotten(Struct, frozen=True):
    """No node holds anything of the run any more."""


RunEffect = Tell | BringHome | Observed | Record | Finished | Forgotten
