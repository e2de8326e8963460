"""The display of one run to the user of an app: progress, and what its functions print."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from handoff_actors.actors.app.runner import RunnerActor
from handoff_actors.display.display import display
from handoff_actors.display.options import DisplayOptions
from handoff_actors.display.printing import OutputPrinter
from handoff_actors.display.progress import ProgressDisplay
from handoff_actors.display.reports import ReportListener
from handoff_actors.display.snapshot import ProgressView
from handoff_actors.events import RunEvent
from handoff_actors.wire.messages.members import Advert

#: At its end a run waits so long for what it has printed to be written. Who reads nothing is not waited for again.
WRITTEN_WITHIN_S: Final = 2.0


class RunDisplay:
    """Use with `async with` around the run."""

    def __init__(
        self,
        runner: RunnerActor,
        seen: DisplayOptions,
        tell: Callable[[RunEvent], object] | None,
        adverts: Callable[[], Iterable[Advert]],
        *,
        reused: int,
    ) -> None:
        """Have `adverts` of the nodes; so many functions are `reused`."""
        self._printing = OutputPrinter(runner.plan, tell, is_raw=seen.output == "raw")
        listener = ReportListener(runner.view, tell, None if seen.output is False else self._printing)
        runner.printing = listener
        self._runner = runner
        self._progress = ProgressDisplay(
            lambda began_at: ProgressView(runner, adverts, listener.running, began_at, reused), seen.progress
        )

    async def __aenter__(self) -> Self:
        self._progress.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the last line and all output before the app writes anything."""
        outcome = "done" if error is None else "failed"
        if isinstance(error, asyncio.CancelledError):
            outcome = "cancelled"
        is_shown = self._progress.end(outcome)
        # The run may be referred to for long, and with this to what its caller's context holds.
        self._runner.printing = None
        if (is_shown or self._printing.has_written) and not display.is_idle:
            await until_written()


async def until_written() -> None:
    """Return once what was to be written so far has been, within limits."""
    loop = asyncio.get_running_loop()
    written = loop.create_future()

    def tell() -> None:
        display.is_stuck = False
        # By then the loop may have been closed.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_set, written)

    display.write(tell, 0)
    if display.is_stuck:
        return
    try:
        async with asyncio.timeout(WRITTEN_WITHIN_S):
            await written
    except TimeoutError:
        display.is_stuck = True


def _set(written: "asyncio.Future[None]") -> None:
    if not written.done():
        written.set_result(None)
