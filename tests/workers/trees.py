"""Functions that start processes in sessions of their own; each of these has a mark as its name."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.workers.functions import announce


def start(kind: str, mark: str) -> None:
    """Start processes of a kind; return once all have their mark."""
    kinds: dict[str, Callable[[str], None]] = {
        "session": _session,
        "daemon": _daemon,
        "program": _program,
        "generations": _generations,
        "successors": _successors,
        "bomb": partial(_successors, count=12),
    }
    kinds[kind](mark)


def start_and_wait(kind: str, mark: str, path: str) -> None:
    start(kind, mark)
    announce(path)
    signal.pause()


async def start_async_and_wait(mark: str, path: str) -> None:
    """Start a shell in a session of its own that has a child, through asyncio."""
    await asyncio.create_subprocess_exec("setsid", "sh", "-c", "sleep 600; true", mark)
    await asyncio.create_subprocess_shell(f"sh -c 'sleep 600; true' {mark} & wait")
    _until_marked(mark, 2)
    announce(path)
    await asyncio.Event().wait()


async def start_async_and_return(mark: str) -> int:
    # One process, and for no moment two, as a shell would be.
    await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "import time; time.sleep(600)", mark)
    _until_marked(mark)
    return len(marked(mark))


def start_and_exit(kind: str, mark: str) -> None:
    start(kind, mark)
    os._exit(3)


def start_and_return(kind: str, mark: str) -> int:
    start(kind, mark)
    return len(marked(mark))


def wait_for_all_children(mark: str) -> tuple[bool, bool]:
    """Tell whether `os.wait` has given the only child, and nothing then, though orphans have come and gone."""
    _daemon(mark)
    _leave(lambda: None)
    child = os.fork()
    if child == 0:
        time.sleep(0.05)
        os._exit(0)
    given, _ = os.wait()
    try:
        os.wait()
    except ChildProcessError:
        return given == child, True
    return given == child, False


def marked(mark: str) -> list[int]:
    """Find the processes with a mark, except zombies."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _has(pid, mark)]  # noqa: PTH208 - names


def _has(pid: int, mark: str) -> bool:
    try:
        facts = Path(f"/proc/{pid}/stat").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
    name, _, rest = facts.partition("(")[2].rpartition(")")
    return (name == mark or mark in command.split("\0")) and rest.split()[0] not in "ZX"


def _mark(mark: str) -> None:
    if os.getsid(0) != os.getpid():
        os.setsid()
    Path("/proc/self/comm").write_text(mark)


def _leave(act: Callable[[], object]) -> None:
    """Run this in an orphan."""
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            act()
        os._exit(0)
    os.waitpid(child, 0)


def _until_marked(mark: str, count: int = 1) -> None:
    while len(marked(mark)) < count:
        time.sleep(0.002)


def _pause(mark: str) -> None:
    _mark(mark)
    while True:
        time.sleep(100)


def _session(mark: str) -> None:
    if os.fork() == 0:
        _pause(mark)
    _until_marked(mark)


def _daemon(mark: str) -> None:
    _leave(lambda: _pause(mark))
    _until_marked(mark)


def _program(mark: str) -> None:
    # The last word is the name of the script's program, of no use to it.
    command = ["setsid", "--fork", "sh", "-c", "sleep 600; true", mark]
    subprocess.run(command, env={"PATH": os.environ["PATH"]}, check=True)
    _until_marked(mark)


def _generations(mark: str) -> None:
    """A session within a session within a session; the middle ones end at once, later, and never."""

    def generation(depth: int) -> None:
        if depth and os.fork() == 0:
            os.setsid()
            generation(depth - 1)
        if depth == 2:
            os._exit(0)
        _pause(mark)

    if os.fork() == 0:
        generation(4)
    _until_marked(mark, 4)


def _successors(mark: str, count: int = 1) -> None:
    """Processes that each make another one and end, which do the same."""

    def go_on() -> None:
        _mark(mark)
        while os.fork() == 0:
            os.setsid()
        os._exit(0)

    for _ in range(count):
        _leave(go_on)
    _until_marked(mark)
