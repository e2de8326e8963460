"""Passes rows between apps and the stages of their streams, which workers of this node run: see `wire.messages.stages`.

Most messages go right through: `worker_for` and `reader_of` tell the shell where to, and the machine hears nothing of them.
It is asked where values are concerned: those that rows need must be in the store before a stage gets the rows, and those that
a stage has stored are kept.
"""

from collections import deque
from collections.abc import Sequence

from handoff_actors.core.node.clients import Clients
from handoff_actors.core.node.events import DiscardValue, KeepValue, NodeEffect, Reply
from handoff_actors.core.node.inputs import Inputs
from handoff_actors.core.node.scheduling.worker_roster import AttemptKey, WorkerRoster
from handoff_actors.core.node.spill_policy import SpillPolicy
from handoff_actors.core.node.stage_events import PassRows, StageAnswered
from handoff_actors.ids import Attempt, Index, PeerId, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.messages.stages import StageInput, StageInputLost, StageOutput


class Stages:
    """The stages that workers of one node run."""

    def __init__(
        self, clients: Clients, roster: WorkerRoster, inputs: Inputs, spill_policy: SpillPolicy
    ) -> None:
        self._clients = clients
        self._roster = roster
        self._inputs = inputs
        self._spill_policy = spill_policy
        #: Messages that wait for values, and those behind them.
        self._waiting: dict[AttemptKey, deque[StageInput]] = {}

    # --- What the shell may ask ---------------------------------------------------------------------------------

    def worker_for(self, peer: PeerId, message: StageInput) -> WorkerId | None:
        """The worker that a peer's rows may be passed on to at once; None where the machine has to decide."""
        run, needs = self._clients.live(message.run), message.needs
        if run is None or run.peer != peer or (self._waiting and _key(message) in self._waiting):
            return None
        if needs and not all(map(self._is_here, [message.run] * len(needs), needs)):
            return None
        return self._worker(*_key(message))

    def reader_of(self, worker: WorkerId, run: RunId, index: Index, attempt: Attempt) -> PeerId | None:
        """The peer that the rows of a stage are for; None: nobody."""
        state = self._clients.live(run)
        return None if state is None or self._worker(run, index, attempt) != worker else state.peer

    # --- Events -------------------------------------------------------------------------------------------------

    def received(self, peer: PeerId, message: StageInput, now: float) -> list[NodeEffect]:
        """Take rows for a stage."""
        run, key = self._clients.live(message.run), _key(message)
        if run is None or run.peer != peer or self._worker(*key) is None:
            return []
        for ref in message.needs:
            self._spill_policy.use((message.run, ref.index))
        missing = self._inputs.await_values(message.run, message.needs)
        fetches = run.fetches(message.run, missing, now, self._inputs.is_here)
        for ref in missing:
            # Such a fetch is no function's, and is not reported with one.
            del run.fetching_since[ref.index]
        self._waiting.setdefault(key, deque()).append(message)
        return [*fetches]

    def missing(self, run: RunId, reason: str) -> list[NodeEffect]:
        """Drop rows that wait for a value which can't be had, for this reason, and those behind them."""
        keys = [key for key in self._waiting if key[0] == run]
        return [effect for key in keys for effect in self._advance(key, reason)]

    def settle(self) -> list[NodeEffect]:
        """Pass on what waits for nothing more. Called after each event."""
        if not self._waiting:
            return []
        reason = "its run has dropped it, or has asked for another version of it"
        return [effect for key in list(self._waiting) for effect in self._advance(key, reason)]

    def answered(self, event: StageAnswered) -> list[NodeEffect]:
        """Take rows from a stage, and keep what it has stored."""
        reader = self.reader_of(event.worker, event.run, event.index, event.attempt)
        effects: list[NodeEffect] = []
        for item in event.stored:
            run, index, attempt, nbytes = event.run, item.index, event.attempt, item.nbytes
            if reader is not None and self._inputs.made(run, index, attempt, nbytes):
                self._spill_policy.put((run, index), nbytes)
                effects.append(KeepValue(run, index, attempt))
            else:
                effects.append(DiscardValue(run, index, attempt))
        if reader is None:
            return effects
        output = StageOutput(event.run, event.index, event.attempt, event.content, list(event.stored))
        return [*effects, Reply(reader, output)]

    def check(self) -> None:
        """Assert that whatever waits has something to wait for."""
        for key, queue in self._waiting.items():
            assert self._worker(*key) is not None, f"{key} has ended, and rows wait for it"
            fetching = self._inputs.fetching(key[0])
            assert any(ref.index in fetching for ref in queue[0].needs), f"rows for {key} wait for nothing"

    # --- Helpers ------------------------------------------------------------------------------------------------

    def _worker(self, run: RunId, index: Index, attempt: Attempt) -> WorkerId | None:
        state = self._roster.stages.get((run, index, attempt))
        return None if state is None else state.worker

    def _is_here(self, run: RunId, ref: Ref) -> bool:
        return self._inputs.has_version(run, ref.index, ref.version)

    def _advance(self, key: AttemptKey, reason: str) -> list[NodeEffect]:
        run, worker, queue = self._clients.live(key[0]), self._worker(*key), self._waiting[key]
        if run is None or worker is None:
            # The attempt has ended, or is about to.
            del self._waiting[key]
            return []
        effects: list[NodeEffect] = []
        while queue:
            missing = [ref for ref in queue[0].needs if not self._is_here(key[0], ref)]
            lost = self._lost(key[0], missing)
            if lost is not None:
                queue.clear()
                effects.append(Reply(run.peer, StageInputLost(*key, lost, reason)))
            elif missing:
                return effects
            else:
                effects.append(PassRows(worker, *key, queue.popleft().content))
        del self._waiting[key]
        return effects

    def _lost(self, run: RunId, missing: Sequence[Ref]) -> Index | None:
        fetching = self._inputs.fetching(run)
        return next((ref.index for ref in missing if ref.index not in fetching), None)


def _key(message: StageInput) -> AttemptKey:
    return message.run, message.index, message.attempt
