"""Looks at the memory of workers and of the machine while functions run. Linux counts it; elsewhere nothing is seen."""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

from handoff_actors.core.node.events import MemorySampled
from handoff_actors.core.node.memory_guard import SHORT_SHARE
from handoff_actors.ids import WorkerId

PERIOD_S = 0.2
_KIBIBYTE = 1024
_PROC = Path("/proc")
_PAGE_NBYTES = os.sysconf("SC_PAGE_SIZE")


class MemoryWatch:
    """Samples as long as there is something to look at, in a thread; each sample goes to `sampled`."""

    def __init__(
        self,
        pids: Mapping[WorkerId, int],
        is_needed: Callable[[], bool],
        sampled: Callable[[MemorySampled], None],
        give_up: Callable[[], object],
    ) -> None:
        """`give_up` frees what is kept in reserve when the machine runs short; it is called in a thread."""
        self._pids = pids
        self._is_needed = is_needed
        self._sampled = sampled
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._is_on = False
        self._is_closed = False
        self._oom_kills = count_oom_kills()
        self._was_short = False

    def wake(self) -> None:
        """There is something to look at."""
        if not self._is_on and not self._is_closed:
            self._is_on = True
            self._timer = self._loop.call_later(PERIOD_S, self._look)

    def close(self) -> None:
        """Look no more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def was_short(self, signal: int | None) -> bool:
        """True if the machine was short of memory lately. `signal` is the one that has just ended a worker."""
        oom_kills, self._oom_kills = self._oom_kills, count_oom_kills()
        was_killed = signal == SIGKILL and self._oom_kills > oom_kills
        return was_killed or self._was_short or _is_short(*machine_memory())

    def _look(self) -> None:
        now, pids = self._loop.time(), dict(self._pids)
        looking = self._loop.run_in_executor(None, take_sample, now, pids, self._give_up)
        looking.add_done_callback(self._looked)

    def _looked(self, looking: "asyncio.Future[MemorySampled]") -> None:
        self._is_on = False
        if self._is_closed or looking.cancelled():
            return
        sample = looking.result()
        self._was_short = _is_short(sample.available_nbytes, sample.total_nbytes)
        self._sampled(sample)
        if self._is_needed():
            self.wake()


def take_sample(now: float, pids: Mapping[WorkerId, int], give_up: Callable[[], object]) -> MemorySampled:
    """Sample the memory of workers and machine; if the machine is short, free the reserve and sample again."""
    available, total = machine_memory()
    if _is_short(available, total):
        give_up()
        available, total = machine_memory()
    used = {worker: family_nbytes(pid) for worker, pid in pids.items()}
    return MemorySampled(now, used, available, total)


def family_nbytes(pid: int) -> int:
    """The memory of a process and its descendants that is not mapped from files or shared memory."""
    nbytes = 0
    pending = [str(pid)]
    while pending:
        process = _PROC / pending.pop()
        # Processes end at any time.
        with suppress(OSError):
            _, resident, shared, *_ = (process / "statm").read_text().split()
            nbytes += (int(resident) - int(shared)) * _PAGE_NBYTES
            for thread in (process / "task").iterdir():
                pending += (thread / "children").read_text().split()
    return nbytes


def machine_memory() -> tuple[int, int]:
    """Bytes of memory that can be had, and in all; (0, 0) where that can't be known."""
    with suppress(OSError):
        facts = dict(line.split(":", 1) for line in (_PROC / "meminfo").read_text().splitlines())
        available, total = (int(facts[name].split()[0]) * _KIBIBYTE for name in ("MemAvailable", "MemTotal"))
        return available, total
    return 0, 0


def count_oom_kills() -> int:
    """The number of processes that the kernel has killed for want of memory since it booted."""
    with suppress(OSError):
        for line in (_PROC / "vmstat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def _is_short(available_nbytes: int, total_nbytes: int) -> bool:
    return available_nbytes < SHORT_SHARE * total_nbytes
