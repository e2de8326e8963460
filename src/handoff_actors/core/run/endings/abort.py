"""The end of a run whose own machine has raised.

That machine may have done half of what it was to do, so nothing is asked of it any more. Every node is told to close the
run, whether it has anything of it or not, and the run is over when all of them have, or are gone.
"""

from collections.abc import Iterable

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.endings.completion import Completion
from handoff_actors.core.run.events import MessageFromNode, RunEffect, RunEnded
from handoff_actors.core.run.grow import RunMachineEvent
from handoff_actors.errors import HandoffError
from handoff_actors.ids import RunId
from handoff_actors.wire.messages.runs import Closed


class AbortMachine:
    """Takes the place of a `RunMachine`. See `core.machine.Machine`."""

    def __init__(self, run: RunId, error: HandoffError, nodes: Iterable[str]) -> None:
        """End the run with `error`. `nodes` are all that may have something of it."""
        self._completion = Completion(run)
        self._completion.decide(RunEnded(error))
        for name in nodes:
            self._completion.sent_to(name)

    def handle(self, event: RunMachineEvent, now: float) -> list[RunEffect]:
        """Take one event."""
        match event:
            case MessageFromNode(name, Closed()) | NodeDown(name):
                self._completion.closed(name)
            case _:
                # The outcome is decided.
                pass
        return self.wake(now)

    def wake(self, now: float) -> list[RunEffect]:  # noqa: ARG002 - the shape of a machine
        """Tell the nodes, once."""
        return self._completion.wind_up()

    @property
    def wake_at(self) -> float | None:
        """See Machine: no time limit is left."""
        return None

    def check(self) -> None:
        """See Machine."""
