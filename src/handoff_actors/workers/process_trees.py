"""Processes that functions have started, however far these have gone from their worker.

A process leaves its worker's group by starting a session, and its family when its parent ends, as daemons do. Its resource
limits go with it all the same: through forks, programs, sessions and changes of user. So each worker has a number of its own,
its tag, as its limit of file locks (RLIMIT_LOCKS), which has had no effect since Linux 2.4.25, and by which everything that
comes from the worker is known.

Rejected: a worker that adopts orphans would see processes in `os.wait` that its function has not started, and would have to
reap them; another process beside each worker that does so doubles their number; variables of the environment are not
those of forks; control groups need privileges.
"""

import os
import resource
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Python has no name for it. Its number is the same on all architectures.
_RLIMIT_LOCKS: Final = 10
#: Bits of a tag that number the workers of a zygote, from 1 on; 0 is the zygote itself. The bits before them are the tree.
_WORKER_BITS: Final = 24
_TREE_BITS: Final = 38
#: Processes that can't be killed within this many seconds are given up: they wait for a device, and end after that.
_ENDS_WITHIN_S: Final = 5.0
_PAUSE_S: Final = 0.001
#: States of processes that have ended and may not have been reaped.
_ENDED: Final = (b"Z", b"X")


def new_tree() -> int:
    """Return the number of a zygote and all that comes from it, which no other zygote has."""
    # Not from `secrets`, whose import takes milliseconds.
    chance = int.from_bytes(os.urandom(_TREE_BITS // 8 + 1), "big")
    return 1 << (_TREE_BITS - 1) | chance % (1 << (_TREE_BITS - 1))


def tag_of_worker(tree: int, number: int) -> int:
    """Return the tag of the worker with this number; 0: of the zygote itself."""
    return tree << _WORKER_BITS | number & ((1 << _WORKER_BITS) - 1)


def set_tag(pid: int, tag: int) -> None:
    """Tag a process, and all that it starts from now on. Where that is forbidden, nothing happens."""
    with suppress(ValueError, OSError):
        _, hard = resource.getrlimit(_RLIMIT_LOCKS)
        resource.prlimit(pid, _RLIMIT_LOCKS, (tag, hard))


def tag_of(pid: int) -> int:
    """Return the tag of a process; 0 or less: it has none, is another user's, or has ended."""
    try:
        return resource.prlimit(pid, _RLIMIT_LOCKS)[0]
    except OSError:
        return 0


def is_zygote(tag: int) -> bool:
    """True if a process with this tag ends by itself: a zygote with all that comes from it, or a tracker of multiprocessing."""
    return tag >> (_WORKER_BITS + _TREE_BITS - 1) == 1 and tag_of_worker(tag >> _WORKER_BITS, 0) == tag


def end_worker_tree(tag: int) -> None:
    """Kill everything that comes from a worker; returns when nothing of it runs any more."""
    _end(lambda other: other == tag)


def end_tree(tree: int) -> None:
    """Kill everything that comes from the workers of a zygote; returns when nothing of it runs any more."""
    _end(lambda tag: tag >> _WORKER_BITS == tree and not is_zygote(tag))


def end_family(root: int) -> None:
    """Kill a child of this process that it has not reaped, and what descends from that: part of what comes from a worker.

    What has lost its parent is not found.
    """
    family = [root]
    for pid in family:
        # From then on it makes no others, and waits for none.
        _kill(pid, signal.SIGSTOP)
        family += _children_of(pid)
    for pid in family:
        _kill(pid, signal.SIGKILL)


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _end(is_meant: Callable[[int], bool]) -> None:
    gives_up_at = time.monotonic() + _ENDS_WITHIN_S
    while True:
        # A process that is killed makes room for others: were it not for the stop, some that fork and fork would win.
        stopped: set[int] = set()
        while new := _signal_others(stopped, is_meant, signal.SIGSTOP):
            stopped.update(new)
        if not _signal_others(set(), is_meant, signal.SIGKILL) or time.monotonic() > gives_up_at:
            return
        time.sleep(_PAUSE_S)


def _signal_others(known: set[int], is_meant: Callable[[int], bool], number: int) -> list[int]:
    """Signal the running processes that are meant and not known, and return them; each as soon as it is found."""
    found = []
    for pid in _pids():
        if pid not in known and is_meant(tag_of(pid)) and _state_and_parent(pid)[0] not in _ENDED:
            _signal(pid, is_meant, number)
            found.append(pid)
    return found


def own_children() -> list[int]:
    """Return the children of this process, which has one thread. They keep their pids until it reaps them."""
    return _children_of(os.getpid())


def orphans_of(workers: Collection[int]) -> dict[int, list[int]]:
    """Return what comes from workers of this process's zygotes and has lost its parent: its zygote has adopted it."""
    by_tag = {tag: worker for worker in workers if (tag := tag_of(worker)) > 0}
    orphans: dict[int, list[int]] = {}
    for zygote in {_state_and_parent(worker)[1] for worker in workers} - {0}:
        for child in _children_of(zygote):
            worker = by_tag.get(tag_of(child))
            if worker is not None and worker != child:
                orphans.setdefault(worker, []).append(child)
    return orphans


def _children_of(parent: int) -> list[int]:
    try:
        of_threads = [path.read_text().split() for path in Path(f"/proc/{parent}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):
        of_threads = []
    if of_threads:
        return [int(pid) for pids in of_threads for pid in pids]
    # The kernel was built without it, or the process, or one of its threads, has ended.
    return [pid for pid in _pids() if _state_and_parent(pid)[1] == parent]


def _pids() -> Iterator[int]:
    # In ascending order, bit by bit: processes that are started meanwhile come, too.
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                yield int(entry.name)


def _state_and_parent(pid: int) -> tuple[bytes, int]:
    try:
        facts = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return b"X", 0
    # The name of the program comes first, in parentheses, and may have any characters.
    state, parent = facts[facts.rindex(b")") + 1 :].split(maxsplit=2)[:2]
    return state, int(parent)


def _signal(pid: int, is_meant: Callable[[int], bool], number: int) -> None:
    with suppress(OSError):
        process = os.pidfd_open(pid)
        try:
            # The pid may be another process's by now; what is tagged now is the one that was opened, or that has ended.
            if is_meant(tag_of(pid)):
                signal.pidfd_send_signal(process, number)
        finally:
            os.close(process)
