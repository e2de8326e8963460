"""Costs, devices and places, as far as one node shows them."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from tests.processes import functions
from tests.processes.app import App, most_at_once, single

pytestmark = pytest.mark.processes


@pytest.fixture
def meeting(tmp_path: Path) -> str:
    place = tmp_path / "meeting"
    place.mkdir()
    return str(place)


def many(count: int, cost: dict[str, float] | None, code: Any = functions.span) -> handoff.DAG:
    return handoff.DAG().add_functions(
        handoff.Function(number, [], code, cost=cost) for number in range(count)
    )


def gathering(place: str, count: int, cost: dict[str, float] | None) -> handoff.DAG:
    """Functions that end only if all of them run at once."""
    return handoff.DAG().add_functions(
        handoff.Function(number, [], functions.meet, extra_args=[place, str(number), count], cost=cost)
        for number in range(count)
    )


@pytest.mark.parametrize(
    ("cost", "most"),
    [({"cpu": 1}, 2), ({"cpu": 2}, 1), ({"memory": 4000}, 2), ({"cpu": 0.5, "memory": 8000}, 1)],
)
async def test_dag_ten_times_larger_than_the_node_queues(app: App, cost: dict[str, float], most: int) -> None:
    run = await app.run(many(20, cost))

    assert most_at_once(run.results.values()) == most
    await app.until_idle()


async def test_fractions_of_a_core_run_together(app: App, meeting: str) -> None:
    await app.run(gathering(meeting, 8, {"cpu": 0.25}))


async def test_custom_resources_are_shared_out(app: App) -> None:
    await app.session.register_node(app.node.name, {"cpu": 4, "licence": 3})

    run = await app.run(many(12, {"licence": 1}))

    assert most_at_once(run.results.values()) == 3


async def test_gpus_are_handed_out_one_by_one(app: App, meeting: str) -> None:
    await app.session.register_node(app.node.name, {"cpu": 2, "gpu": 2})

    run = await app.run(gathering(meeting, 2, {"gpu": 1}))

    assert sorted(run.results.values()) == ["0", "1"]


async def test_gpus_seen_are_those_claimed(app: App) -> None:
    def visible() -> str | None:
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    async def visible_later() -> str | None:
        return visible()

    await app.session.register_node(app.node.name, {"cpu": 2, "gpu": 2})

    assert await app.run_one(single(visible, cost={"gpu": 2})) == "0,1"
    assert await app.run_one(single(visible, cost={"gpu": 0.5})) in {"0", "1"}
    assert await app.run_one(single(visible_later, cost={"gpu": 2})) == "0,1"
    assert await app.run_one(single(visible)) == os.environ.get("CUDA_VISIBLE_DEVICES")


async def test_devices_are_never_shared_by_whole_claims(app: App) -> None:
    def used() -> tuple[str, float, float]:
        return (os.environ["CUDA_VISIBLE_DEVICES"], *functions.span())

    await app.session.register_node(app.node.name, {"cpu": 2, "gpu": 2})
    run = await app.run(many(20, {"gpu": 1}, used))

    for device in ("0", "1"):
        assert (
            most_at_once((began, ended) for seen, began, ended in run.results.values() if seen == device) == 1
        )


async def test_need_that_no_node_offers_is_told_at_once(app: App) -> None:
    with pytest.raises(handoff.AllocationError) as caught:
        await app.run(single(functions.span, cost={"cpu": 64}))

    assert caught.value.function_id == "only"
    assert caught.value.need == {"cpu": 64}
    assert caught.value.offers == {app.node.name: {"cpu": 2, "memory": 8000}}
    for part in ("'only'", "'cpu': 64", app.node.name, "'memory': 8000"):
        assert part in str(caught.value)


async def test_unknown_resource_is_told_at_once(app: App) -> None:
    with pytest.raises(handoff.AllocationError, match="'tpu': 1"):
        await app.run(single(functions.span, cost={"tpu": 1}))


async def test_pin_to_a_name_that_nobody_bears_lists_the_names_there_are(app: App) -> None:
    with pytest.raises(handoff.AllocationError, match="'elsewhere'") as caught:
        await app.run(single(functions.span, node="elsewhere"))

    assert app.node.name in str(caught.value)


async def test_nodes_that_are_not_there_can_run_nothing(app: App) -> None:
    with pytest.raises(handoff.AllocationError):
        await app.run(single(functions.span), nodes=["elsewhere"])


async def test_pinned_function_runs_on_its_node(app: App) -> None:
    run = await app.run(single(functions.span, node=app.node.name))

    assert run.allocations == {"only": app.node.name}


async def test_local_run_ignores_costs_and_places(app: App) -> None:
    run = await app.session.execute_local(single(functions.span, cost={"cpu": 64}, node="elsewhere"))

    assert run.allocations == {"only": app.node.name}


async def test_collocated_chain_runs_though_its_sum_exceeds_the_node(app: App) -> None:
    dag = handoff.DAG().add_function(handoff.Function(0, [], functions.span, cost={"cpu": 2}))
    for number in range(1, 6):
        dag.add_function(
            handoff.Function(
                number, [number - 1], functions.span, cost={"cpu": 2}, node=handoff.collocated(number - 1)
            )
        )

    run = await app.run(dag)

    assert most_at_once(run.results.values()) == 1


async def test_inline_functions_run_in_their_consumers_worker_each_time(app: App) -> None:
    dag = handoff.DAG()
    dag.add_function(handoff.Function("pid", [], os.getpid, type="inline"))
    dag.add_function(handoff.Function("negative", ["pid"], lambda pid: -pid, type="inline"))
    for number in range(4):
        dag.add_function(handoff.Function(number, ["negative"], lambda given: (-given, os.getpid())))

    run = await app.run(dag)

    assert all(given == own for given, own in run.results.values())
    assert list(run.results) == [0, 1, 2, 3]


async def test_failing_inline_function_fails_its_consumer(app: App) -> None:
    dag = handoff.DAG()
    dag.add_function(handoff.Function("bad", [], lambda: 1 / 0, type="inline"))
    dag.add_function(handoff.Function("consumer", ["bad"], str))

    with pytest.raises(handoff.FunctionFailed, match="'consumer'") as caught:
        await app.run(dag, max_retries=0)

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_hooks_get_the_names_of_both_nodes(app: App) -> None:
    argument = handoff.Argument("made", serialize=functions.with_place, deserialize=functions.with_place)
    dag = handoff.DAG().add_function(handoff.Function("made", [], lambda: 1))
    dag.add_function(handoff.Function("taken", [argument], lambda value: value))

    run = await app.run(dag)

    here = app.node.name
    assert run.results["taken"] == ((1, here, here), here, here)
    assert run.results["made"] == 1


class FirstOnly:
    """A policy of a user's own; it notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, list[str]]] = []

    def choose(self, need: handoff.Need, nodes: Sequence[handoff.NodeView]) -> handoff.NodeView | None:
        self.asked.append((need.function_id, [node.name for node in nodes]))
        return nodes[0]


