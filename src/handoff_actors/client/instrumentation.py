"""The place where an integration watches every run of this process, and may change the plan that is sent."""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from handoff_actors.events import OnEvent
from handoff_actors.graph.plan import Plan

if TYPE_CHECKING:
    from handoff_actors.actors.app.runner import RunnerActor


class RunInstrumentation:
    """A watch over one run, from before anything is encoded until the run has ended. This one does nothing."""

    def __init__(self, plan: Plan) -> None:
        #: The plan to run: `plan`, or the same functions in the same order with other code or arguments.
        self.plan = plan
        #: The runner; set before the first event.
        self.runner: RunnerActor | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note the end of the run, with this error or with none."""

    def observer(self, on_event: OnEvent | None) -> OnEvent | None:
        """Return the callback for events. `on_event` is the caller's, to be called in turn."""
        return on_event


_watches: list[type[RunInstrumentation] | Callable[[Plan], RunInstrumentation]] = [RunInstrumentation]


def is_on() -> bool:
    """True if any integration watches."""
    return len(_watches) > 1


def watch(plan: Plan) -> RunInstrumentation:
    """Return a watch over a run that is about to begin."""
    return _watches[-1](plan)


def watch_with(make: Callable[[Plan], RunInstrumentation] | None) -> None:
    """Have every run that begins from now on watched by what `make` returns; None: no more."""
    _watches[1:] = [] if make is None else [make]
