"""The workers of a stream's stages: each is a function of an open run that goes on for as long as the stream does."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from handoff_actors.actors.app.stage_specs import stage_call
from handoff_actors.client.growing.open_run import OpenRun
from handoff_actors.client.growing.run_handle import RunHandle
from handoff_actors.core.stream.events import Vertex
from handoff_actors.errors import HandoffError
from handoff_actors.graph.argument import Collocated, Constant, collocated
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.streams.stream_plan import StreamPlan
from handoff_actors.graph.validation import collocation_roots
from handoff_actors.ids import FunctionId
from handoff_actors.workers.child.stage.run import run_stage

#: Called once with the error of a worker that has ended, or None if it has ended well.
Ended = Callable[[HandoffError | None], None]


class _Start(Struct, frozen=True):
    stage: Vertex
    lane: int
    ended: Ended


class Lanes:
    """Starts and stops the workers of one stream. See StageLanes.

    Those that are there at the beginning are added to the run together, so that it can place some beside others.
    """

    def __init__(self, plan: StreamPlan, run: OpenRun) -> None:
        self._plan = plan
        self._run = run
        self._loop = asyncio.get_running_loop()
        #: Those that are to be started together; None: the first ones have been.
        self._first: list[_Start] | None = []
        #: Those that have not ended, by stage and lane.
        self._handles: dict[tuple[Vertex, int], RunHandle[Any]] = {}
        self._starts: dict[tuple[Vertex, int], int] = {}
        #: The ids of their functions.
        self.ids: dict[tuple[Vertex, int], FunctionId] = {}
        #: The nodes of those that are up.
        self._nodes: dict[tuple[Vertex, int], str] = {}
        self._number_of = {vertex.function.id: vertex.number for vertex in plan.vertices}
        #: By function that is collocated: the one beside which it is placed in the end.
        self._root_of = collocation_roots({vertex.function.id: vertex.function for vertex in plan.vertices})

    def begin(self) -> set[tuple[Vertex, int]]:
        """Start the workers that have been asked for so far. Returns their stages and lanes."""
        first, self._first = self._first or [], None
        self._add(first, is_first=True)
        return {(start.stage, start.lane) for start in first}

    def start(self, stage: Vertex, lane: int, ended: Ended) -> None:
        """See StageLanes."""
        start = _Start(stage, lane, ended)
        if self._first is None:
            self._add([start])
        else:
            self._first.append(start)

    def up(self, stage: Vertex, lane: int, node: str) -> None:
        """Take note of where a worker is."""
        self._nodes[stage, lane] = node

    def are_elsewhere(self, nodes: Collection[str]) -> bool:
        """True if a worker was last on none of these nodes."""
        return any(node not in nodes for node in self._nodes.values())

    def stop(self, stage: Vertex, lane: int) -> None:
        """See StageLanes."""
        handle = self._handles.get((stage, lane))
        if handle is not None:
            handle.cancel()

    def _add(self, starts: Sequence[_Start], *, is_first: bool = False) -> None:
        try:
            dag = DAG()
            for start in starts:
                self.ids[start.stage, start.lane] = self._new_id(start.stage, start.lane)
            for start in starts:
                self._call(dag, start, is_first=is_first)
            handles = self._run.add(dag)
        except HandoffError as error:
            # The run is over, or refuses a function: the machine must hear of it after what it does now.
            for start in starts:
                self._loop.call_soon(start.ended, error)
            return
        for start in starts:
            key = start.stage, start.lane
            handle = self._handles[key] = handles[self.ids[key]]
            handle.add_done_callback(partial(self._ended, key, start.ended))

    def _call(self, dag: DAG, start: _Start, *, is_first: bool) -> None:
        stage, lane = start.stage, start.lane
        function = self._plan.vertices[stage].function
        spec, extra_args, kwargs = stage_call(self._plan, stage, lane)
        options: dict[str, Any] = {
            "id": self.ids[stage, lane],
            "kwargs": kwargs,
            "cost": function.cost,
            "node": self._place(stage, is_first=is_first),
            "priority": function.priority,
            "env_vars": function.env_vars,
            "working_dir": function.working_dir,
            "max_retries": 0,
        }
        dag.call(run_stage, Constant(spec), *extra_args, **options)

    def _new_id(self, stage: Vertex, lane: int) -> FunctionId:
        """The stage's own id for its first worker: errors have it."""
        starts = self._starts[stage, lane] = self._starts.get((stage, lane), 0) + 1
        function_id = self._plan.vertices[stage].function.id
        if lane == 0 and starts == 1:
            return function_id
        again = "" if starts == 1 else f", start {starts}"
        return f"{function_id}, worker {lane}{again}"

    def _place(self, stage: Vertex, *, is_first: bool) -> str | Collocated | None:
        function = self._plan.vertices[stage].function
        root = self._root_of.get(function.id, function.id)
        if is_first:
            return collocated(self.ids[self._number_of[root], 0]) if root != function.id else function.node
        if isinstance(function.node, str):
            return function.node
        # It comes later than the others, which have a node already.
        beside = (key for key in self._handles if self._is_beside(key[0], root))
        return next((self._nodes[key] for key in beside if key in self._nodes), None)

    def _is_beside(self, stage: Vertex, root: FunctionId) -> bool:
        function_id = self._plan.vertices[stage].function.id
        return self._root_of.get(function_id, function_id) == root and root in self._root_of.values()

    def _ended(self, key: tuple[Vertex, int], ended: Ended, handle: RunHandle[Any]) -> None:
        if self._handles.get(key) is handle:
            del self._handles[key]
            self._nodes.pop(key, None)
        # One that was stopped has ended as it was to.
        ended(None if handle.cancelled() else handle.exception())
