"""The ends of runs on a node: their clients close them, stop them, or leave; and what is left is cleared away.

A run that is closed, or whose client has gone, ends with all that it has here. One that is stopped has failed: its functions
end, and its values stay until it is closed. Both take until no worker holds a job of it any more.
"""

from collections.abc import Callable, Collection

from handoff_actors.core.node.clients import Clients
from handoff_actors.core.node.events import ForgetRun, NodeEffect, Reply
from handoff_actors.core.node.inputs import Inputs
from handoff_actors.core.node.kept_values import KeptValues
from handoff_actors.core.node.nested_runs import NestedRuns
from handoff_actors.core.node.scheduling.worker_scheduler import WorkerScheduler
from handoff_actors.core.node.spill_policy import SpillPolicy
from handoff_actors.ids import PeerId, RunId, WorkerId
from handoff_actors.wire.messages.nested import Ancestor
from handoff_actors.wire.messages.runs import Closed, Stopped


class RunEndings:
    """Ends runs, and clears away what is left of them."""

    def __init__(
        self,
        clients: Clients,
        scheduler: WorkerScheduler,
        inputs: Inputs,
        spill_policy: SpillPolicy,
        nested: NestedRuns,
        kept: KeptValues,
    ) -> None:
        self._kept = kept
        self._clients = clients
        self._scheduler = scheduler
        self._inputs = inputs
        self._spill_policy = spill_policy
        self._nested = nested

    def close(self, peer: PeerId, run: RunId, now: float) -> list[NodeEffect]:
        """End a run for a client that has nothing more to do with it."""
        state = self._clients.get(run)
        if state is None:
            self._clients.remember_closed(peer, run)
            return [Reply(peer, Closed(run))]
        if self._clients.is_displaced(run, peer):
            self._clients.hand_over(run, peer)
        return self.end(run, now) if state.peer == peer else []

    def stop(self, peer: PeerId, run: RunId, now: float) -> list[NodeEffect]:
        """End the functions of a run, and keep its values."""
        state = self._clients.live(run)
        if state is None or state.peer != peer:
            # There is nothing to keep, or nothing that would be this peer's.
            return self.close(peer, run, now)
        self._inputs.drop_jobs(run)
        return self.end(run, now, keeps_values=True)

    def peer_gone(self, peer: PeerId, now: float, *, has_left: bool = False) -> list[NodeEffect]:
        """End all runs of a peer that is gone; `has_left`: it has said so."""
        self._nested.forget_peer(peer)
        ended = self._clients.leave(peer, has_left=has_left)
        dropped = self._kept.peer_gone(peer)
        return [*dropped, *(effect for run in ended for effect in self.end(run, now))]

    def end(self, run: RunId, now: float, *, keeps_values: bool = False) -> list[NodeEffect]:
        """End a run. What is left of it, but for values to keep, is cleared away once no worker holds any of its jobs."""
        if self._clients.is_ending(run):
            return []
        self._clients.close(run, keeps_values=keeps_values)
        self._nested.forget_run(run)
        self._scheduler.nested.discard(run)
        # A run that was stopped before has none.
        self._scheduler.templates.pop(run, None)
        effects = self._scheduler.stop_run(run, now)
        return [*effects, *self._end_nested(lambda parent: parent.run == run, now)]

    def attempts_on(self, worker: WorkerId) -> set[Ancestor]:
        """The attempts that a worker holds, while any of them may wait for a run."""
        if not self._scheduler.nested:
            return set()
        held = self._scheduler.roster.workers[worker].held
        return {Ancestor(run, index, job.job.attempt) for (run, index), job in held.items()}

    def end_nested(self, ended: Collection[Ancestor], now: float) -> list[NodeEffect]:
        """End the runs that these attempts have begun, as they have ended before them."""
        return self._end_nested(lambda parent: parent in ended, now) if ended else []

    def _end_nested(self, is_over: Callable[[Ancestor], bool], now: float) -> list[NodeEffect]:
        effects: list[NodeEffect] = []
        for run in sorted(self._scheduler.nested):
            state = self._clients.live(run)
            if state is not None and state.parent is not None and is_over(state.parent):
                effects += self.end(run, now)
        return effects

    def finish(self) -> list[NodeEffect]:
        """Clear away the runs that are over and have no job with a worker any more."""
        effects: list[NodeEffect] = []
        for run in list(self._clients.closing):
            if self._scheduler.roster.has(run):
                continue
            if self._clients.keeps_values(run):
                effects.append(Reply(self._clients.keep(run), Stopped(run)))
            else:
                self._inputs.forget(run)
                self._spill_policy.forget(run)
                effects += [ForgetRun(run), Reply(self._clients.remove(run), Closed(run))]
        return effects
