"""Processes that coroutines start through asyncio: their worker, which other coroutines share, does not end with them."""

import asyncio
from collections.abc import Callable
from typing import Any

import uvloop

from handoff_actors.workers.process_trees import end_family
from handoff_actors.workers.protocol import JobKey


class Subprocesses:
    """The processes that each job has started, as far as they run."""

    def __init__(self, running_job: Callable[[], JobKey | None]) -> None:
        self._running_job = running_job
        self._by_job: dict[JobKey, list[asyncio.SubprocessTransport]] = {}

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Make a loop whose processes are taken note of."""
        return _Loop(self._started)

    def job_ended(self, key: JobKey, *, was_cancelled: bool) -> None:
        """Kill what a job that was cancelled has started, with all that descends from it.

        What other jobs have left running ends with their worker.
        """
        for process in self._by_job.pop(key, ()):
            pid = process.get_pid()
            if was_cancelled and pid is not None and process.get_returncode() is None:
                end_family(pid)

    def _started(self, process: asyncio.SubprocessTransport) -> None:
        key = self._running_job()
        if key is not None:
            self._by_job.setdefault(key, []).append(process)


class _Loop(uvloop.Loop):
    def __init__(self, started: Callable[[asyncio.SubprocessTransport], None]) -> None:
        super().__init__()
        self._started = started

    async def subprocess_exec(self, *args: Any, **options: Any) -> Any:
        """See asyncio."""
        return self._noted(await super().subprocess_exec(*args, **options))

    async def subprocess_shell(self, *args: Any, **options: Any) -> Any:
        """See asyncio."""
        return self._noted(await super().subprocess_shell(*args, **options))

    def _noted(self, made: Any) -> Any:
        transport, _protocol = made
        self._started(transport)
        return made
