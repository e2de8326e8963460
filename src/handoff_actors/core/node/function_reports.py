"""The progress of functions that workers run, as they report it: kept for monitors, and sent to apps that want it."""

from collections.abc import Sequence

from handoff_actors.core.node.clients import Clients
from handoff_actors.core.node.events import IdAsked, NodeEffect, OutputReceived, Reply
from handoff_actors.core.node.function_ids import FunctionIds
from handoff_actors.core.node.scheduling.worker_roster import WorkerRoster
from handoff_actors.ids import RunId
from handoff_actors.wire.messages.jobs import Progressed, Said
from handoff_actors.wire.messages.runs import Output


class FunctionReports:
    """Forwards what functions print, log and report while they run, and answers what they ask."""

    def __init__(self, clients: Clients, roster: WorkerRoster, ids: FunctionIds) -> None:
        self._clients = clients
        self._roster = roster
        self._ids = ids

    def take(self, event: OutputReceived | IdAsked) -> list[NodeEffect]:
        """Act on what functions say or ask."""
        return self._ids.asked(event) if isinstance(event, IdAsked) else self._forward(event.run, event.said)

    def _forward(self, run: RunId, said: Sequence[Said]) -> list[NodeEffect]:
        """Send it to the run's app, progress only where that is wanted."""
        state = self._clients.live(run)
        if state is None:
            return []
        effects: list[NodeEffect] = []
        for part in said:
            if isinstance(part, Progressed):
                effects += self._note(run, part)
        sent = [part for part in said if state.sends_progress or not isinstance(part, Progressed)]
        if sent:
            effects.append(Reply(state.peer, Output(run, sent)))
        return effects

    def _note(self, run: RunId, progress: Progressed) -> list[NodeEffect]:
        held = self._roster.held(run, progress.index)
        if held is None or held.job.attempt != progress.attempt:
            return []
        held.progress = progress
        # Monitors name it.
        return self._ids.ask(held)
