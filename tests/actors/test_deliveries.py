"""Tests that a message which can't be delivered is the end of its function alone, over a network that encodes."""

import os
from collections.abc import AsyncIterator

import pytest

import handoff_actors as handoff
from handoff_actors.actors.app.splitting import split
from handoff_actors.ids import RunId
from handoff_actors.wire import codec
from handoff_actors.wire.messages.jobs import Job, Template
from handoff_actors.wire.messages.runs import Assign
from tests.actors.memory_cluster import memory_cluster

pytestmark = pytest.mark.processes

LIMIT_NBYTES = 200_000
INLINE_NBYTES = 50_000


@pytest.fixture
async def session(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[handoff.Session]:
    """Of a cluster whose messages are short."""
    monkeypatch.setattr(codec, "MAX_MESSAGE_BYTES", LIMIT_NBYTES)
    async with memory_cluster(1, cpu=1) as cluster, cluster.session() as opened:
        yield opened


def total(*parts: bytes) -> int:
    return sum(map(len, parts))


async def test_functions_that_are_too_much_for_one_message_go_in_several(session: handoff.Session) -> None:
    dag = handoff.DAG()
    for number in range(20):
        dag.call(total, bytes(INLINE_NBYTES), id=number)

    run = await session.execute_distributed(dag)

    assert dict(run.results) == dict.fromkeys(range(20), INLINE_NBYTES)


async def test_function_with_arguments_beyond_any_message_is_named(session: handoff.Session) -> None:
    dag = handoff.DAG()
    dag.call(total, *[bytes(INLINE_NBYTES)] * 10, id="greedy")
    dag.call(total, b"1", id="modest")

    with pytest.raises(
        handoff.SerializationError, match="function 'greedy': it, with its arguments"
    ) as error:
        await session.execute_distributed(dag)

    assert error.value.function_id == "greedy"
    assert (await session.execute_distributed(handoff.DAG().add_function(modest()))).results["modest"] == 0


def modest() -> handoff.Function:
    return handoff.Function("modest", [], total)


async def test_function_with_code_beyond_any_message_is_named(session: handoff.Session) -> None:
    captured = os.urandom(2 * LIMIT_NBYTES)
    dag = handoff.DAG().add_function(modest())
    dag.call(lambda: len(captured), id="greedy")

    with pytest.raises(handoff.SerializationError, match="function 'greedy': its code"):
        await session.execute_distributed(dag)

    assert (await session.execute_distributed(handoff.DAG().add_function(modest()))).results["modest"] == 0


async def test_only_functions_beyond_any_message_fail_where_others_go_on(session: handoff.Session) -> None:
    captured = os.urandom(2 * LIMIT_NBYTES)
    large = [bytes(INLINE_NBYTES)] * 10
    dag = handoff.DAG()
    for number in range(5):
        dag.call(total, bytes(INLINE_NBYTES), id=number)
    dag.call(total, *large, id="greedy")
    code = dag.call(lambda: len(captured), id="code")
    dag.call(lambda: len(captured), id="other code")
    dag.call(total, code, id="behind code")
    dag.add_function(handoff.Function("inline", [0], lambda _: captured[:3], type="inline"))
    dag.call(total, handoff.Handle("inline", dag), id="of inline")

    run = await session.execute_distributed(dag, on_failure="continue")

    assert dict(run.results) == dict.fromkeys(range(5), INLINE_NBYTES)
    assert [*run.failures] == ["greedy", "code", "other code", "behind code", "of inline"]
    for function_id in ("greedy", "code", "other code", "of inline"):
        error = run.failures[function_id]
        assert isinstance(error, handoff.SerializationError)
        assert error.function_id == function_id


async def test_members_of_a_fused_group_beyond_any_message_are_sent_one_by_one(
    session: handoff.Session,
) -> None:
    warm = handoff.DAG()
    for number in range(50):
        warm.call(total, b"x", id=number)
    await session.execute_distributed(warm)
    dag = handoff.DAG()
    previous: list[handoff.Handle[bytes]] = []
    for number in range(8):
        # Together they are too much for a message, and the last one is by itself.
        large = [bytes(INLINE_NBYTES)] * (10 if number == 7 else 2)
        previous = [dag.call(lengths, *previous, *large, id=number)]

    run = await session.execute_distributed(dag, on_failure="continue")

    assert [*run.results] == [*range(7)]
    assert [*run.failures] == [7]


def lengths(*parts: bytes) -> bytes:
    return bytes(min(8, len(parts)))


async def test_report_of_a_node_that_cannot_be_encoded_arrives_in_other_words(
    session: handoff.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handoff_actors.core.node.attempt_reports.how_it_ended", lambda _: "gone: \udcff")
    dag = handoff.DAG()
    dag.call(os._exit, 3, id="gone", max_retries=0)

    with pytest.raises(handoff.WorkerDied, match=r"function 'gone' .* gone: \\udcff"):
        await session.execute_distributed(dag)


def test_parts_of_a_message_have_each_template_before_its_jobs() -> None:
    templates = [Template(number, b"", True, b"", False, False, {}, None) for number in range(2)]
    jobs = [Job(index, 1, index % 2, [], None) for index in range(3)]
    run = RunId(1)

    parts = split(Assign(run, templates, jobs, True))

    assert parts == [
        Assign(run, templates[:1], [], True),
        Assign(run, templates[1:], [], True),
        Assign(run, [], jobs, True),
    ]
    assert split(parts[0]) == []
    assert split(parts[2]) == [Assign(run, [], jobs[:1], True), Assign(run, [], jobs[1:], True)]
    assert split(Assign(run, [], jobs[:1])) == []
