"""Workers whose functions return graphs, or lists in parts."""

from typing import Any

import numpy as np
import pytest

from handoff_actors.errors import MissingFunctionError, SerializationError
from handoff_actors.graph import DAG, Constant, Function, Parts, Subgraph
from handoff_actors.ids import RunId
from handoff_actors.wire.exceptions import decode_exception
from handoff_actors.wire.messages.jobs import PARTS, Assembled, Expansion, Job, Listed, Ref
from handoff_actors.wire.payload import decode, decode_call
from tests.workers import functions
from tests.workers.pool_harness import ASYNC, RUN, SYNC, PoolHarness, job, template

pytestmark = pytest.mark.processes


def halves(first: int, last: int) -> Subgraph[int]:
    """Add up a range, by two halves of it."""
    dag = DAG()
    middle = (first + last) // 2
    both = [dag.call(halves, first, middle), dag.call(halves, middle, last)]
    return Subgraph(dag, result=dag.call(functions.add, *both, cost={"cpu": 2}))


async def later_halves(first: int, last: int) -> Subgraph[int]:
    return halves(first, last)


def with_large_arguments(count: int) -> Subgraph[Any]:
    large = np.arange(count)
    dag = DAG()
    summed = dag.call(np.sum, large)
    return Subgraph(dag, result=dag.call(functions.pair, summed, right={"again": [large]}))


def nowhere(count: int) -> Subgraph[Any]:
    dag = DAG()
    dag.call(np.sum, np.arange(count))
    return Subgraph(
        dag, result=dag.call(functions.pair, 1, id="with a generator", right=(item for item in [1]))
    )


def in_parts(*nbytes: int) -> Parts[bytes]:
    return Parts(bytes([number]) * size for number, size in enumerate(nbytes))


def in_circles() -> Subgraph[Any]:
    dag = DAG()
    first = dag.call(functions.same, Constant(1), id="first")
    dag.add_function(Function("second", ["no such function"], functions.same))
    return Subgraph(dag, result=first)


def nested() -> list[Any]:
    return [halves(0, 2)]


async def expansion_of(harness: PoolHarness, index: int) -> Expansion:
    await harness.end_of(index)
    assert index in harness.done, harness.failed.get(index)
    additions = harness.done[index].additions
    assert additions is not None
    assert additions.expansion is not None
    return additions.expansion


@pytest.mark.parametrize(("worker", "code"), [(SYNC, halves), (ASYNC, later_halves)])
async def test_subgraph_arrives_compiled(harness: PoolHarness, worker: Any, code: Any) -> None:
    expansion = await expansion_of(harness, harness.start(worker, code, 0, 8))

    assert expansion.result == 2
    assert expansion.args == [(~0, ~1), (~1, ~2), (0, 1)]
    assert [decode(value) for value in expansion.values if isinstance(value, bytes)] == [0, 4, 8]
    assert (expansion.producers, expansion.dependents) == ([(), (), (0, 1)], [[2], [2], []])
    assert (expansion.bottom_level, expansion.template_of) == ([2, 2, 1], [0, 0, 1])
    assert [grown.name for grown in expansion.templates] == ["halves", "add"]
    recursive, add = (grown.template for grown in expansion.templates)
    assert recursive is not None
    assert add is not None
    assert (recursive.by_reference, recursive.code) == (True, b"tests.workers.test_growths:halves")
    assert add.cost == {"cpu": 2}


async def test_code_is_sent_once_per_run_and_again_after_a_failure(harness: PoolHarness) -> None:
    templates = {0: template(halves)}
    harness.pool.give(SYNC, RUN, templates, [job(0, 0, 2), job(1, 2, 4), job(2, 4, 6, attempt=2)], None)
    harness.pool.give(SYNC, RunId(8), templates, [job(3, 0, 2)], None)

    seen = [await expansion_of(harness, index) for index in range(4)]

    carried = [[grown.template is not None for grown in expansion.templates] for expansion in seen]
    assert carried == [[True, True], [False, False], [True, True], [True, True]]
    assert len({tuple(grown.key for grown in expansion.templates) for expansion in seen}) == 1


