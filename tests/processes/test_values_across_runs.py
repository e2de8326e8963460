"""Values of an earlier run as arguments of a later one: by reference, on nodes that are daemons."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from tests.daemons import Daemon, Daemons
from tests.processes import functions
from tests.processes.app import App
from tests.processes.pair import pair, start

pytestmark = pytest.mark.processes

LARGE = 3_000_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[Daemon]]:
    """Each test leaves it as it has found it."""
    with pair() as members:
        yield members


@pytest.fixture
async def session(cluster: list[Daemon]) -> AsyncIterator[handoff.Session]:
    async with handoff.Session(seeds=[cluster[0].address]) as session, asyncio.timeout(20):
        yield session


async def made_on(session: handoff.Session, node: str) -> handoff.Run:
    dag = handoff.DAG("earlier")
    dag.call(bytes, LARGE, id="made", node=node)
    dag.call(len, handoff.Argument("made"), id="length", node=node)
    return await session.execute_distributed(dag)


async def array_on(session: handoff.Session, node: str) -> handoff.Run:
    dag = handoff.DAG("earlier")
    made = dag.call(functions.array, 3, id="made", node=node)
    dag.call(functions.total, made, node=node)
    return await session.execute_distributed(dag)


async def test_a_stored_value_is_an_argument_of_a_later_run(session: handoff.Session) -> None:
    earlier = await made_on(session, "n1")
    stored = earlier.results["made"]
    dag = handoff.DAG()
    by_itself = dag.call(len, stored)
    within = dag.call(lambda parts: len(parts["a"][0]) + parts["b"], {"a": [stored], "b": 1})
    both = dag.call(lambda *parts: sum(map(len, parts)), stored, stored)
    received = session.received_bytes()

    later = await session.execute_distributed(dag)

    assert later.results[by_itself] == LARGE
    assert later.results[within] == LARGE + 1
    assert later.results[both] == 2 * LARGE
    assert session.received_bytes() - received < LARGE / 10


async def test_the_node_that_has_a_value_is_preferred_and_takes_no_copy(
    session: handoff.Session, cluster: list[Daemon]
) -> None:
    earlier = await array_on(session, "n2")
    # An advert from the middle of that run makes the node look busy, and a node with room for it is better.
    while not await session.resources_available("n2", {"cpu": 1.0}):  # noqa: ASYNC110 - adverts tell no events
        await asyncio.sleep(0.01)
    files = inodes(cluster[1].store)
    dag = handoff.DAG()
    mapped = dag.call(functions.mapped_files, earlier.results["made"])

    later = await session.execute_distributed(dag)

    assert later.allocations[mapped] == "n2"
    assert later.report[mapped].moved_nbytes == 0
    assert set(later.results[mapped]) <= files
    assert later.results[mapped]


async def test_another_node_fetches_it_from_the_one_that_has_it(session: handoff.Session) -> None:
    earlier = await made_on(session, "n1")
    dag = handoff.DAG()
    length = dag.call(len, earlier.results["made"], node="n2")
    received = session.received_bytes()

    later = await session.execute_distributed(dag)

    assert later.results[length] == LARGE
    assert session.received_bytes() - received < LARGE / 10


async def test_handles_of_an_earlier_run_are_arguments(session: handoff.Session) -> None:
    first = handoff.DAG("first")
    large, small = first.call(bytes, LARGE), first.call(len, b"four")
    earlier = await session.execute_distributed(first)
    second = handoff.DAG()
    total = second.call(lambda value, *, more: len(value) + more[0], large, more=[small])

    later = await session.execute_distributed(second)

    assert later.results[total] == LARGE + 4
    assert isinstance(earlier.results[large], handoff.StoredValue | bytes)


async def test_each_step_takes_what_the_one_before_has_made(session: handoff.Session) -> None:
    run = await made_on(session, "n1")
    value: Any = run.results["made"]
    for _ in range(5):
        dag = handoff.DAG()
        step = dag.call(lambda value: value + b"x", value)
        dag.call(len, step)
        run = await session.execute_distributed(dag)
        value = run.results[step]

    assert len(await value) == LARGE + 5
    # Each run has let go of the one before it, and its nodes have soon, too.
    assert len(session._hub.runs.all()) <= 3


async def test_a_value_whose_node_has_died_is_lost(
    session: handoff.Session, cluster: list[Daemon], daemons: Daemons
) -> None:
    dying = start(daemons, "n3", "--join", cluster[0].address)
    earlier = await made_on(session, "n3")
    dag = handoff.DAG()
    dag.call(len, earlier.results["made"], id="length", node="n1")
    dying.process.send_signal(signal.SIGKILL)

    with pytest.raises(
        handoff.ValueLost, match="function 'made' in an earlier run of DAG 'earlier' is"
    ) as caught:
        await session.execute_distributed(dag)

    assert caught.value.function_id == "made"


async def test_a_value_of_a_released_run_is_lost(session: handoff.Session) -> None:
    earlier = await made_on(session, "n1")
    stored = earlier.results["made"]
    await earlier.release()
    dag = handoff.DAG()
    dag.call(len, stored)

    with pytest.raises(handoff.ValueLost, match="that run has been released"):
        await session.execute_distributed(dag)


async def test_a_value_that_is_in_the_app_survives_its_run(session: handoff.Session) -> None:
    earlier = await made_on(session, "n1")
    stored = earlier.results["made"]
    await stored
    await earlier.release()
    dag = handoff.DAG()
    length = dag.call(len, stored)

    later = await session.execute_distributed(dag)

    assert later.results[length] == LARGE


async def test_a_value_of_another_session_is_refused(session: handoff.Session, cluster: list[Daemon]) -> None:
    earlier = await made_on(session, "n1")
    dag = handoff.DAG()
    dag.call(len, earlier.results["made"])

    async with handoff.Session(seeds=[cluster[0].address]) as other:
        with pytest.raises(TypeError, match="belongs to another session"):
            await other.execute_distributed(dag)


async def test_a_value_deep_within_an_object_is_an_error_that_says_where_to_put_it(app: App) -> None:
    earlier = await app.run(
        handoff.DAG().add_functions(
            [handoff.Function("a", [], bytes, extra_args=[LARGE]), handoff.Function("b", ["a"], len)]
        )
    )
    dag = handoff.DAG()
    dag.call(len, Hidden(earlier.results["a"]))

    with pytest.raises(handoff.SerializationError, match="pass it as an argument"):
        await app.run(dag)


async def test_values_of_the_apps_own_node_are_shared(app: App) -> None:
    earlier = await array_on(app.session, app.node.name)
    files = inodes(app.node._store.directory)
    dag = handoff.DAG()
    mapped = dag.call(functions.mapped_files, earlier.results["made"])

    later = await app.run(dag)

    assert later.results[mapped]
    assert set(later.results[mapped]) <= files
    await later.release()
    assert len(await earlier.results["made"]) == LARGE


async def test_an_open_run_takes_values_of_earlier_runs_and_gives_its_own_to_others(
    session: handoff.Session,
) -> None:
    earlier = await array_on(session, "n1")
    released = await array_on(session, "n1")
    gone = released.results["made"]
    await released.release()

    async with session.open_run(on_failure="continue") as run:
        received = session.received_bytes()
        doubled = run.call(lambda array: array + array, earlier.results["made"])
        assert await run.call(functions.total, [doubled][0]) == 2 * LARGE
        dag = handoff.DAG()
        total = dag.call(functions.total, doubled)
        later = await session.execute_distributed(dag)
        assert later.results[total] == 2 * LARGE
        async with session.open_run() as other:
            assert await other.call(functions.total, doubled) == 2 * LARGE
        assert session.received_bytes() - received < LARGE / 10
        with pytest.raises(handoff.ValueLost, match="that run has been released"):
            await run.call(functions.total, gone)


async def test_a_handle_of_an_open_run_without_a_value_yet_is_refused(session: handoff.Session) -> None:
    async with session.open_run() as run:
        made = run.call(functions.array, 3)
        with pytest.raises(handoff.InvalidFunctionError, match="belongs to another DAG"):
            handoff.DAG().call(functions.total, made)
        await made


class Hidden:
    def __init__(self, value: object) -> None:
        self.value = value


def inodes(directory: Path) -> set[str]:
    return {str(path.stat().st_ino) for path in directory.iterdir()}
