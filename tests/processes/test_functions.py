"""Functions of every kind run on a node as they would here, and what can't is refused with the reason."""

import asyncio
import functools
import socket
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handoff_actors as handoff
from tests.processes.app import App, single
from tests.workers import functions

pytestmark = pytest.mark.processes

#: Enough for the node to have started, not enough for a thousand pauses one after the other, or ten at a time.
WELL_UNDER_A_SECOND = 0.8
GIGABYTE = 10**9


@pytest.mark.parametrize(
    ("code", "args", "expected"),
    [
        (functions.add, (2, 3), 5),
        (lambda number: number + 1, (2,), 3),
        (functools.partial(functions.add, 10), (1,), 11),
        (functions.Counter(5).plus, (1,), 6),
        (len, ("four",), 4),
        (dict, ([("key", 1)],), {"key": 1}),
        (functions.double_later, (4,), 8),
        (functools.partial(functions.double_later, 4), (), 8),
        (functions.squares_by_processes, ([2, 3],), [4, 9]),
        (functions.squares_by_threads, ([2, 3],), [4, 9]),
        (functions.same, (None,), None),
        (functions.same, (b"",), b""),
    ],
    ids=[
        "module function",
        "lambda",
        "partial",
        "bound method",
        "builtin",
        "class",
        "coroutine function",
        "partial of a coroutine function",
        "own process pool",
        "own threads",
        "none",
        "no bytes",
    ],
)
async def test_any_callable_gives_its_value(app: App, code: Any, args: Any, expected: Any) -> None:
    assert await app.call(code, *args) == expected


async def test_closure_carries_what_it_captures(app: App) -> None:
    captured = {"factor": 3}

    assert await app.call(lambda number: number * captured["factor"], 5) == 15


async def test_thousand_coroutines_wait_together(app: App) -> None:
    async def pause(number: int) -> int:
        await asyncio.sleep(0.1)
        return number

    dag = handoff.DAG().add_functions(
        handoff.Function(str(number), [], pause, extra_args=[number]) for number in range(1000)
    )
    await app.call(functions.double_later, 1)
    began = time.perf_counter()

    run = await app.run(dag)

    assert time.perf_counter() - began < WELL_UNDER_A_SECOND
    assert list(run.results.values()) == list(range(1000))


async def test_printing_reaches_the_apps_output(capfd: pytest.CaptureFixture[str]) -> None:
    # Workers print to where the app printed when its node was started.
    async with handoff.Session(seeds=(), local_node={"cpu": 1}) as session:
        await session.execute_distributed(single(print, "from a worker"))

    assert "from a worker\n" in capfd.readouterr().out


async def test_gigabyte_goes_from_function_to_function_and_comes_home_whole(app: App) -> None:
    dag = handoff.DAG()
    large = dag.call(lambda: np.full(GIGABYTE, 7, np.uint8), id="large")
    dag.call(len, large, id="length")

    run = await app.run(dag)

    assert run.results["length"] == GIGABYTE
    value = await run.fetch("large")
    assert len(value) == GIGABYTE
    assert value[0] == value[-1] == 7


async def test_generator_result_says_what_to_return_instead(app: App) -> None:
    with pytest.raises(
        handoff.SerializationError, match=r"'only'.*returned a generator; return a list"
    ) as caught:
        await app.call(lambda: (number for number in range(3)))

    assert caught.value.function_id == "only"


async def test_unpicklable_result_names_the_function(app: App) -> None:
    with pytest.raises(handoff.SerializationError, match=r"'only'.*lock") as caught:
        await app.call(threading.Lock)

    assert caught.value.function_id == "only"


async def test_code_that_cannot_travel_is_refused_before_anything_runs(app: App) -> None:
    door = socket.socket()

    with door, pytest.raises(handoff.SerializationError, match=r"'only'.*socket"):
        await app.call(door.fileno)


async def test_argument_that_cannot_travel_names_the_function(app: App) -> None:
    with pytest.raises(handoff.SerializationError, match="'only': its extra_args"):
        await app.call(functions.same, (number for number in range(3)))