async def test_users_policy_is_asked_also_where_there_is_one_node(app: App) -> None:
    policy = FirstOnly()

    await app.run(single(functions.span), allocation_strategy=policy)

    assert policy.asked == [("only", [app.node.name])]


async def test_policy_that_raises_ends_the_run_with_its_error(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def choose(self, need: handoff.Need, nodes: Sequence[handoff.NodeView]) -> handoff.NodeView | None:
            raise LookupError("of the policy's own")

    with pytest.raises(handoff.HandoffError, match="of the policy's own") as caught:
        await app.run(single(functions.span), allocation_strategy=Broken())

    assert isinstance(caught.value.__cause__, LookupError)
    await app.until_idle()
    caplog.clear()


async def test_policy_that_chooses_what_it_was_not_given_is_told_so(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    class Confused:
        def choose(self, need: handoff.Need, nodes: Sequence[handoff.NodeView]) -> handoff.NodeView | None:
            return "n1"  # type: ignore[return-value]  # that is the point

    with pytest.raises(handoff.HandoffError, match=r"Confused.*'n1'.*'only'"):
        await app.run(single(functions.span), allocation_strategy=Confused())

    await app.until_idle()
    caplog.clear()


async def test_explain_names_a_policy_that_never_chooses(app: App) -> None:
    class Undecided:
        def __init__(self) -> None:
            self.asked = asyncio.Event()

        def choose(self, need: handoff.Need, nodes: Sequence[handoff.NodeView]) -> handoff.NodeView | None:
            self.asked.set()
            return None

    dag, policy = single(functions.span), Undecided()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(app.run(dag, allocation_strategy=policy))
        await policy.asked.wait()

        (explanation,) = app.session.explain(dag.id)

        assert explanation.function_id == "only"
        assert explanation.state == "ready"
        assert "policy" in explanation.nodes[app.node.name]
        running.cancel()
