"""The ids of functions that workers hold. A job has none: its run is asked for the few that somebody wants, each once."""

from handoff_actors.core.node.clients import Clients
from handoff_actors.core.node.events import IdAsked, NodeEffect, Reply, TellId
from handoff_actors.core.node.scheduling.worker_roster import WorkerRoster
from handoff_actors.core.node.scheduling.worker_state import HeldJob
from handoff_actors.ids import PeerId
from handoff_actors.wire.messages.nested import Identified, Identify


class FunctionIds:
    """Asks runs for ids, and keeps each as long as a worker holds the function."""

    def __init__(self, clients: Clients, roster: WorkerRoster) -> None:
        self._clients = clients
        self._roster = roster

    def ask(self, held: HeldJob) -> list[NodeEffect]:
        """Ask for the id of a function, unless that has been done."""
        run, index = held.lane.run, held.job.index
        state = self._clients.live(run)
        if state is None or held.is_id_asked:
            return []
        held.is_id_asked = True
        return [Reply(state.peer, Identify(run, index))]

    def asked(self, question: IdAsked) -> list[NodeEffect]:
        """Find an id for the function itself."""
        run, index, attempt = question.run, question.index, question.attempt
        held = self._roster.held(run, index)
        if held is None or held.job.attempt != attempt or self._clients.live(run) is None:
            return [TellId(run, index, attempt, None)]
        return self.ask(held) if held.identity is None else [_told(held, held.identity)]

    def identified(self, peer: PeerId, message: Identified) -> list[NodeEffect]:
        """Take an id, and tell it to the function in case that has asked."""
        state = self._clients.live(message.run)
        held = self._roster.held(message.run, message.index)
        if state is None or state.peer != peer or held is None or not held.is_id_asked:
            return []
        held.identity = message
        return [_told(held, message)]


def _told(held: HeldJob, identity: Identified) -> TellId:
    function_id = identity.label if identity.exact_id is None else identity.exact_id
    return TellId(identity.run, identity.index, held.job.attempt, function_id)
