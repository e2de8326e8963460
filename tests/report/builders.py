"""Runs that went exactly so."""

from dataclasses import dataclass
from typing import Any

from handoff_actors.core.run.facts.normal_path import set_done, set_ready, set_sent
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.view import RunView
from handoff_actors.graph import Function, Plan
from handoff_actors.report.report import Report
from handoff_actors.wire.messages.jobs import Done
from tests.core.builders import run_of

#: When the run began, on the clock of the app.
BEGAN_AT = 1000.0


def code(*args: object) -> None: ...


async def async_code(*args: object) -> None: ...


@dataclass
class Past:
    """Functions that went as they are told to have gone. Times are seconds since the run began."""

    plan: Plan
    state: RunState
    view: RunView

    @classmethod
    def of(cls, *functions: Function) -> "Past":
        run = run_of(*functions)
        return cls(run.view.plan, run.state, run.view)

    def went(
        self,
        name: str,
        *,
        ready: float,
        sent: float,
        received: float,
        ran: float,
        node: str = "n",
        worker: int = 1,
        value: bytes | int = b"v",
    ) -> "Past":
        index = self.plan.index_of[name]
        set_ready(self.state, [index], BEGAN_AT + ready)
        set_sent(self.state, [index], node, BEGAN_AT + sent)
        done = Done(index, self.state.attempt[index], value, worker, ran)
        set_done(self.state, self.plan, [done], node, BEGAN_AT + received)
        return self

    @property
    def report(self) -> Report:
        return Report(self.view, BEGAN_AT)


def function(name: str, args: list[str] | None = None, **options: Any) -> Function:
    return Function(name, args or [], options.pop("code", code), **options)
