"""Looks at the memory and CPU time of workers, and of the machine or container, while functions run and for a moment after.

Linux counts both; elsewhere nothing is seen.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

from handoff_actors.actors.driver import clock
from handoff_actors.actors.node.host.cgroups import count_group_kills, group_memory
from handoff_actors.core.node.events import WorkersSampled
from handoff_actors.core.node.scheduling.memory_guard import SHORT_SHARE
from handoff_actors.ids import WorkerId
from handoff_actors.workers.process_trees import orphans_of

PERIOD_S = 0.2
_KIBIBYTE = 1024
_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
#: In /proc/<pid>/stat, after the name: utime, stime, cutime, cstime.
_TIMES = slice(11, 15)
_PAGE_NBYTES = os.sysconf("SC_PAGE_SIZE")


class MemoryWatch:
    """Samples as long as there is something to look at, in a thread; each sample goes to `sampled`."""

    def __init__(
        self,
        pids: Mapping[WorkerId, int],
        is_needed: Callable[[], bool],
        sampled: Callable[[WorkersSampled], None],
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
        now, pids = clock(), dict(self._pids)
        looking = self._loop.run_in_executor(None, take_sample, now, pids, self._give_up)
        looking.add_done_callback(self._looked)

    def _looked(self, looking: "asyncio.Future[WorkersSampled]") -> None:
        self._is_on = False
        if self._is_closed or looking.cancelled():
            return
        sample = looking.result()
        self._was_short = _is_short(sample.available_nbytes, sample.total_nbytes)
        self._sampled(sample)
        if self._is_needed():
            self.wake()


def take_sample(now: float, pids: Mapping[WorkerId, int], give_up: Callable[[], object]) -> WorkersSampled:
    """Sample the memory of workers and machine; if the machine is short, free the reserve and sample again."""
    available, total = machine_memory()
    if _is_short(available, total):
        give_up()
        available, total = machine_memory()
    orphans = orphans_of(pids.values())
    families = {worker: family_usage(pid, orphans.get(pid, ())) for worker, pid in pids.items()}
    used = {worker: nbytes for worker, (nbytes, _) in families.items()}
    cpu_s = {worker: seconds for worker, (_, seconds) in families.items()}
    return WorkersSampled(now, used, available, total, cpu_s)


def family_usage(pid: int, orphans: Iterable[int] = ()) -> tuple[int, float]:
    """The memory of a process, its descendants and `orphans` of them that is not mapped from files or shared memory, and their CPU time.

    Time that threads have waited for a core counts, too: on a machine with too much to do they would have used it.
    """
    nbytes = ticks = waited_ns = 0
    pending = [str(pid), *map(str, orphans)]
    while pending:
        process = _PROC / pending.pop()
        # Processes end at any time.
        with suppress(OSError):
            _, resident, shared, *_ = (process / "statm").read_text().split()
            nbytes += (int(resident) - int(shared)) * _PAGE_NBYTES
            # After the name, which may have any characters: user and system time, and those of children that were waited for.
            after_name = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
            ticks += sum(map(int, after_name[_TIMES]))
            for thread in (process / "task").iterdir():
                pending += (thread / "children").read_text().split()
                waited_ns += _waited_ns(thread)
    return nbytes, ticks / _TICKS_PER_S + waited_ns / 1e9


def _waited_ns(thread: Path) -> int:
    # Some kernels don't count it.
    with suppress(FileNotFoundError):
        _, waited, _ = (thread / "schedstat").read_text().split()
        return int(waited)
    return 0


def machine_memory() -> tuple[int, int]:
    """Bytes of memory that can be had, and in all, by the limits of this process's container if it has some; (0, 0) where that can't be known."""
    with suppress(OSError):
        facts = dict(line.split(":", 1) for line in (_PROC / "meminfo").read_text().splitlines())
        available, total = (int(facts[name].split()[0]) * _KIBIBYTE for name in ("MemAvailable", "MemTotal"))
        group = group_memory()
        if group is None:
            return available, total
        return min(available, group.available_nbytes), min(total, group.total_nbytes)
    return 0, 0


def count_oom_kills() -> int:
    """The number of processes that the kernel has killed for want of memory: of this process's container, or else on the machine."""
    kills = count_group_kills()
    if kills is not None:
        return kills
    with suppress(OSError):
        for line in (_PROC / "vmstat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def _is_short(available_nbytes: int, total_nbytes: int) -> bool:
    return available_nbytes < SHORT_SHARE * total_nbytes
