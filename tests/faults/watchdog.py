"""Looks at every run of a session, again and again: no run may stand still without a reason."""

import asyncio
from collections.abc import Iterator

import handoff_actors as handoff
from handoff_actors.actors.app.runner import RunnerActor

LOOKS_EVERY_S = 0.1


class Watchdog:
    """Watches one session until it is closed; what it has found is in `complaints`."""

    def __init__(self, session: handoff.Session) -> None:
        self.complaints: list[str] = []
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._look()

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        for runner in self._session._hub.runs.all():
            self.complaints += complaints_about(runner)
        self._timer = self._loop.call_later(LOOKS_EVERY_S, self._look)


def complaints_about(runner: RunnerActor) -> Iterator[str]:
    machine = runner.machine
    if runner._finished.done() or machine._completion.outcome is not None or not runner.started_at:
        return
    entries = runner.explain()
    for entry in entries:
        has_reason = {
            "waiting": entry.waits_for,
            # Without nodes, the run waits for one that could run it, and not for ever.
            "ready": entry.nodes or machine.feasibility.wake_at is not None,
            "sent": entry.node,
            "resting": entry.attempts,
        }
        if not has_reason[entry.state]:
            yield f"nothing explains {entry}"
    if all(entry.state == "waiting" for entry in entries) and not machine._result_fetch.pending:
        yield f"nothing is ready, nothing runs, nothing is awaited: {entries}"
