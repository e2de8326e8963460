"""A run on more nodes than are scanned one by one."""

from random import Random

import pytest

from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.core.run.events import SendToNode
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling import scheduler
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.core.run.scheduling.scheduler import MAX_SCANNED_NODES
from handoff_actors.core.run.scheduling.work_stealing import SCAN_S_PER_NODE
from handoff_actors.graph import Function
from handoff_actors.wire.messages.jobs import Ticket
from handoff_actors.wire.messages.runs import Recall
from tests.core.builders import RUN, assigned, code, completed, done, node_up, run_of

MANY = MAX_SCANNED_NODES + 2
NAMES = [f"n{number:02d}" for number in range(MANY)]
#: Another object of its class would count as a policy of the user's own, which is asked about all nodes.
MOST_SPARE = POLICIES["most_spare"]
NODES_GONE = 2


def nodes(cpu: float = 1.0, **others: float) -> list[NodeUp]:
    return [node_up(name, {"cpu": others.get(name, cpu)}) for name in NAMES]


def functions(count: int) -> list[Function]:
    return [Function(f"f{number}", [], code, cost={"cpu": 1}) for number in range(count)]


def most_spare_run(*functions: Function) -> RunMachine:
    return run_of(*functions, policy=MOST_SPARE)


def story(seed: int) -> list[tuple[str, list[int]]]:
    """Messages and their nodes, in a run of random functions on nodes of which some are lost."""
    random = Random(seed)
    layers = [[f"f{layer}-{place}" for place in range(12)] for layer in range(4)]
    run = most_spare_run(
        *(
            Function(
                name, random.sample(above, 2) if above else [], code, cost={"cpu": random.choice([1, 1.5])}
            )
            for above, layer in zip([[], *layers], layers, strict=False)
            for name in layer
        )
    )
    reported = assigned(run.start(0.0, nodes(2.0, n03=3.0, n05=4.0)))
    out = [(name, index) for name, indices in reported for index in indices]
    gone: set[str] = set()
    attempts = dict.fromkeys((index for _, index in out), 1)
    for turn in range(200):
        if not out:
            break
        if len(gone) < NODES_GONE and random.random() < 0.05:
            name = random.choice(sorted(set(NAMES) - gone))
            gone.add(name)
            out = [sent for sent in out if sent[0] != name]
            effects = run.handle(NodeDown(name, "gone"), turn * SCAN_S_PER_NODE / 10)
        else:
            name, index = out.pop(random.randrange(len(out)))
            value: bytes | int = b"v" if random.random() < 0.3 else random.choice([60_000_000, 200_000_000])
            entry = done(index, attempt=attempts[index], value=value)
            effects = run.handle(completed(name, entry), turn * SCAN_S_PER_NODE / 10)
        run.check()
        reported += assigned(effects)
        for name, indices in assigned(effects):
            for index in indices:
                attempts[index] = attempts.get(index, 0) + 1
                out.append((name, index))
    return reported


@pytest.mark.parametrize("seed", range(30))
def test_many_nodes_are_placed_on_as_by_a_scan_of_all(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = story(seed)

    monkeypatch.setattr(scheduler, "MAX_SCANNED_NODES", 1000)

    assert listed == story(seed)


def test_functions_go_to_the_roomiest_of_many_nodes() -> None:
    run = most_spare_run(*functions(1))

    effects = run.start(0.0, nodes(n07=4.0))

    assert assigned(effects) == [("n07", [0])]
    run.check()


def test_each_of_many_nodes_gets_a_function_before_any_queues_one() -> None:
    run = most_spare_run(*functions(MANY + 1))

    effects = run.start(0.0, nodes())

    assert assigned(effects) == [
        ("n00", [0, MANY]),
        *((name, [index]) for index, name in enumerate(NAMES) if index),
    ]
    run.check()


def test_function_goes_to_the_holder_of_its_input_among_many_nodes() -> None:
    run = most_spare_run(
        Function("x", [], code, cost={"cpu": 1}),
        Function("y", ["x"], code, cost={"cpu": 1}),
    )
    run.start(0.0, nodes(2.0, n03=3.0))

    effects = run.handle(completed("n03", done(0, value=50_000_000)), 1.0)

    assert assigned(effects) == [("n03", [1])]


def test_node_that_is_gone_is_not_chosen_among_many_nodes() -> None:
    run = most_spare_run(*functions(1))
    run.start(0.0, nodes(n03=3.0))

    effects = run.handle(NodeDown("n03", "gone"), 1.0)

    assert assigned(effects) == [("n00", [0])]


def test_many_nodes_are_scanned_for_work_to_recall_now_and_then() -> None:
    run = most_spare_run(*functions(MANY + 1))
    run.start(0.0, nodes())
    soon = SCAN_S_PER_NODE * MANY / 2

    at_once = run.handle(completed("n01", done(1)), soon)
    later = run.handle(completed("n02", done(2)), 1.0)

    assert at_once == []
    assert later == [SendToNode("n00", Recall(RUN, [Ticket(MANY, 1)], room=2))]


def test_free_room_is_shared_by_all_overloaded_nodes() -> None:
    run = most_spare_run(*functions(4))
    run.start(0.0, [node_up(name, {"cpu": 1}) for name in NAMES[:2]])

    effects = run.handle(node_up(NAMES[2], {"cpu": 2}), 1.0)

    assert {effect.name for effect in effects if isinstance(effect, SendToNode)} == set(NAMES[:2])
