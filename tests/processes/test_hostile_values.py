"""Tests that whatever users' objects do, each run ends with a value or with an error that names the function."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings, strategies as st

import handoff_actors as handoff
from handoff_actors.text import repr_of
from handoff_actors.wire import payload, time_limit
from tests.processes import hostile
from tests.processes.app import descendants

pytestmark = pytest.mark.processes

#: No run here takes longer.
WITHIN_S = 10.0
#: What options are refused with; an error that a function has raised is a `FunctionFailed`.
REFUSALS = (handoff.HandoffError, TypeError, ValueError)

texts = st.one_of(
    st.sampled_from(
        [
            "data\udcff.csv",
            "\ud800",
            "a\0b",
            "a\nb\x1b[2J",
            "",
            hostile.Large("x" * 3_000_000),
            hostile.Large("\udcff" * 300_000),
        ]
    ),
    st.text(st.characters(exclude_categories=()), max_size=10),
)
objects = st.builds(
    hostile.Hostile,
    st.frozensets(st.sampled_from(hostile.METHODS), max_size=3),
    st.sampled_from(sorted(hostile.ERRORS)),
)
values = st.one_of(texts, objects, st.lists(objects, min_size=1, max_size=2))
ids = st.just("a") | texts | objects
functions = st.sampled_from(
    [
        hostile.same,
        hostile.same_later,
        hostile.raise_text,
        hostile.raise_text_later,
        hostile.raise_hostile,
        hostile.raise_hostile_later,
        hostile.say,
        hostile.log_hostile,
    ]
)
FIELDS = {
    "kwargs": st.dictionaries(texts, values, min_size=1, max_size=2),
    "extra_args": st.lists(values, min_size=1, max_size=2),
    "env_vars": st.dictionaries(texts, texts, min_size=1, max_size=2) | objects,
    "working_dir": texts | objects,
    "node": texts | objects,
    "cost": st.dictionaries(texts, st.sampled_from([0.0, 1.0]), min_size=1, max_size=2) | objects,
    "timeout": objects,
    "priority": objects,
    "retry_backoff": objects,
    "argument_inclusion": texts | objects,
}
fields: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.dictionaries(
    st.sampled_from(sorted(FIELDS)), st.none(), max_size=2
).flatmap(lambda chosen: st.fixed_dictionaries({name: FIELDS[name] for name in chosen}))


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """One event loop for all examples, as a session lives in one."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module", params=["embedded", "cluster"])
def session(request: pytest.FixtureRequest, loop: asyncio.Runner) -> Iterator[handoff.Session]:
    """A session with one node, which lives for all examples. Afterwards no process is left."""
    before = set(descendants())
    stack = AsyncExitStack()

    async def opened() -> handoff.Session:
        if request.param == "embedded":
            return await stack.enter_async_context(handoff.Session(seeds=(), local_node={"cpu": 2.0}))
        cluster = stack.enter_context(handoff.LocalCluster(nodes=1))
        return await stack.enter_async_context(cluster.session())

    async def closed() -> None:
        await stack.aclose()

    yield loop.run(opened())
    loop.run(closed())
    assert set(descendants()) <= before


async def outcome(
    session: handoff.Session, add: Callable[[handoff.DAG], object], dag_id: Any = None, **options: Any
) -> Any:
    """Add to a DAG and run it; give its results, or the error that refuses it."""
    try:
        dag = handoff.DAG(dag_id)
        add(dag)
        async with asyncio.timeout(WITHIN_S):
            run = await session.execute_distributed(
                dag, max_retries=0, allocation_timeout=0.0, progress=False, **options
            )
    except REFUSALS as error:
        return error
    return run.results


async def assert_an_ordinary_run_works(session: handoff.Session) -> None:
    dag = handoff.new()
    sync, later = dag.call(hostile.same, 1), dag.call(hostile.same_later, 2)
    dag.call(lambda *values: sum(values), sync, later, id="sum")
    async with asyncio.timeout(WITHIN_S):
        assert (await session.execute_distributed(dag, progress=False)).results["sum"] == 3


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(function_id=ids, dag_id=ids, function=functions, arg=values, options=fields)
@example(function_id="a", dag_id=None, function=hostile.raise_text, arg="data\udcff.csv", options={})
@example(function_id="a", dag_id=None, function=hostile.raise_text_later, arg="data\udcff.csv", options={})
@example(function_id="a", dag_id=None, function=hostile.same, arg=1, options={"env_vars": {"A": "\udcff"}})
def test_each_run_ends_with_a_value_or_an_error_that_names_the_function(
    function_id: Any,
    dag_id: Any,
    function: Callable[..., Any],
    arg: Any,
    options: dict[str, Any],
    session: handoff.Session,
    loop: asyncio.Runner,
) -> None:
    async def check() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(
                outcome(session, lambda dag: dag.call(function, arg, id=function_id, **options), dag_id)
            )
            group.create_task(assert_an_ordinary_run_works(session))
        ended = task.result()

        event(type(ended).__name__)
        assert not isinstance(ended, handoff.WorkerDied), ended.printed
        if isinstance(ended, Exception):
            assert not isinstance(ended, TimeoutError), "the run hangs"
            assert repr_of(function_id) in Exception.__str__(ended) or repr_of(dag_id) in Exception.__str__(
                ended
            )
            assert str(ended).encode()
        else:
            assert list(ended) == [function_id]
        await assert_an_ordinary_run_works(session)

    loop.run(check())


