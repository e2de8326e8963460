"""Whatever a user's function is and does, its job ends as it should and the worker goes on."""

import functools
import os
from typing import Any

import pytest

from handoff_actors.errors import RemoteError, RemoteTraceback, SerializationError
from handoff_actors.wire.messages.jobs import Template
from tests.workers import functions
from tests.workers.crew import ASYNC, RUN, SYNC, Crew, job

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("worker", [SYNC, ASYNC])
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
        (lambda number: functions.double_later(number + 1), (5,), 12),
    ],
    ids=[
        "function",
        "lambda",
        "partial",
        "method",
        "builtin",
        "class",
        "coroutine function",
        "returns a coroutine",
    ],
)
async def test_any_callable_runs(crew: Crew, worker: Any, code: Any, args: Any, expected: Any) -> None:
    assert await crew.call(worker, code, *args) == expected


async def test_closure_carries_what_it_captures(crew: Crew) -> None:
    captured = {"factor": 3}

    assert await crew.call(SYNC, lambda number: number * captured["factor"], 5) == 15


async def test_results_come_first_then_extra_args_then_kwargs(crew: Crew) -> None:
    def everything(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    result = await crew.call_with(SYNC, everything, [b"\x80\x05K\x01."], (2, 3), {"key": 4})

    assert result == ((1, 2, 3), {"key": 4})


async def test_as_list_hands_over_one_list(crew: Crew) -> None:
    one, two = b"\x80\x05K\x01.", b"\x80\x05K\x02."

    assert await crew.call_with(SYNC, lambda *args: args, [one, two], ("extra",), {}, as_list=True) == (
        [1, 2],
        "extra",
    )


@pytest.mark.parametrize("worker", [SYNC, ASYNC])
async def test_exception_comes_back_with_its_traceback_and_worker_stays(crew: Crew, worker: Any) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        await crew.call(worker, lambda number: 1 / number, 0)

    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "1 / number" in cause.text
    assert "handoff_actors" not in cause.text
    assert await crew.call(worker, functions.add, 1, 1) == 2


@pytest.mark.parametrize("worker", [SYNC, ASYNC])
@pytest.mark.parametrize(
    ("code", "error"),
    [
        (functions.ask_to_exit, SystemExit),
        (functions.recurse, RecursionError),
        (lambda: next(iter(())), StopIteration),
        (lambda: exec("raise KeyboardInterrupt"), KeyboardInterrupt),
        (lambda: bytearray(2**60), MemoryError),
        (functions.raise_unpicklable, RemoteError),
    ],
    ids=["exit", "recursion", "stop", "interrupt", "memory", "unpicklable"],
)
async def test_no_exception_ends_the_worker(
    crew: Crew, worker: Any, code: Any, error: type[BaseException]
) -> None:
    assert type(await crew.error_of(worker, code)) is error

    assert await crew.call(worker, os.getpid) == crew.pids[worker]


async def test_unpicklable_exception_is_told_by_type_and_message(crew: Crew) -> None:
    with pytest.raises(RemoteError) as caught:
        await crew.call(SYNC, functions.raise_unpicklable)

    assert caught.value.type_name == "tests.workers.functions.Unpicklable"
    assert caught.value.message == "1 and 2"


@pytest.mark.parametrize("worker", [SYNC, ASYNC])
async def test_generator_result_says_what_to_do(crew: Crew, worker: Any) -> None:
    with pytest.raises(SerializationError, match="returned a generator; return a list"):
        await crew.call(worker, functions.count_up, 3)


async def test_unpicklable_result_names_the_part(crew: Crew) -> None:
    with pytest.raises(SerializationError, match=r"value\['lock'\]\[1\] of type lock"):
        await crew.call(SYNC, lambda: {"lock": [1, __import__("threading").Lock()]})

    assert [kind for kind, _, _ in crew.failed.values()] == ["serialization"]


async def test_missing_module_is_a_serialization_failure(crew: Crew) -> None:
    missing = Template(0, b"0" * 16, True, b"no_such_module:function", False, False, {}, None)

    crew.pool.give(SYNC, RUN, {0: missing}, [job(1)], None)
    await crew.end_of(1)

    kind, _, reason = crew.failed[1]
    assert kind == "serialization"
    assert "function 'function' needs module 'no_such_module'" in reason
    assert "modules_by_value=" in reason


async def test_function_may_start_processes(crew: Crew) -> None:
    assert await crew.call(SYNC, functions.squares_by_processes, [1, 2, 3]) == [1, 4, 9]


async def test_function_may_start_threads(crew: Crew) -> None:
    assert await crew.call(SYNC, functions.squares_by_threads, [1, 2, 3]) == [1, 4, 9]


async def test_function_may_fork_and_return_twice(crew: Crew) -> None:
    assert await crew.call(SYNC, functions.fork_and_return) == "parent"
    assert await crew.call(SYNC, os.getpid) == crew.pids[SYNC]


async def test_standard_input_is_empty(crew: Crew) -> None:
    assert await crew.call(SYNC, functions.standard_input) == ""


async def test_worker_works_where_the_app_works(crew: Crew) -> None:
    assert await crew.call(SYNC, os.getcwd) == os.getcwd()  # noqa: PTH109 - it is what runs there


async def test_devices_are_shown_to_one_job_and_hidden_from_the_next(crew: Crew) -> None:
    shown = await crew.call_with(SYNC, functions.visible_devices, [], (), {}, devices="0,2")
    hidden = await crew.call_with(SYNC, functions.visible_devices, [], (), {}, devices=None)

    assert (shown, hidden) == ("0,2", os.environ.get("CUDA_VISIBLE_DEVICES"))


async def test_awaiting_own_task_that_exits_is_an_exception(crew: Crew) -> None:
    with pytest.raises(SystemExit):
        await crew.call(ASYNC, functions.raise_in_own_task)

    assert await crew.call(ASYNC, functions.double_later, 1) == 2
