"""The times at which each function of a run waited, ran and was heard of, on the run's own clock.

Known are the times at which a function's inputs were there, at which it was sent, and at which its end was heard: all on
the clock of the app. Nodes measure durations only, because their clocks may differ from the app's and from one another:
how long a function ran, and how long a value took to be brought in. So when a function began and ended are estimates. It
ended no later than it was heard of, and began no later than that, less the time that it ran; and since a worker runs one
sync function at a time, those of one worker are laid out one before the other, each as late as can be. An estimate is
never too early, and too late by no more than the function's result was on its way, or waited for others to be told of
together.

So no function begins before those have ended whose results it takes, whatever clocks do: it was sent when they had been
heard of, unless it went along with them to one worker. A value is brought in between the two in the same way.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from handoff_actors.core.run.facts.state import APP, Transfer
from handoff_actors.ids import FunctionId, Index
from handoff_actors.report.breakdown import Breakdown
from handoff_actors.report.facts import RunFacts

_NONE: Final[Mapping[Index, Index]] = MappingProxyType({})


class WorkerKey(NamedTuple):
    """One worker: its node's name and its process id."""

    node: str
    pid: int


class Timeline:
    """The times of every function that is done and was not reused, in seconds since the run began."""

    def __init__(self, view: RunFacts, began_at: float, added_by: Mapping[Index, Index] = _NONE) -> None:
        plan = self.plan = view.plan
        self._view = view
        self._began_at = began_at
        #: Functions that were added by others, each with the one that has returned the graph that it is in, if that is known.
        self.added_by = added_by
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
        self.indices = in_order(view, filter(self.has, range(size)))
        self.workers = self._group_by_worker()
        for worker in self.workers.values():
            self._lay_out(worker)
        self._ends_of_claims = self._group_ends_of_claims()
        for index in self.indices:
            self._note_moments(index)
        #: The transfers of each value to each node.
        self._arrivals = self._group_transfers()
        for (node, index), transfers in self._arrivals.items():
            self._place_transfers(node, index, transfers)
        self.transfers = [transfer for transfers in self._arrivals.values() for transfer in transfers]
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

    def added_at(self, index: Index) -> float:
        """Return the time at which the run was given the function; 0.0 for one that it has begun with."""
        return max(0.0, self._view.added_at[index] - self._began_at)

    def parent(self, index: Index) -> FunctionId | None:
        """Return the id of the function that has added this one; None for those of the app."""
        return self._view.parent(index)

    def has(self, index: Index) -> bool:
        """Tell whether the function is done and was not reused."""
        return self._view.is_done(index) and self._view.tries(index) > 0

    def is_async(self, index: Index) -> bool:
        """Tell whether the function shared its worker with others."""
        return self._is_async[self.plan.template_of[index]]

    def received_at(self, index: Index) -> float:
        """Return the time at which the app knew that the function was done."""
        return self._view.finished_at[index] - self._began_at

    def last_producer(self, index: Index) -> Index | None:
        """Return the input that was made last, or the function that has added this one, which had to end before, too."""
        return max(self._before(index), key=self._made_at, default=None)

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
            if sent_at < transfer.ended_at and transfer.began_at < started_at
        ]

    def breakdown(self, index: Index) -> Breakdown:
        """Divide a function's time, from when it was added, or else from the beginning of the run, until it ended."""
        started_at, ended_at = self.started_at[index], self.ended_at[index]
        inputs_at, ready_at, sent_at = self.inputs_at[index], self.ready_at[index], self.sent_at[index]
        arrivals = self.arrivals(index)
        arrived_at = min(max((transfer.ended_at for transfer in arrivals), default=sent_at), started_at)
        moved_since = max(sent_at, min((transfer.began_at for transfer in arrivals), default=arrived_at))
        free_at = min(max(arrived_at, self._has_room_at(index)), started_at)
        heard_at = min(max(self._inputs_heard_at(index), inputs_at), ready_at)
        again_s = ready_at - heard_at
        first_s = 0.0 if self._view.tries(index) > 1 else again_s
        return Breakdown(
            inputs_s=max(0.0, inputs_at - self.added_at(index)),
            retries_s=again_s - first_s,
            resources_s=(sent_at - ready_at) + (free_at - arrived_at),
            moving_s=arrived_at - moved_since,
            overhead_s=(heard_at - inputs_at) + first_s + (moved_since - sent_at) + (started_at - free_at),
            ran_s=ended_at - started_at,
        )

    def _takes_constants(self, index: Index) -> bool:
        # The constants that a function takes are not known here; few functions take any, and there are few of them.
        specs = self.plan.args[index]
        return self.plan.constants_of[index] >= 0 or any(isinstance(spec, int) and spec < 0 for spec in specs)

    # --- Laying out ---------------------------------------------------------------------------------------------

    def _made_at(self, index: Index) -> float:
        return self.ended_at[index] if self.has(index) else max(0.0, self.received_at(index))

    def _inputs_heard_at(self, index: Index) -> float:
        return max((self.received_at(producer) for producer in self._before(index)), default=0.0)

    def _before(self, index: Index) -> Sequence[Index]:
        """List the functions that had to end before this one could run."""
        producers, adder = self.plan.producers[index], self.added_by.get(index)
        return producers if adder is None else (*producers, adder)

    def _inputs_made_at(self, index: Index) -> float:
        added_at = self.added_at(index)
        if self._view.forgets and not self.plan.producers[index] and self._view.tries(index) <= 1:
            # What it has taken, if anything, is not known any more.
            return max(self._view.ready_at[index] - self._began_at, added_at)
        made_at = max(map(self._made_at, self._before(index)), default=added_at)
        return made_at if index in self.added_by else max(made_at, added_at)

    def _group_by_worker(self) -> dict[WorkerKey, list[Index]]:
        workers: dict[WorkerKey, list[Index]] = {}
        for index in self.indices:
            key = WorkerKey(self.node_of(index), self._view.worker[index])
            workers.setdefault(key, []).append(index)
        return dict(sorted(workers.items()))

    def _lay_out(self, worker: Sequence[Index]) -> None:
        later: Index | None = None
        for index, started_at, ended_at in laid_out(self._view, worker):
            self.started_at[index] = max(0.0, started_at - self._began_at)
            self.ended_at[index] = max(0.0, ended_at - self._began_at)
            if later is not None and not self.is_async(later):
                self._free_at[later] = self.ended_at[index]
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
        inputs_at = self._inputs_made_at(index)
        # The result of an input that has run again since may have been an earlier one.
        self.inputs_at[index] = inputs_at = min(inputs_at, latest)
        ready_at = min(max(view.ready_at[index] - began_at, inputs_at), latest)
        self.ready_at[index] = ready_at
        self.sent_at[index] = min(max(view.sent_at[index] - began_at, ready_at), latest)

    def _group_transfers(self) -> dict[tuple[str, Index], list[Transfer]]:
        groups: dict[tuple[str, Index], list[Transfer]] = {}
        for transfer in self._view.transfers:
            groups.setdefault((transfer.node, transfer.index), []).append(transfer)
        return groups

    def _place_transfers(self, node: str, index: Index, transfers: list[Transfer]) -> None:
        """Put transfers of a value to a node on the run's clock: after it was made, the first before it was taken.

        News of a transfer may have been longer on its way than news of the function that took the value.
        """
        is_result = index < self.plan.size
        made_at = self._made_at(index) if is_result else 0.0
        first_taken_at = min(
            (self.started_at[taker] for taker in self._takers(index, node)) if is_result else (),
            default=float("inf"),
        )
        for place, transfer in enumerate(transfers):
            took_s = transfer.ended_at - transfer.began_at
            ended_at = max(0.0, transfer.ended_at - self._began_at)
            if place == 0:
                ended_at = min(ended_at, first_taken_at)
            began_at = min(max(0.0, made_at, ended_at - took_s), ended_at)
            transfers[place] = Transfer(index, node, transfer.nbytes, began_at, ended_at)

    def _takers(self, index: Index, node: str) -> Iterator[Index]:
        """List the functions that took a result of another node's on this one."""
        if self.node_of(index) != node:
            takers = self.plan.dependents[index]
            yield from (taker for taker in takers if self.has(taker) and self.node_of(taker) == node)


def in_order(view: RunFacts, indices: Iterable[Index]) -> list[Index]:
    """Sort functions by when their ends were heard; those heard of at once by when they were sent, inputs first."""
    levels = view.plan.bottom_level
    return sorted(
        indices, key=lambda index: (view.finished_at[index], view.sent_at[index], -levels[index], index)
    )


def laid_out(view: RunFacts, worker: Sequence[Index]) -> Iterator[tuple[Index, float, float]]:
    """Place functions of one worker, in order, on the app's clock: yield when each began and ended, from the last one.

    None begins before it was sent, whatever its node says.
    """
    plan, next_at = view.plan, float("inf")
    for index in reversed(worker):
        sent_at, ended_at = view.sent_at[index], view.finished_at[index]
        if not plan.templates[plan.template_of[index]].is_async:
            ended_at = min(ended_at, next_at)
        ended_at = max(ended_at, sent_at)
        started_at = max(sent_at, ended_at - view.ran_s[index])
        next_at = min(next_at, started_at)
        yield index, started_at, ended_at