async def test_value_that_nobody_can_unpickle_names_the_function(app: App) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return int, ("no number",)

    with pytest.raises(handoff.SerializationError, match="'only'"):
        await app.call(functions.same, Trap())


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (functions.ask_to_exit, SystemExit),
        (functions.recurse, RecursionError),
        (functions.raise_unpicklable, handoff.RemoteError),
        (lambda: bytearray(2**60), MemoryError),
        (lambda: next(iter(())), StopIteration),
        (lambda: exec("raise KeyboardInterrupt"), KeyboardInterrupt),
    ],
    ids=["sys.exit", "recursion", "unpicklable", "memory", "stop iteration", "keyboard interrupt"],
)
async def test_whatever_a_function_raises_is_the_cause(
    app: App, code: Callable[[], Any], cause: type[BaseException]
) -> None:
    with pytest.raises(handoff.FunctionFailed) as caught:
        await app.call(code, max_retries=0)

    assert type(caught.value.__cause__) is cause
    assert await app.call(functions.add, 1, 2) == 3


async def test_remote_traceback_is_part_of_the_local_one(app: App) -> None:
    def divide(number: int) -> float:
        return 1 / number

    with pytest.raises(handoff.FunctionFailed) as caught:
        await app.call(divide, 0, max_retries=0)

    text = "".join(traceback.format_exception(caught.value))
    assert "return 1 / number" in text
    assert "ZeroDivisionError: division by zero" in text
    assert caught.value.function_id == "only"
    assert caught.value.node == app.node.name
    assert caught.value.attempts == 1


async def test_generator_function_is_refused_before_the_run() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(handoff.InvalidFunctionError, match="code is a generator function"):
        await handoff.execute_distributed(single(numbers))
    async with handoff.open_run() as run:
        with pytest.raises(handoff.InvalidFunctionError, match="code is a generator function"):
            run.call(numbers)


MAIN = textwrap.dedent("""
    import asyncio
    from concurrent.futures import ProcessPoolExecutor
    from dataclasses import dataclass

    import handoff_actors as handoff

    FACTOR = 3

    @dataclass
    class Point:
        x: int

    class Awkward(Exception):
        pass

    def scale(point):
        return Point(point.x * FACTOR)

    def total(points):
        return sum(point.x for point in points)

    def pooled(numbers):
        with ProcessPoolExecutor(1) as pool:
            return list(pool.map(scale, [Point(number) for number in numbers]))

    def fail():
        raise Awkward("of this script's own")

    async def main():
        dag = handoff.DAG()
        made = dag.call(lambda: Point(4))
        scaled = dag.call(scale, made, id="scaled")
        dag.call(lambda point: total([point, point]), scaled, id="total")
        dag.call(pooled, [1, 2], id="pooled")
        run = await handoff.execute_distributed(dag)
        assert isinstance(run.results["scaled"], Point)
        assert run.results["pooled"] == [Point(3), Point(6)]
        print(run.results["scaled"].x, run.results["total"])
        try:
            await handoff.execute(handoff.DAG().add_function(handoff.Function("f", [], fail)), max_retries=0)
        except handoff.FunctionFailed as error:
            print(type(error.__cause__) is Awkward)

    asyncio.run(main())
""")


@pytest.mark.parametrize("way", ["file", "stdin", "-c"])
def test_functions_and_classes_of_main_travel(tmp_path: Path, way: str) -> None:
    # Definitions in a notebook's cell are in __main__, too, with no file behind them, as with stdin and -c.
    script = tmp_path / "script.py"
    script.write_text(MAIN)
    arguments = {"file": [str(script)], "stdin": ["-"], "-c": ["-c", MAIN]}[way]

    ended = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        input=MAIN if way == "stdin" else "",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ended.stdout.split() == ["12", "24", "True"], ended.stderr
    assert ended.stderr == ""
    assert ended.returncode == 0
