"""Where an integration may look at every run of this process, and have its word in what is sent."""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from handoff_actors.events import OnEvent
from handoff_actors.graph.plan import Plan

if TYPE_CHECKING:
    from handoff_actors.actors.app.runner import RunnerActor


class RunInstrumentation:
    """One run being watched, from before anything is encoded until it has ended. This one sees nothing."""

    def __init__(self, plan: Plan) -> None:
        #: What is run: `plan`, or the same functions in the same order with other code or arguments.
        self.plan = plan
        #: Set once there is one, before the first event.
        self.runner: RunnerActor | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The run has ended, with this error or with none."""

    def observer(self, on_event: OnEvent | None) -> OnEvent | None:
        """Who is to be told of events; `on_event` is whom the caller wants to be."""
        return on_event


_watches: list[type[RunInstrumentation] | Callable[[Plan], RunInstrumentation]] = [RunInstrumentation]


def is_on() -> bool:
    """Whether anybody watches."""
    return len(_watches) > 1


def watch(plan: Plan) -> RunInstrumentation:
    """A watch over a run that is about to begin."""
    return _watches[-1](plan)


def watch_with(make: Callable[[Plan], RunInstrumentation] | None) -> None:
    """Have every run that begins from now on watched so; None: no more."""
    _watches[1:] = [] if make is None else [make]