# --- Each by itself ---------------------------------------------------------------------------------------------

FILE = os.fsdecode(b"data\xff.csv")


@pytest.mark.parametrize("function", [hostile.raise_text, hostile.raise_text_later])
def test_text_that_is_not_utf8_arrives_readable_and_silences_no_worker(
    function: Callable[..., Any], session: handoff.Session, loop: asyncio.Runner
) -> None:
    error = loop.run(outcome(session, lambda dag: dag.call(function, FILE, id=FILE)))

    assert isinstance(error, handoff.FunctionFailed)
    assert "ValueError: data\\udcff.csv" in str(error)
    assert str(error).encode()
    assert isinstance(error.__cause__, ValueError)
    assert (error.function_id, error.__cause__.args) == (FILE, (FILE,))
    loop.run(assert_an_ordinary_run_works(session))


def test_environment_that_is_not_utf8_arrives_byte_for_byte(
    session: handoff.Session, loop: asyncio.Runner
) -> None:
    variables = {**os.environ, os.fsdecode(b"NAME\xff"): os.fsdecode(b"value\xfe"), "ä": "ö"}

    results = loop.run(outcome(session, lambda dag: dag.call(hostile.variables, id="v"), env_vars=variables))

    assert variables.items() <= results["v"].items()


def test_directory_that_is_not_utf8_is_worked_in_and_sent(
    session: handoff.Session, loop: asyncio.Runner, tmp_path: Path
) -> None:
    directory = tmp_path / FILE
    directory.mkdir()

    results = loop.run(
        outcome(
            session,
            lambda dag: dag.call(hostile.working_dir, id="d", working_dir=directory, env_vars={"A": "1"}),
        )
    )

    assert results["d"] == os.fsencode(directory)


@pytest.mark.parametrize("kind", ["text", "array"])
def test_huge_exception_is_a_short_error(kind: str, session: handoff.Session, loop: asyncio.Runner) -> None:
    def fail() -> None:
        raise (
            ValueError("bad batch", bytearray(50_000_000))
            if kind == "array"
            else ValueError("x" * 50_000_000)
        )

    error = loop.run(outcome(session, lambda dag: dag.call(fail, id="huge")))

    assert isinstance(error, handoff.FunctionFailed)
    assert "function 'huge' failed" in str(error)
    assert "characters left out" in str(error)
    assert len(str(error)) < 50_000
    assert isinstance(error.__cause__, handoff.RemoteError)


def test_exception_that_loops_in_the_app_holds_up_nothing(
    session: handoff.Session, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> Any:
        async with asyncio.TaskGroup() as group:
            failing = group.create_task(
                outcome(session, lambda dag: dag.call(hostile.raise_looping, os.getpid(), id="f"))
            )
            while not failing.done():
                await assert_an_ordinary_run_works(session)
        return failing.result()

    monkeypatch.setattr(time_limit, "LIMIT_S", 0.3)
    error = loop.run(check())

    assert isinstance(error, handoff.FunctionFailed)
    assert isinstance(error.__cause__, handoff.RemoteError)
    assert error.__cause__.message == "loops in the app"
    assert isinstance(error.__cause__.__cause__, handoff.RemoteTraceback)


def test_code_that_captures_too_much_names_its_function(
    session: handoff.Session, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload, "MOST_OF_CODE_NBYTES", 1_000_000)
    captured = bytes(1_000_001)

    error = loop.run(outcome(session, lambda dag: dag.call(lambda: len(captured), id="large")))

    assert isinstance(error, handoff.SerializationError)
    assert error.function_id == "large"
    assert "function 'large': its code can't be sent to a node: it has" in str(error)


def test_value_of_an_earlier_run_is_refused_with_advice(
    session: handoff.Session, loop: asyncio.Runner
) -> None:
    async def check() -> Any:
        dag = handoff.new()
        dag.call(len, dag.call(bytes, 1_000_000, id="big"))
        earlier = await session.execute_distributed(dag, progress=False)
        value = earlier.results["big"]
        return await outcome(session, lambda dag: dag.call(hostile.same, partial(print, value), id="later"))

    error = loop.run(check())

    assert isinstance(error, handoff.SerializationError)
    assert "function 'later'" in str(error)
    assert "a StoredValue belongs to its session, and was not found here: pass it as an argument" in str(
        error
    )


# An exit ends the loop, and the log has the text as it is, which pytest-xdist can't report.
@pytest.mark.parametrize("kind", sorted(hostile.ERRORS.keys() - {"exit", "surrogate"}))
@pytest.mark.parametrize("callback", ["on_event", "on_result"])
def test_callback_that_raises_anything_hangs_no_run(
    callback: str, kind: str, session: handoff.Session, loop: asyncio.Runner
) -> None:
    def fail(*_: object) -> None:
        hostile.fail(kind)

    ended = loop.run(outcome(session, lambda dag: dag.call(hostile.same, 1, id="f"), **{callback: fail}))

    assert not isinstance(ended, TimeoutError)
    loop.run(assert_an_ordinary_run_works(session))
