"""Values that nodes keep: under a name for other apps, and for one session."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
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


async def until_nothing_is_stored(session: handoff.Session) -> None:
    connections = session._hub._connections
    while any(advert.stored for advert in connections.adverts()):
        await connections._next_change()


async def array_on(session: handoff.Session, node: str, value: int = 3) -> handoff.Run:
    dag = handoff.DAG("earlier")
    made = dag.call(functions.array, value, id="made", node=node)
    dag.call(functions.total, made, id="total", node=node)
    return await session.execute_distributed(dag)


async def total_of(session: handoff.Session, value: Any, **options: Any) -> int:
    dag = handoff.DAG()
    total = dag.call(functions.total, value, **options)
    return int((await session.execute_distributed(dag)).results[total])


async def test_a_kept_value_outlives_its_run_and_its_app(cluster: list[Daemon]) -> None:
    async with handoff.Session(seeds=[cluster[0].address]) as first:
        run = await array_on(first, "n2")
        await run.keep("made", "ones", ttl="1h")

    async with handoff.Session(seeds=[cluster[1].address]) as second:
        kept = await second.kept("ones")
        received = second.received_bytes()
        assert await total_of(second, kept) == LARGE
        assert await total_of(second, [kept][0], node="n1") == LARGE
        assert second.received_bytes() - received < LARGE / 10
        assert isinstance(kept, handoff.StoredValue)
        assert (kept.node, kept.function_id) == ("n2", "ones")
        assert kept.nbytes > LARGE
        assert (await kept).sum() == LARGE
        await second.drop_kept("ones")


async def test_results_of_an_open_run_are_kept_once_they_are_there(session: handoff.Session) -> None:
    async with session.open_run(on_failure="continue", max_retries=0) as run:
        await run.keep(run.call(functions.array, 3), "open", ttl="1h")
        assert await run.call(functions.total, await session.kept("open")) == LARGE
        with pytest.raises(handoff.FunctionFailed):
            await run.keep(run.call(int, "seven"), "failed")
        with pytest.raises(ValueError, match="ttl"):
            await run.keep(run.call(int, "7"), "never", ttl="never")
    await session.drop_kept("open")


async def test_a_dropped_value_is_gone_from_the_node(session: handoff.Session, cluster: list[Daemon]) -> None:
    run = await array_on(session, "n1")
    await run.keep("made", "dropped", ttl=3600)
    await run.release()

    await session.drop_kept("dropped")

    with pytest.raises(KeyError, match="no node keeps a value under the name 'dropped'"):
        await session.kept("dropped")
    with pytest.raises(KeyError, match="dropped"):
        await session.drop_kept("dropped")
    await until_nothing_is_stored(session)


async def test_an_unknown_name_is_an_error_with_names_that_are_near(session: handoff.Session) -> None:
    run = await array_on(session, "n1")
    await run.keep("made", "weights")

    with pytest.raises(KeyError, match="'weight'; did you mean 'weights'"):
        await session.kept("weight")

    await session.drop_kept("weights")


async def test_a_value_is_dropped_when_its_time_is_over(session: handoff.Session) -> None:
    run = await array_on(session, "n1")
    await run.keep("made", "short", ttl=0.2)
    kept = await session.kept("short")
    await run.release()

    while await is_kept(session, "short"):
        pass

    with pytest.raises(handoff.ValueLost, match="the value kept as 'short' is lost"):
        await kept


async def is_kept(session: handoff.Session, name: str) -> bool:
    try:
        await session.kept(name)
    except KeyError:
        return False
    return True


async def test_a_later_value_of_a_name_takes_its_place_on_all_nodes(session: handoff.Session) -> None:
    first, second = await array_on(session, "n1"), await array_on(session, "n2", 2)
    await first.keep("made", "replaced")

    await second.keep("made", "replaced")

    kept = await session.kept("replaced")
    assert kept.node == "n2"
    assert await total_of(session, kept) == 2_000_000
    await session.drop_kept("replaced")
    assert not await is_kept(session, "replaced")


async def test_one_of_several_values_that_are_kept_under_a_name_at_the_same_time_stays(
    session: handoff.Session,
) -> None:
    runs = [await array_on(session, node) for node in ("n1", "n2", "n1")]

    await asyncio.gather(*(run.keep("made", "contested") for run in runs))

    assert await total_of(session, await session.kept("contested")) == 3_000_000
    await session.drop_kept("contested")
    for run in runs:
        await run.release()
    await until_nothing_is_stored(session)


async def test_a_small_result_is_brought_to_a_node(session: handoff.Session) -> None:
    run = await array_on(session, "n1")
    await run.keep("total", "small")

    kept = await session.kept("small")

    assert await kept == LARGE
    dag = handoff.DAG()
    same = dag.call(lambda value: value + 1, kept)
    assert (await session.execute_distributed(dag)).results[same] == LARGE + 1
    await session.drop_kept("small")


async def test_names_and_times_are_checked(session: handoff.Session) -> None:
    run = await array_on(session, "n1")

    with pytest.raises(ValueError, match="ttl='soon': it is a number of seconds, or text such as"):
        await run.keep("made", "x", ttl="soon")
    with pytest.raises(ValueError, match="name='': a value is kept under"):
        await run.keep("made", "")
    with pytest.raises(KeyError, match="no function 'mode'"):
        await run.keep("mode", "x")


async def test_a_value_is_put_once_for_many_runs(session: handoff.Session) -> None:
    stored = await session.put(functions.array(3))
    assert stored.nbytes > LARGE
    received = session.received_bytes()

    assert [await total_of(session, stored), await total_of(session, stored)] == [LARGE, LARGE]

    assert session.received_bytes() - received < LARGE / 10
    assert (await stored).sum() == LARGE
    del stored
    gc.collect()
    await until_nothing_is_stored(session)


async def test_a_small_value_that_was_put_is_an_argument_and_a_value(app: App) -> None:
    stored = await app.session.put({"a": 1})

    assert await app.call(lambda value: value["a"], stored) == 1
    assert await stored == {"a": 1}
    assert repr(stored) == f"StoredValue(node={app.node.name!r}, nbytes={stored.nbytes})"
    del stored
    gc.collect()


async def test_a_value_that_was_put_ends_with_its_session(cluster: list[Daemon]) -> None:
    async with handoff.Session(seeds=[cluster[0].address]) as session:
        stored = await session.put(functions.array(3))
        assert stored.nbytes > LARGE

    async with handoff.Session(seeds=[cluster[0].address]) as other, asyncio.timeout(5):
        await until_nothing_is_stored(other)


async def test_a_value_is_on_no_node_once_its_put_is_cancelled(
    session: handoff.Session, cluster: list[Daemon]
) -> None:
    putting = asyncio.create_task(session.put(functions.array(3)))
    while not any(node.stored() for node in cluster):  # noqa: ASYNC110 - files tell no events
        await asyncio.sleep(0)
    putting.cancel()
    await asyncio.wait([putting])
    # It may have been there already.
    del putting
    gc.collect()

    while any(node.stored() for node in cluster):  # noqa: ASYNC110 - files tell no events
        await asyncio.sleep(0.01)


async def test_what_cannot_be_pickled_cannot_be_put(session: handoff.Session) -> None:
    with pytest.raises(handoff.SerializationError):
        await session.put(asyncio.get_running_loop())


async def test_a_node_that_leaves_hands_what_it_keeps_under_names_to_another() -> None:
    with pair() as (stays, leaves):
        async with handoff.Session(seeds=[stays.address]) as session, asyncio.timeout(30):
            run = await array_on(session, leaves.name)
            await run.keep("made", "moved", ttl="1h")
            await run.release()
            before = await session.kept("moved")

            await asyncio.to_thread(leaves.terminate)

            assert await total_of(session, before) == LARGE

            kept = await session.kept("moved")
            assert kept.node == stays.name
            assert await total_of(session, kept) == LARGE
        assert "kept values handed over" in leaves.log()
        assert leaves.leftovers() == []


async def test_a_value_that_was_put_moves_off_a_node_that_leaves() -> None:
    value = list(range(500_000))
    with pair() as nodes:
        async with handoff.Session(seeds=[nodes[0].address]) as session, asyncio.timeout(30):
            put = await session.put(value)
            (leaves,) = [node for node in nodes if node.name == put.node]

            assert await asyncio.to_thread(leaves.terminate) == 0

            assert leaves.leftovers() == []
            assert await session.call(sum, put) == sum(value)
            assert await put == value
            del put
            gc.collect()
            await until_nothing_is_stored(session)


async def test_a_value_that_was_put_waits_for_a_node_to_move_to() -> None:
    daemons = Daemons()
    try:
        first = start(daemons, "n1")
        async with handoff.Session(seeds=[first.address]) as session, asyncio.timeout(30):
            put = await session.put("some")
            leaving = asyncio.create_task(asyncio.to_thread(first.terminate))
            await asyncio.to_thread(first.wait_for_log, "draining")

            start(daemons, "n2", "--join", first.address)

            assert await leaving == 0
            assert await session.call(str.upper, put) == "SOME"
        assert first.leftovers() == []
    finally:
        daemons.close()


async def test_the_last_node_says_what_is_lost_with_it() -> None:
    with pair() as (first, last):
        async with handoff.Session(seeds=[last.address]) as session, asyncio.timeout(30):
            run = await array_on(session, last.name)
            await run.keep("made", "lost", ttl="1h")
            await run.release()
        first.kill()
        last.wait_for_log("member down")

        await asyncio.to_thread(last.terminate)

        assert "no other node keeps the values that this one has kept" in last.log()
        assert "lost" in last.log()
