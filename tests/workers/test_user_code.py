"""Any user's function, with any behaviour: its job ends as it should and the worker goes on."""

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from handoff_actors.errors import RemoteError, RemoteTraceback, SerializationError
from handoff_actors.ids import WorkerId
from handoff_actors.wire.messages.jobs import Job, Template, TemplateEnvironment, Text
from handoff_actors.wire.payload import encode
from tests.workers import functions
from tests.workers.pool_harness import ASYNC, RUN, SYNC, PoolHarness, job, template

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
async def test_any_callable_runs(
    harness: PoolHarness, worker: Any, code: Any, args: Any, expected: Any
) -> None:
    assert await harness.call(worker, code, *args) == expected


async def test_closure_carries_what_it_captures(harness: PoolHarness) -> None:
    captured = {"factor": 3}

    assert await harness.call(SYNC, lambda number: number * captured["factor"], 5) == 15


async def test_results_come_first_then_extra_args_then_kwargs(harness: PoolHarness) -> None:
    def everything(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    result = await harness.call_with(SYNC, everything, [b"\x80\x05K\x01."], (2, 3), {"key": 4})

    assert result == ((1, 2, 3), {"key": 4})


@pytest.mark.parametrize("worker", [SYNC, ASYNC])
@pytest.mark.parametrize(
    ("change", "value"),
    [
        (functions.add_in_place, np.ones(3)),
        (functions.sort_in_place_and_wrap, np.ones(100_000)),
        (functions.set_first, memoryview(b"bytes")),
        (functions.read_into, memoryview(b"bytes")),
        (lambda array: array.setflags(write=True), np.ones(3)),
    ],
    ids=["output", "cause", "memoryview", "function of C", "flag"],
)
async def test_error_about_a_read_only_argument_says_how_to_get_a_copy(
    harness: PoolHarness, worker: Any, change: Any, value: Any
) -> None:
    encoded = encode(value).to_bytes()

    with pytest.raises((ValueError, TypeError, RuntimeError)) as caught:
        await harness.call_with(worker, change, [encoded], (), {})

    cause = caught.value.__cause__
    assert cause is not None
    noted = caught.value if isinstance(cause, RemoteTraceback) else cause
    assert "copy it first: x = x.copy()" in noted.__notes__[0]


async def test_error_about_a_read_only_file_says_nothing_of_copies(harness: PoolHarness) -> None:
    error = await harness.error_of(SYNC, functions.raise_read_only_file_system)

    assert not hasattr(error, "__notes__")


async def test_as_list_hands_over_one_list(harness: PoolHarness) -> None:
    one, two = b"\x80\x05K\x01.", b"\x80\x05K\x02."

    assert await harness.call_with(SYNC, lambda *args: args, [one, two], ("extra",), {}, as_list=True) == (
        [1, 2],
        "extra",
    )


@pytest.mark.parametrize("worker", [SYNC, ASYNC])
async def test_exception_comes_back_with_its_traceback_and_worker_stays(
    harness: PoolHarness, worker: Any
) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        await harness.call(worker, lambda number: 1 / number, 0)

    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "1 / number" in cause.text
    assert "handoff_actors" not in cause.text
    assert await harness.call(worker, functions.add, 1, 1) == 2


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
    harness: PoolHarness, worker: Any, code: Any, error: type[BaseException]
) -> None:
    assert type(await harness.error_of(worker, code)) is error

    assert await harness.call(worker, os.getpid) == harness.pids[worker]


async def test_unpicklable_exception_is_reported_by_type_and_message(harness: PoolHarness) -> None:
    with pytest.raises(RemoteError) as caught:
        await harness.call(SYNC, functions.raise_unpicklable)

    assert caught.value.type_name == "tests.workers.functions.Unpicklable"
    assert caught.value.message == "1 and 2"


@pytest.mark.parametrize("worker", [SYNC, ASYNC])
async def test_generator_result_says_what_to_do(harness: PoolHarness, worker: Any) -> None:
    with pytest.raises(SerializationError, match="returned a generator; return a list"):
        await harness.call(worker, functions.count_up, 3)


