"""A run that has begun, as what adds functions to it sees it."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from handoff_actors.actors.app.encoding import Encoded
from handoff_actors.actors.app.runner import RunnerActor
from handoff_actors.client.nested_wait import FunctionWait
from handoff_actors.core.run.facts.resumption import FoundResults
from handoff_actors.graph.plan import Plan

if TYPE_CHECKING:
    import asyncio

    from handoff_actors.client.run import Run


class GoingRun(Struct, frozen=True):
    """A run that has begun and takes functions."""

    runner: RunnerActor
    #: Encodes the plan of further functions, and finds out which need not run.
    encode: Callable[[Plan], Coroutine[Any, Any, tuple[Encoded, FoundResults]]]
    #: Ends with the run.
    task: "asyncio.Task[Run]"
    #: The wait of the function that has begun it, if it is within one: as long as some function of the run has yet to end.
    wait: FunctionWait
