"""An error shows the user's frames, whole, and none of what is inside this package."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors.client.process.tracebacks import InsideHidden

pytestmark = pytest.mark.processes


def divide(number: int) -> float:
    return 1 / number


def failing() -> handoff.DAG:
    dag = handoff.new()
    dag.call(divide, 0, id="f", max_retries=0)
    return dag


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def files_in(text: str) -> set[str]:
    return {line.split('"')[1] for line in text.splitlines() if line.strip().startswith("File ")}


@pytest.fixture
async def session() -> AsyncIterator[handoff.Session]:
    async with handoff.Session(seeds=(), local_node={"cpu": 1}, progress=False) as opened:
        yield opened


CALLS: dict[str, Callable[[handoff.Session], Any]] = {
    "session": lambda session: session.execute_distributed(failing()),
    "function": lambda session: handoff.execute_distributed(failing(), session=session),
    "other function": lambda session: handoff.execute(failing(), session=session),
    "local": lambda session: handoff.execute_local(failing(), session=session),
    "option": lambda session: session.execute_distributed(failing(), timeout=-1),
    "argument": lambda session: session.execute_distributed(handoff.new().add_function(generator())),
    "missing": lambda session: session.execute_distributed(handoff.new().add_function(without_producer())),
    "node": lambda session: session.register_node("nowhere", {"cpu": 1}),
    "second node": lambda session: session.register_local_node({"cpu": 1}),
    "result": lambda session: session.get_result("no such", "f"),
}


def generator() -> handoff.Function:
    return handoff.Function("f", [], divide, extra_args=[(number for number in range(3))])


def without_producer() -> handoff.Function:
    return handoff.Function("f", ["nothing"], divide)


@pytest.mark.parametrize("call", CALLS)
async def test_a_traceback_has_frames_of_users_alone(call: str, session: handoff.Session) -> None:
    with pytest.raises((handoff.HandoffError, ValueError, KeyError)) as caught:
        await CALLS[call](session)

    text = shown(caught.value)
    assert files_in(text) == {__file__}
    assert "During handling" not in text
    assert ("return 1 / number" in text) == isinstance(caught.value, handoff.FunctionFailed)


def test_run_sync_shows_frames_of_users_alone() -> None:
    with pytest.raises(handoff.FunctionFailed) as caught:
        handoff.run_sync(failing(), progress=False)

    assert files_in(shown(caught.value)) == {__file__}


async def test_a_result_that_is_not_there_shows_frames_of_users_alone(session: handoff.Session) -> None:
    dag = handoff.new()
    dag.call(divide, 1, id="f")
    run = await session.execute_distributed(dag)

    with pytest.raises(KeyError) as missing:
        run.results["g"]
    with pytest.raises(KeyError) as not_fetched:
        await run.fetch("g")
    with pytest.raises(KeyError) as untold:
        run.story("g")
    with pytest.raises(KeyError) as unexplained:
        run.explain(handoff.new().call(divide))

    for caught in (missing, not_fetched, untold, unexplained):
        assert files_in(shown(caught.value)) == {__file__}


async def test_an_error_that_the_user_was_handling_is_shown(session: handoff.Session) -> None:
    async def run_after_an_error() -> None:
        try:
            int("seven")
        except ValueError:
            await session.execute_distributed(failing())

    with pytest.raises(handoff.FunctionFailed) as caught:
        await run_after_an_error()

    handled = caught.value.__context__
    assert isinstance(handled, ValueError)
    assert 'int("seven")' in shown(handled)


def frames_of(error: BaseException) -> int:
    return len(traceback.extract_tb(error.__traceback__))


async def raised_by(ask: Callable[[], Any]) -> BaseException:
    with pytest.raises(handoff.FunctionFailed) as caught:
        await ask()
    return caught.value


@pytest.mark.parametrize("full", ["0", "1"])
async def test_each_raise_of_a_functions_error_has_a_fresh_traceback(
    full: str, session: handoff.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDOFF_FULL_TRACEBACKS", full)
    async with session.open_run(on_failure="continue", max_retries=0) as run:
        handle = run.call(divide, 0)
        await asyncio.wait([handle])  # type: ignore[type-var]  # they need not be futures

        async def take() -> None:
            handle.result()

        async def ask_and_raise() -> None:
            error = handle.exception()
            assert error is not None
            raise error

        async def wait() -> None:
            await handle

        for ask in (take, ask_and_raise, wait):
            frames = {frames_of(await raised_by(ask)) for _ in range(20)}
            assert len(frames) == 1, (ask, frames)


async def test_a_handle_shows_frames_of_users_alone(session: handoff.Session) -> None:
    async with session.open_run(on_failure="continue", max_retries=0) as run:
        failed, pending = run.call(divide, 0), run.call(asyncio.sleep, 60)
        await asyncio.wait([failed])  # type: ignore[type-var]  # they need not be futures
        errors: list[BaseException] = []

        def note(ask: Callable[[], object]) -> None:
            with pytest.raises(
                (handoff.HandoffError, asyncio.InvalidStateError, asyncio.CancelledError)
            ) as caught:
                ask()
            errors.append(caught.value)

        for ask in (failed.result, pending.result, pending.exception):
            note(ask)
        pending.cancel()
        for ask in (pending.result, pending.exception):
            note(ask)

    assert [type(error) for error in errors] == [
        handoff.FunctionFailed,
        *[asyncio.InvalidStateError] * 2,
        *[asyncio.CancelledError] * 2,
    ]
    assert [files_in(shown(error)) for error in errors] == [{__file__}] * len(errors)


async def failing_items() -> AsyncIterator[int]:
    yield 1
    raise ValueError("no further item")


async def all_of(results: AsyncIterator[Any]) -> None:
    async for _ in results:
        pass


async def in_run(session: handoff.Session, ask: Callable[[handoff.OpenRun], object]) -> None:
    async with session.open_run() as run:
        ask(run)


def invalid() -> handoff.DAG:
    return handoff.new().add_function(without_producer())


#: Each is a mistake, and one that shows where the error was made.
GROWING: dict[str, Callable[[handoff.Session], Any]] = {
    "call": lambda session: in_run(session, lambda run: run.call(divide, 1, 2)),
    "call each": lambda session: in_run(session, lambda run: run.call_each(divide, [1], no_option=2)),
    "add": lambda session: in_run(session, lambda run: run.add(invalid())),
    "explain": lambda session: in_run(session, lambda run: run.explain(handoff.new().call(divide))),
    "story": lambda session: in_run(session, lambda run: run.story("no such")),
    "map": lambda session: all_of(session.map(divide, [0])),
    "map in any order": lambda session: all_of(session.map(divide, [1, 0], ordered=False)),
    "wrong map": lambda session: all_of(session.map(divide, [1], no_option=2)),
    "map ahead": lambda session: all_of(session.map(divide, [1], ahead=0)),
    "map of nothing": lambda session: all_of(session.map(divide, 1)),  # type: ignore[call-overload]
    "open run": lambda session: all_of(session.open_run(max_pending=0)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("call", GROWING)
async def test_calls_and_maps_show_frames_of_users_alone(call: str, session: handoff.Session) -> None:
    with pytest.raises((handoff.HandoffError, ValueError, KeyError, TypeError)) as caught:
        await GROWING[call](session)

    assert files_in(shown(caught.value)) == {__file__}


async def test_an_error_of_a_maps_source_shows_its_frames(session: handoff.Session) -> None:
    with pytest.raises(ValueError, match="no further item") as caught:
        await all_of(session.map(divide, failing_items()))

    assert 'raise ValueError("no further item")' in shown(caught.value)


class Chooses:
    def choose(self, need: handoff.Need, nodes: Any) -> Any:
        raise LookupError("no choice")


async def test_an_error_of_a_users_own_callback_shows_its_frames(session: handoff.Session) -> None:
    with pytest.raises(handoff.HandoffError) as caught:
        await session.execute_distributed(failing(), allocation_strategy=Chooses())

    text = shown(caught.value)
    assert 'raise LookupError("no choice")' in text
    assert files_in(text) == {__file__}


def nested() -> None:
    handoff.run_sync(failing(), progress=False)


async def test_the_traceback_of_a_nested_run_has_frames_of_users_alone(session: handoff.Session) -> None:
    dag = handoff.new()
    dag.call(nested, id="outer", max_retries=0)

    with pytest.raises(handoff.FunctionFailed) as caught:
        await session.execute_distributed(dag)

    assert files_in(shown(caught.value)) == {__file__}


async def test_an_error_of_ours_from_a_worker_has_no_frames_of_ours(session: handoff.Session) -> None:
    dag = handoff.new()
    dag.call(lambda: (number for number in range(3)), id="f")

    with pytest.raises(handoff.SerializationError) as caught:
        await session.execute_distributed(dag)

    assert files_in(shown(caught.value)) == {__file__}


def test_a_bug_shows_all_frames() -> None:
    with pytest.raises(AssertionError) as caught, InsideHidden():
        raise AssertionError

    assert shown(caught.value).count("File ") == 1


async def test_all_frames_are_shown_on_demand(
    session: handoff.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDOFF_FULL_TRACEBACKS", "1")

    with pytest.raises(handoff.FunctionFailed) as caught:
        await session.execute_distributed(failing())

    assert any(name.endswith("runner.py") for name in files_in(shown(caught.value)))


async def test_cancelling_shows_frames_of_users_alone(session: handoff.Session) -> None:
    task = asyncio.ensure_future(session.execute_distributed(failing()))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError) as caught:
        await task

    assert files_in(shown(caught.value)) == {__file__}
