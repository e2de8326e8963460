"""The nodes and runs of a session at one moment, for people."""

from collections.abc import Sequence

from msgspec import Struct

from handoff_actors.actors.app.runner import RunnerActor
from handoff_actors.report.table import count
from handoff_actors.wire.messages.members import Advert


class SessionStanding(Struct, frozen=True):
    """The nodes and runs that a session has now."""

    #: By name.
    nodes: Sequence[Advert]
    #: The name of the node in this process.
    own_node: str | None
    #: Runs that have not ended.
    runs: Sequence[RunnerActor]

    def text(self) -> str:
        """Return one line."""
        own = "" if self.own_node is None else f" (one in this process: {self.own_node!r})"
        return f"{count(len(self.nodes), 'node')}{own}, {count(len(self.runs), 'run')} going on"
