"""The fate of functions that use too much memory, and the reports of functions that fail."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

import handoff_actors as handoff
from handoff_actors.workers.protocol import CODES_KEPT_NBYTES
from tests.daemons import Daemons
from tests.processes import functions
from tests.processes.app import App, single

pytestmark = pytest.mark.processes

CAPTURED_NBYTES = 20_000_000


async def test_function_that_outgrows_its_claim_is_ended_and_the_node_goes_on(app: App) -> None:
    dag = single(functions.grow_and_wait, 300, cost={"memory": 100}, max_retries=0)

    with pytest.raises(handoff.FunctionFailed, match="it claims 100 MB of memory") as caught:
        await app.run(dag)

    error = caught.value
    assert (error.kind, error.signal, error.node, error.attempts) == (
        "memory",
        signal.SIGKILL,
        app.node.name,
        1,
    )
    assert error.printed == "growing"
    assert error.peak_memory_mb is not None
    assert error.peak_memory_mb > 160
    await app.until_idle()
    assert await app.call(functions.span)


async def test_memory_of_its_own_processes_counts(app: App) -> None:
    dag = single(functions.grow_in_a_child, 300, cost={"memory": 100}, max_retries=0)

    with pytest.raises(handoff.FunctionFailed) as caught:
        await app.run(dag)

    assert caught.value.kind == "memory"


async def test_inputs_from_the_store_do_not_count(app: App) -> None:
    dag = handoff.DAG().add_function(handoff.Function("large", [], functions.array, extra_args=[300]))
    dag.add_function(
        handoff.Function("sum", ["large"], functions.read_for_a_second, cost={"memory": 10}, max_retries=0)
    )

    assert (await app.run(dag)).results["sum"] == 300_000_000


def code_that_captures(number: int) -> Callable[[], tuple[int, int]]:
    """A function with 20 MB that gives its number, and the memory of its worker that is in use and not shared."""
    captured = bytes([number]) * CAPTURED_NBYTES

    def measure() -> tuple[int, int]:
        # Workers keep what they have freed for a while: see workers.child.heap.
        ctypes.CDLL(None).malloc_trim(0)
        memory = psutil.Process().memory_info()
        return captured[0], memory.rss - memory.shared

    return measure


async def test_workers_do_not_keep_all_that_functions_have_captured(app: App) -> None:
    numbers = [*range(12), 0]

    answers = [await app.call(code_that_captures(number)) for number in numbers]

    assert [number for number, _ in answers] == numbers
    # The values that are kept, those on their way, and a worker's own memory; all values would be 240 MB.
    assert max(private for _, private in answers) < CODES_KEPT_NBYTES + 4 * CAPTURED_NBYTES


SCRIPT = f"""
import ctypes, psutil, handoff_actors as handoff
large = bytes([1]) * {CAPTURED_NBYTES}
def measure():
    ctypes.CDLL(None).malloc_trim(0)
    memory = psutil.Process().memory_info()
    return len(large), memory.rss - memory.shared
dag = handoff.new()
dag.call(measure, id="only")
print(*handoff.run_sync(dag, progress=False).results["only"])
"""


def test_workers_do_not_keep_the_large_globals_of_apps_that_have_ended(daemons: Daemons) -> None:
    node = daemons.start("--name", "n1", "--cpu", "1", "--workers", "1")
    measured = []
    for _ in range(14):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=os.environ | {"HANDOFF_SEEDS": node.address},
            capture_output=True,
            text=True,
            check=True,
        )
        measured.append([int(number) for number in done.stdout.split()])

    # The globals that are kept, those on their way, and a worker's own memory; all would be 280 MB.
    assert all(count == CAPTURED_NBYTES for count, _ in measured)
    assert max(private for _, private in measured) < CODES_KEPT_NBYTES + 4 * CAPTURED_NBYTES


async def test_users_exception_carries_what_was_printed_and_peak_memory(app: App) -> None:
    def fail() -> None:
        print("this far")
        raise ValueError("no further")

    with pytest.raises(handoff.FunctionFailed, match="this far") as caught:
        await app.call(fail, max_retries=1)

    error = caught.value
    assert (error.kind, error.attempts, error.printed) == ("exception", 2, "this far")
    assert isinstance(error.__cause__, ValueError)
    assert error.peak_memory_mb is not None


async def test_dead_worker_leaves_what_it_printed(app: App) -> None:
    def die() -> None:
        print("about to die")
        os.abort()

    with pytest.raises(handoff.WorkerDied, match="about to die") as caught:
        await app.call(die)

    error = caught.value
    assert (error.kind, error.signal, error.printed) == ("worker", signal.SIGABRT, "about to die")
    assert not error.memory_was_short


async def test_function_that_takes_too_long_leaves_what_it_printed(app: App) -> None:
    with pytest.raises(handoff.FunctionFailed, match=r"timeout of 0\.5 s") as caught:
        await app.run(single(functions.grow_and_wait, 1, timeout=0.5, max_retries=0))

    assert (caught.value.kind, caught.value.printed) == ("timeout", "growing")