async def test_unpicklable_result_names_the_part(harness: PoolHarness) -> None:
    with pytest.raises(SerializationError, match=r"value\['lock'\]\[1\] of type lock"):
        await harness.call(SYNC, lambda: {"lock": [1, __import__("threading").Lock()]})

    assert [kind for kind, _, _ in harness.failed.values()] == ["serialization"]


async def test_missing_module_is_a_serialization_failure(harness: PoolHarness) -> None:
    missing = Template(0, b"0" * 16, True, b"no_such_module:function", False, False, {}, None)

    harness.pool.give(SYNC, RUN, {0: missing}, [job(1)], None)
    await harness.end_of(1)

    kind, _, reason = harness.failed[1]
    assert kind == "serialization"
    assert "function 'function' needs module 'no_such_module'" in reason
    assert "modules_by_value=" in reason


async def test_function_may_start_processes(harness: PoolHarness) -> None:
    assert await harness.call(SYNC, functions.squares_by_processes, [1, 2, 3]) == [1, 4, 9]


async def test_function_may_start_threads(harness: PoolHarness) -> None:
    assert await harness.call(SYNC, functions.squares_by_threads, [1, 2, 3]) == [1, 4, 9]


@pytest.mark.parametrize(("how", "status"), [("return", 0), ("exit", 3), ("raise", 1)])
@pytest.mark.parametrize(
    ("worker", "code"), [(SYNC, functions.leave_fork), (ASYNC, functions.leave_fork_async)]
)
async def test_a_fork_ends_where_the_function_ends_in_it(
    harness: PoolHarness, worker: WorkerId, code: Callable[..., Any], how: str, status: int
) -> None:
    assert await harness.call(worker, code, how) == status
    assert await harness.call(worker, os.getpid) == harness.pids[worker]


async def test_a_fork_stores_no_result(harness: PoolHarness) -> None:
    assert await harness.call(SYNC, functions.return_large_value_twice) > 1_000_000


async def test_a_fork_of_an_async_worker_takes_no_part_in_its_coroutines(harness: PoolHarness) -> None:
    assert await harness.call(ASYNC, functions.await_in_fork) == 1


async def test_standard_input_is_empty(harness: PoolHarness) -> None:
    assert await harness.call(SYNC, functions.standard_input) == ""


async def test_worker_works_where_the_app_works(harness: PoolHarness) -> None:
    assert await harness.call(SYNC, os.getcwd) == os.getcwd()  # noqa: PTH109 - it is what runs there


async def test_devices_are_shown_to_one_job_and_hidden_from_the_next(harness: PoolHarness) -> None:
    shown = await harness.call_with(SYNC, functions.visible_devices, [], (), {}, devices="0,2")
    hidden = await harness.call_with(SYNC, functions.visible_devices, [], (), {}, devices=None)

    assert (shown, hidden) == ("0,2", os.environ.get("CUDA_VISIBLE_DEVICES"))


async def test_awaiting_own_task_that_exits_is_an_exception(harness: PoolHarness) -> None:
    with pytest.raises(SystemExit):
        await harness.call(ASYNC, functions.raise_in_own_task)

    assert await harness.call(ASYNC, functions.double_later, 1) == 2


async def test_job_that_cannot_be_encoded_fails_and_the_others_run(harness: PoolHarness) -> None:
    jobs = [Job(1, 1, 0, [Text("fine")], None), Job(2, 1, 0, [Text("\udcff")], None), Job(3, 1, 1, [], None)]
    unsendable = replace(template(len, 1), environment=TemplateEnvironment({}, directory="no bytes: \udcff"))  # type: ignore[arg-type]  # as a bug might

    harness.pool.give(SYNC, RUN, {0: template(len), 1: unsendable}, jobs, None)
    for index in (1, 2, 3):
        await harness.end_of(index)

    assert harness.result(1) == 4
    assert {index: kind for index, (kind, _, _) in harness.failed.items()} == {
        2: "serialization",
        3: "serialization",
    }
    assert "can't be sent to a worker: UnicodeEncodeError" in harness.failed[2][2]
