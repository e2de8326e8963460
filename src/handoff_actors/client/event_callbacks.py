"""Calls a user's `on_event`, which may be a coroutine function and may fail, without delaying or harming the run."""

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import Awaitable
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Final, Self

from handoff_actors import events
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of

log = logging.getLogger(__name__)

#: Events that may wait for an awaited `on_event`. Later ones are dropped and counted.
MOST_WAITING: Final = 65_536
#: Seconds that `on_event` has for waiting events after its run was cancelled.
GRACE_S: Final = 1.0


class EventCallback:
    """The `on_event` of one run. Use with `async with` around the run; call it with each event."""

    def __init__(self, on_event: events.OnEvent, dag_id: FunctionId) -> None:
        self._on_event = on_event
        self._dag_id = dag_id
        self._has_failed = False
        #: Awaitables that `on_event` has returned, in order.
        self._waiting: deque[Awaitable[Any]] = deque()
        self._dropped = 0
        self._changed = asyncio.Event()
        self._is_ending = False
        self._tasks = asyncio.TaskGroup()
        self._scope = AsyncExitStack()
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._scope.enter_async_context(self._tasks)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Return once `on_event` has had every event; after a cancellation, within a second."""
        self._is_ending = True
        self._changed.set()
        grace_s = GRACE_S if isinstance(error, asyncio.CancelledError) else None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    # Not with the run's error: the tasks are to end by themselves.
                    await self._scope.aclose()
        finally:
            for awaitable in self._waiting:
                if inspect.iscoroutine(awaitable):
                    awaitable.close()

    def __call__(self, event: events.RunEvent) -> None:
        """Pass on one event; drop it if too many wait."""
        if len(self._waiting) >= MOST_WAITING:
            self._dropped += 1
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._pass_on(events.EventsLost(dag_id=self._dag_id, time=time.time(), events=dropped))
        self._pass_on(event)

    def _pass_on(self, event: events.RunEvent) -> None:
        try:
            answer = self._on_event(event)
            awaitable = answer if inspect.isawaitable(answer) else None
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a user's code raises, the run goes on
            self._failed(error)
            return
        if awaitable is not None:
            self._waiting.append(awaitable)
            self._changed.set()
            if self._serving is None:
                self._serving = self._tasks.create_task(self._serve(), name="on_event")

    async def _serve(self) -> None:
        while not self._is_ending or self._waiting or self._dropped:
            if self._waiting:
                await self._await(self._waiting.popleft())
            elif self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._pass_on(events.EventsLost(dag_id=self._dag_id, time=time.time(), events=dropped))
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _await(self, awaitable: Awaitable[Any]) -> None:
        try:
            await awaitable
        except Exception as error:  # noqa: BLE001 - see above
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        if not self._has_failed:
            self._has_failed = True
            log.error(
                "on_event of the run of DAG %s has raised; further errors of it are not logged",
                repr_of(self._dag_id),
                exc_info=error,
            )


class EventObserver:
    """Calls what an integration watches a run with, which is not to harm the run either."""

    def __init__(self, observe: events.OnEvent, dag_id: FunctionId) -> None:
        self._observe = observe
        self._dag_id = dag_id
        self._has_failed = False

    def __call__(self, event: events.RunEvent) -> None:
        """Pass on one event."""
        try:
            self._observe(event)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            # Exporters and processors are users' code.
            if not self._has_failed:
                self._has_failed = True
                log.exception(
                    "an integration that watches the run of DAG %s has raised; further errors of it are not logged",
                    repr_of(self._dag_id),
                )
