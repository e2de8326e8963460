"""The times at which each function of a run waited, ran and was heard of, on the run's own clock.

Known are the times at which a function's inputs were there, at which it was sent, and at which its end was heard: all on
the clock of the app. Nodes measure durations only, because their clocks may differ from the app's and from one another:
how long a function ran, and how long a value took to be brought in. So when a function began is an estimate. It began
no later than it was heard of, less the time that it ran; and since a worker runs one sync function at a time, those of
one worker are laid out one before the other, each as late as can be. An estimate is never too early, and too late by no
more than its result was on its way, or waited for others to be told of together.
"""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from handoff_actors.core.run.state import APP, Transfer
from handoff_actors.core.run.view import RunView
from handoff_actors.ids import Index
from handoff_actors.report.breakdown import Breakdown


class WorkerKey(NamedTuple):
    """One worker: its node's name and its process id."""

    node: str
    pid: int


class Timeline:
    """The times of every function that is done and was not reused, in seconds since the run began."""

    def __init__(self, view: RunView, began_at: float) -> None:
        plan = self.plan = view.plan
        self._view = view
        self._began_at = began_at
        size = plan.size
        #: Of each template, whether it is for functions that share a worker, and whether they claim anything.
        self._is_async = [template.is_async for template in plan.templates]
        self._claims = [bool(template.cost) for template in plan.templates]
        #: When its inputs were there, when it could be sent, and when it was: for the last time, where that was often.
        self.inputs_at = array("d", bytes(8 * size))
        self.ready_at = array("d", bytes(8 * size))
        self.sent_at = array("d", bytes(8 * size))
        self.started_at = array("d", bytes(8 * size))
        self.ended_at = array("d", bytes(8 * size))
        #: When the worker had ended what it ran before.
        self._free_at = array("d", bytes(8 * size))
        #: In the order in which they were heard of.
        self.indices = sorted(filter(self.has, range(size)), key=self._order)
        self.workers = self._group_by_worker()
        for worker in self.workers.values():
            self._lay_out(worker)
        self._ends_of_claims = self._group_ends_of_claims()
        for index in self.indices:
            self._note_moments(index)
        self.transfers = [self._on_our_clock(transfer) for transfer in view.transfers]
        self._arrivals: dict[tuple[str, Index], list[Transfer]] = {}
        for transfer in self.transfers:
            self._arrivals.setdefault((transfer.node, transfer.index), []).append(transfer)
        #: Inputs that are too large to travel with the functions.
        self._constants = sorted({transfer.index for transfer in self.transfers if transfer.index >= size})

    @property
    def duration_s(self) -> float:
        """The time until the last function was heard of and the last value was at home."""
        ends = [self.received_at(index) for index in self.indices[-1:]]
        ends += [transfer.ended_at for transfer in self.transfers if transfer.node == APP]
        return max(ends, default=0.0)

    def node_of(self, index: Index) -> str:
        """Name the node that the function ran on."""
        return self._view.node[index] or ""

    def has(self, index: Index) -> bool:
        """Tell whether the function is done and was not reused."""
        return self._view.is_done(index) and self._view.attempt[index] > 0

    def is_async(self, index: Index) -> bool:
        """Tell whether the function shared its worker with others."""
        return self._is_async[self.plan.template_of[index]]

    def received_at(self, index: Index) -> float:
        """Return the time at which the app knew that the function was done."""
        return self._view.finished_at[index] - self._began_at

    def last_producer(self, index: Index) -> Index | None:
        """Return the input that was done last."""
        return max(self.plan.producers[index], key=self._order, default=None)

    def arrivals(self, index: Index) -> list[Transfer]:
        """List the transfers of a function's inputs that went on while it waited at its node."""
        if not self._arrivals:
            return []
        sent_at, started_at, node = self.sent_at[index], self.started_at[index], self.node_of(index)
        wanted = [*self.plan.producers[index], *(self._constants if self._takes_constants(index) else ())]
        return [
            transfer
            for producer in wanted
            for transfer in self._arrivals.get((node, producer), ())
            # News of a transfer may have been longer on its way than news of the function: its end seems too late then.
            if sent_at < transfer.ended_at and transfer.began_at < started_at
        ]

    def breakdown(self, index: Index) -> Breakdown:
        """Divide a function's time, from the beginning of the run until it was heard of."""
        started_at, ended_at = self.started_at[index], self.ended_at[index]
        inputs_at, ready_at, sent_at = self.inputs_at[index], self.ready_at[index], self.sent_at[index]
        arrivals = self.arrivals(index)
        arrived_at = min(max((transfer.ended_at for transfer in arrivals), default=sent_at), started_at)
        moved_since = max(sent_at, min((transfer.began_at for transfer in arrivals), default=arrived_at))
        free_at = min(max(arrived_at, self._has_room_at(index)), started_at)
        again_s = ready_at - inputs_at
        first_s = 0.0 if self._view.attempt[index] > 1 else again_s
        return Breakdown(
            inputs_s=inputs_at,
            retries_s=again_s - first_s,
            resources_s=(sent_at - ready_at) + (free_at - arrived_at),
            moving_s=arrived_at - moved_since,
            overhead_s=first_s
            + (moved_since - sent_at)
            + (started_at - free_at)
            + (self.received_at(index) - ended_at),
            ran_s=ended_at - started_at,
        )

    def _takes_constants(self, index: Index) -> bool:
        # The constants that a function takes are not known here; few functions take any, and there are few of them.
        specs = self.plan.args[index]
        return self.plan.constants_of[index] >= 0 or any(isinstance(spec, int) and spec < 0 for spec in specs)

    # --- Laying out ---------------------------------------------------------------------------------------------

    def _order(self, index: Index) -> tuple[float, float, int, Index]:
        view = self._view
        # Functions whose ends are received at once are ordered by when they were sent, then by which takes from which.
        return (
            view.finished_at[index],
            view.sent_at[index],
            -self.plan.bottom_level[index],
            index,
        )

    def _group_by_worker(self) -> dict[WorkerKey, list[Index]]:
        workers: dict[WorkerKey, list[Index]] = {}
        for index in self.indices:
            key = WorkerKey(self.node_of(index), self._view.worker[index])
            workers.setdefault(key, []).append(index)
        return dict(sorted(workers.items()))

    def _lay_out(self, worker: Sequence[Index]) -> None:
        """Place the functions of one worker, from the last to the first."""
        next_at = float("inf")
        later: Index | None = None
        for index in reversed(worker):
            ended_at = self.received_at(index)
            if not self.is_async(index):
                ended_at = min(ended_at, next_at)
            self.ended_at[index] = ended_at
            # Nothing runs before the run, whatever a node says.
            self.started_at[index] = next_at = max(0.0, ended_at - self._view.ran_s[index])
            if later is not None and not self.is_async(later):
                self._free_at[later] = ended_at
            later = index

    def _group_ends_of_claims(self) -> dict[str, list[float]]:
        ends: dict[str, list[float]] = {}
        for index in self.indices:
            if self._claims[self.plan.template_of[index]]:
                ends.setdefault(self.node_of(index), []).append(self.ended_at[index])
        return {node: sorted(times) for node, times in ends.items()}

    def _has_room_at(self, index: Index) -> float:
        """Return the time at which the worker was free and, for a function that claims something, a claim on its node had ended."""
        room_at = self._free_at[index]
        if self._claims[self.plan.template_of[index]]:
            ends = self._ends_of_claims[self.node_of(index)]
            before = bisect_right(ends, self.started_at[index])
            room_at = max(room_at, ends[before - 1] if before else 0.0)
        return room_at

    def _note_moments(self, index: Index) -> None:
        """Note when a function's inputs were there, when it could be sent for the last time, and when it was.

        Each is no earlier than the one before, and no later than its beginning: functions that travel together are ready
        when the one before them is heard of, which is when all of them have ended.
        """
        view, began_at, latest = self._view, self._began_at, self.started_at[index]
        inputs_at = 0.0
        for producer in self.plan.producers[index]:
            inputs_at = max(inputs_at, view.finished_at[producer] - began_at)
        self.inputs_at[index] = inputs_at = min(inputs_at, latest)
        ready_at = min(max(view.ready_at[index] - began_at, inputs_at), latest)
        self.ready_at[index] = ready_at
        self.sent_at[index] = min(max(view.sent_at[index] - began_at, ready_at), latest)

    def _on_our_clock(self, transfer: Transfer) -> Transfer:
        ended_at = max(0.0, transfer.ended_at - self._began_at)
        began_at = min(max(0.0, transfer.began_at - self._began_at), ended_at)
        return Transfer(transfer.index, transfer.node, transfer.nbytes, began_at, ended_at)