async def test_large_arguments_stay_in_the_store(harness: PoolHarness) -> None:
    index = harness.start(SYNC, with_large_arguments, 50_000, run=7)

    expansion = await expansion_of(harness, index)

    additions = harness.done[index].additions
    assert additions is not None
    value, constants = expansion.values[0], expansion.constants[0]
    assert isinstance(value, Ref)
    assert isinstance(constants, Ref)
    assert [value.index, constants.index] == [part.index for part in additions.parts][::-1]
    assert all(part.index >= PARTS and part.nbytes > 400_000 for part in additions.parts)
    stored = {part.index: harness.store / f"{7:016x}-{part.index}.1" for part in additions.parts}
    assert np.array_equal(decode(stored[value.index].read_bytes()), np.arange(50_000))
    _, kwargs = decode_call(stored[constants.index].read_bytes())
    assert np.array_equal(kwargs["right"]["again"][0], np.arange(50_000))


async def test_what_cannot_be_sent_names_its_function_and_leaves_nothing_stored(harness: PoolHarness) -> None:
    index = harness.start(SYNC, nowhere, 50_000)
    await harness.end_of(index)

    kind, error, reason = harness.failed[index]

    assert (kind, type(decode_exception(error))) == ("serialization", SerializationError)
    assert "function 'with a generator' of the subgraph" in reason
    assert "a generator" in reason
    assert [path.name for path in harness.store.iterdir()] == [".handoff-node"]


async def test_subgraph_that_is_no_graph_fails_its_function(harness: PoolHarness) -> None:
    index = harness.start(SYNC, in_circles)
    await harness.end_of(index)

    kind, error, reason = harness.failed[index]

    assert kind == "serialization"
    assert "no such function" in reason
    assert isinstance(decode_exception(error), MissingFunctionError)


async def test_subgraph_within_a_value_is_refused(harness: PoolHarness) -> None:
    index = harness.start(SYNC, nested)
    await harness.end_of(index)

    assert harness.failed[index][0] == "serialization"
    assert "by itself" in harness.failed[index][2]


async def test_only_large_items_are_parts(harness: PoolHarness) -> None:
    index = harness.start(SYNC, in_parts, 10, 100_000, 20, 200_000, run=7)
    await harness.end_of(index)

    done = harness.done[index]

    assert done.additions is not None
    assert [part.nbytes > 64 * 1024 for part in done.additions.parts] == [True, True]
    assert isinstance(done.value, bytes)
    assert decode(done.value, ["first", "second"]) == [b"\0" * 10, "first", b"\2" * 20, "second"]


async def test_of_many_items_only_few_travel_with_messages(harness: PoolHarness) -> None:
    index = harness.start(SYNC, in_parts, *[50_000] * 20, *[1_000] * 20, run=7)
    await harness.end_of(index)

    done = harness.done[index]

    assert done.additions is not None
    assert len(done.additions.parts) == 15
    assert isinstance(done.value, bytes)
    assert len(done.value) < 300_000


async def test_functions_take_lists_whole_or_by_reference(harness: PoolHarness) -> None:
    index = harness.start(SYNC, in_parts, 10, 100_000, run=7)
    await harness.end_of(index)
    done = harness.done[index]
    assert done.additions is not None
    assert isinstance(done.value, bytes)
    [part] = done.additions.parts
    name = f"{7:016x}-{part.index}"
    (harness.store / f"{name}.1").rename(harness.store / name)

    whole = Assembled(done.value, [Ref(part.index, part.nbytes, [])])
    templates = {0: template(len), 1: template(functions.kinds_of, 1)}
    jobs = [
        Job(1, 1, 1, [whole], None),
        Job(2, 1, 1, [Listed(done.value, [part])], None),
    ]
    harness.pool.give(SYNC, RUN, templates, jobs, None)
    await harness.until(lambda: {1, 2} <= harness.done.keys())

    assert harness.result(1) == ["bytes", "bytes"]
    assert harness.result(2) == ["bytes", "PartRef"]
