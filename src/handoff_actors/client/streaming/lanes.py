"""The workers of a stream's stages: each is a function of an open run that goes on for as long as the stream does."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from handoff_actors.actors.app.stage_specs import stage_call
from handoff_actors.client.growing.open_run import OpenRun
from handoff_actors.client.growing.run_handle import RunHandle
from handoff_actors.core.stream.events import Vertex
from handoff_actors.errors import HandoffError
from handoff_actors.graph.argument import Collocated, Constant
from handoff_actors.graph.function import Function
from handoff_actors.graph.stream_plan import StreamPlan
from handoff_actors.ids import FunctionId
from handoff_actors.workers.child.stage.run import run_stage

#: Called once with the error of a worker that has ended, or None if it has ended well.
Ended = Callable[[HandoffError | None], None]


class Lanes:
    """Starts and stops the workers of one stream. See StageLanes."""

    def __init__(self, plan: StreamPlan, run: OpenRun) -> None:
        self._plan = plan
        self._run = run
        self._loop = asyncio.get_running_loop()
        #: Those that have not ended, by stage and lane.
        self._handles: dict[tuple[Vertex, int], RunHandle[Any]] = {}
        self._starts: dict[tuple[Vertex, int], int] = {}
        #: The ids of their functions.
        self.ids: dict[tuple[Vertex, int], FunctionId] = {}

    def going(self) -> set[tuple[Vertex, int]]:
        """The workers that have not ended, by stage and lane."""
        return set(self._handles)

    def start(self, stage: Vertex, lane: int, ended: Ended) -> None:
        """See StageLanes."""
        try:
            handle = self._call(stage, lane)
        except HandoffError as error:
            # The run is over, or refuses the function: the machine must hear of it after what it does now.
            self._loop.call_soon(ended, error)
            return
        self._handles[stage, lane] = handle
        self.ids[stage, lane] = handle.id
        handle.add_done_callback(partial(self._ended, stage, lane, ended))

    def _call(self, stage: Vertex, lane: int) -> RunHandle[Any]:
        function = self._plan.vertices[stage].function
        spec, extra_args, kwargs = stage_call(self._plan, stage, lane)
        options: dict[str, Any] = {
            "id": self._new_id(stage, lane),
            "kwargs": kwargs,
            "cost": function.cost,
            "node": self._node(function),
            "priority": function.priority,
            "env_vars": function.env_vars,
            "working_dir": function.working_dir,
            "max_retries": 0,
        }
        return self._run.call_with(run_stage, (Constant(spec), *extra_args), options)

    def _new_id(self, stage: Vertex, lane: int) -> FunctionId:
        """The stage's own id for its first worker: errors have it."""
        starts = self._starts[stage, lane] = self._starts.get((stage, lane), 0) + 1
        function_id = self._plan.vertices[stage].function.id
        if lane == 0 and starts == 1:
            return function_id
        again = "" if starts == 1 else f", start {starts}"
        return f"{function_id}, worker {lane}{again}"

    def _node(self, function: Function) -> str | None:
        node = function.node
        return None if isinstance(node, Collocated) else node

    def _ended(self, stage: Vertex, lane: int, ended: Ended, handle: RunHandle[Any]) -> None:
        if self._handles.get((stage, lane)) is handle:
            del self._handles[stage, lane]
        # One that was stopped has ended as it was to.
        ended(None if handle.cancelled() else handle.exception())

    def stop(self, stage: Vertex, lane: int) -> None:
        """See StageLanes."""
        handle = self._handles.get((stage, lane))
        if handle is not None:
            handle.cancel()
