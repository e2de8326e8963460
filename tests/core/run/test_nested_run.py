from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import pytest

from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.core.run.events import (
    Cancel,
    MessageFromNode,
    RunEffect,
    SendToNode,
    StartNode,
)
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.nested_run import FIRST_PAUSE_S, MAX_LISTED, identified
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.errors import AllocationError, FunctionFailed
from handoff_actors.graph import Function
from handoff_actors.ids import FunctionId, Resources, RunId
from handoff_actors.text import repr_of
from handoff_actors.wire.messages.jobs import Ticket
from handoff_actors.wire.messages.nested import (
    MAX_ANCESTORS,
    MAX_ID,
    MAX_INT,
    MAX_LABEL,
    MAX_WANTS,
    Ancestor,
    Holding,
    Identified,
    Identify,
    Probe,
    Probed,
    WaitingRun,
    Want,
)
from handoff_actors.wire.messages.runs import Assign, Recall, Started
from tests.core.builders import (
    CLOSED,
    RUN,
    assigned,
    async_code,
    code,
    completed,
    done,
    ends,
    error_of,
    failed,
    node_up,
    recalled,
    run_of,
)

if TYPE_CHECKING:
    from handoff_actors.core.run.grow import RunMachineEvent

PARENT = Ancestor(RunId(1), 4, 2)
GRANDPARENT = Ancestor(RunId(2), 0, 1)
LEAF = Function("leaf", [], code, cost={"cpu": 1})
CPU = Want({"cpu": 1.0}, is_async=False)
CLAIM: Resources = {"cpu": 1.0}
NO_MEMORY: Resources = {}


def nested_run(*functions: Function, parent: Ancestor | None = PARENT, **changes: object) -> RunMachine:
    """A nested run on one node of one cpu, which its parent has."""
    run = run_of(*(functions or (LEAF,)), parent=parent, **changes)
    run.start(0.0, [node_up("a", {"cpu": 1.0}, spare={"cpu": 0.0})])
    return run


def holding(ancestor: Ancestor = PARENT, label: str = "'p'", cost: Resources = CLAIM) -> Holding:
    return Holding(ancestor, label, cost, [], has_worker=True)


def waits(*holdings: Holding, run: RunId = RUN, want: Want = CPU) -> WaitingRun:
    return WaitingRun(run, [want], list(holdings or [holding()]))


def wants_node(effects: Sequence[RunEffect]) -> bool:
    return any(isinstance(effect, StartNode) for effect in effects)


def probes(effects: Sequence[RunEffect]) -> list[tuple[str, Probe]]:
    return [
        (effect.name, effect.message)
        for effect in effects
        if isinstance(effect, SendToNode) and isinstance(effect.message, Probe)
    ]


def answer(
    run: RunMachine,
    probe: Probe,
    *waiting: WaitingRun,
    now: float,
    name: str = "a",
    is_active: bool = False,
    ancestors: Sequence[Ancestor] = (),
    cpu: float = 1.0,
    memory: Resources = NO_MEMORY,
) -> list[RunEffect]:
    message = Probed(
        RUN,
        probe.round,
        is_active=is_active,
        capabilities={"cpu": cpu, **memory},
        workers=1,
        most_workers=9,
        ancestors=list(ancestors),
        waiting=list(waiting),
    )
    return run.handle(MessageFromNode(name, message), now)


def next_probe(run: RunMachine) -> tuple[float, Probe]:
    """Let time pass until the run asks its node again."""
    assert run.wake_at is not None
    now = run.wake_at
    ((_, probe),) = probes(run.wake(now))
    return now, probe


def begin_to_wait(run: RunMachine) -> tuple[float, Probe]:
    """Let the run find out that none of its functions runs, and ask all nodes what it waits for."""
    now, question = next_probe(run)
    ((_, probe),) = probes(answer(run, question, now=now))
    return now, probe


def find_out(run: RunMachine, *waiting: WaitingRun) -> float:
    """Let the run find itself deadlocked, over and over, until it ends. Returns the time of its end."""
    now, probe = begin_to_wait(run)
    for _ in range(100):
        answer(run, probe, *(waiting or [waits()]), now=now)
        if run.wake_at is None:
            return now
        now, probe = next_probe(run)
    raise AssertionError("the run goes on")


def explained(run: RunMachine) -> dict[str, str]:
    return next(iter(run.view.explain())).nodes


def test_run_of_an_app_asks_nothing() -> None:
    run = nested_run(parent=None)

    assert run.wake_at is None


def test_nested_run_says_whose_it_is() -> None:
    run = run_of(LEAF, parent=PARENT)

    (assign,) = run.start(0.0, [node_up("a")])

    assert isinstance(assign, SendToNode)
    assert isinstance(assign.message, Assign)
    assert assign.message.parent == PARENT


def test_quiet_run_asks_first_whether_its_functions_run() -> None:
    run = nested_run()

    assert next_probe(run) == (FIRST_PAUSE_S, Probe(RUN, 1, [PARENT], []))


def test_run_whose_functions_run_asks_again_ever_later() -> None:
    run = nested_run()
    times = []

    for _ in range(6):
        now, probe = next_probe(run)
        assert answer(run, probe, now=now, is_active=True) == []
        times.append(round(now, 1))

    assert times == [0.2, 0.6, 1.4, 3.0, 5.5, 8.0]


def test_run_of_which_nothing_runs_tells_all_nodes_what_it_needs() -> None:
    run = nested_run()
    now, question = next_probe(run)

    asked = probes(answer(run, question, now=now))

    assert asked == [("a", Probe(RUN, 2, [PARENT], [CPU]))]


def test_run_that_waits_for_what_its_ancestor_holds_ends_within_the_allocation_timeout() -> None:
    run = nested_run(allocation_timeout_s=3.0)

    ended_at = find_out(run)

    error = error_of(run)
    assert ended_at == 3.0
    assert isinstance(error, AllocationError)
    assert (error.function_id, error.need) == ("leaf", {"cpu": 1.0})
    assert error.held_by == {"a": ["'p'"]}
    assert error.offers == {"a": {"cpu": 1.0}}
    assert "on node 'a' by function 'p' (cpu 1, a worker)" in str(error)
    assert "Session(local_node=...)" in str(error)
    assert "allocation_timeout=3 s" in str(error)


def test_two_rounds_have_to_agree_however_short_the_timeout_is() -> None:
    run = nested_run(allocation_timeout_s=0.0)
    now, probe = begin_to_wait(run)

    answer(run, probe, waits(), now=now)
    assert run.wake_at == pytest.approx(now + 0.02)
    again_at = find_out_again(run)

    assert again_at == pytest.approx(now + 0.02)
    assert isinstance(error_of(run), AllocationError)


def find_out_again(run: RunMachine) -> float:
    now, probe = next_probe(run)
    answer(run, probe, waits(), now=now)
    return now


def test_run_that_ends_so_tells_the_nodes() -> None:
    run = nested_run(allocation_timeout_s=0.0)
    now, probe = begin_to_wait(run)
    answer(run, probe, waits(), now=now)
    now, probe = next_probe(run)

    effects = answer(run, probe, waits(), now=now)

    assert probes(effects) == [("a", Probe(RUN, probe.round + 1, [], []))]


def test_function_that_needs_no_resources_waits_for_a_worker() -> None:
    run = nested_run(Function("leaf", [], code), allocation_timeout_s=1.0)

    find_out(run, waits(holding(cost={}), want=Want({}, is_async=False)))

    error = error_of(run)
    assert "needs a worker" in str(error)
    assert "by function 'p' (a worker)" in str(error)


def test_ancestor_whose_id_is_unknown_is_named_by_its_number() -> None:
    run = nested_run(allocation_timeout_s=1.0)

    find_out(run, waits(holding(label="")))

    assert "function number 4 of run 1" in str(error_of(run))


def test_error_lists_so_many_functions_and_the_runs_own_ancestors_first() -> None:
    run = nested_run(allocation_timeout_s=1.0)
    others = [
        waits(holding(Ancestor(RunId(9), number, 1), f"'o{number}'"), run=RunId(90 + number))
        for number in range(MAX_LISTED + 1)
    ]

    find_out(run, *others, waits())

    error = error_of(run)
    assert "by function 'p' (cpu 1, a worker), function 'o0'" in str(error)
    assert "and 2 more" in str(error)


def test_run_that_waits_for_an_ordinary_function_waits_on_whatever_the_timeout() -> None:
    run = nested_run(allocation_timeout_s=1.0)
    now, probe = begin_to_wait(run)

    for _ in range(20):
        # The node has two cpus, one of which an ordinary function has.
        assert answer(run, probe, waits(), now=now, cpu=2.0) == []
        now, probe = next_probe(run)

    assert probe.wants == [CPU]
    assert not run.is_over


def test_run_whose_ancestors_hold_nothing_leaves_it_to_others_to_end() -> None:
    run = nested_run(allocation_timeout_s=1.0)
    now, probe = begin_to_wait(run)

    for _ in range(20):
        answer(run, probe, waits(run=RunId(99)), now=now)
        now, probe = next_probe(run)

    assert not run.is_over


def test_patience_begins_anew_once_the_way_is_free() -> None:
    run = nested_run(allocation_timeout_s=2.0)
    now, probe = begin_to_wait(run)
    answer(run, probe, waits(), now=now)
    free_at, probe = next_probe(run)
    answer(run, probe, waits(), now=free_at, cpu=2.0)

    while run.wake_at is not None:
        now, probe = next_probe(run)
        answer(run, probe, waits(), now=now)

    assert now == free_at + 2.0


def test_run_that_moves_tells_the_nodes_and_is_quiet_again() -> None:
    run = nested_run(Function("first", [], code), Function("second", [], code))
    _, probe = begin_to_wait(run)

    effects = run.handle(completed("a", done(0)), 1.0)

    assert probes(effects) == [("a", Probe(RUN, probe.round + 1, [], []))]
    assert run.wake_at == 1.0 + FIRST_PAUSE_S
    assert answer(run, probe, waits(), now=1.1) == []


@pytest.mark.parametrize("what", ["started", "failed", "node down"])
def test_whatever_happens_to_a_function_is_a_move(what: str) -> None:
    run = nested_run(LEAF, observe=True)
    begin_to_wait(run)
    events: dict[str, RunMachineEvent] = {
        "started": MessageFromNode("a", Started(RUN, [Ticket(0, 1)])),
        "failed": failed("a", 0),
        "node down": NodeDown("a", "gone"),
    }

    run.handle(events[what], 1.0)

    # Where no node is left, the allocation timeout comes later.
    assert run.wake_at == 1.0 + FIRST_PAUSE_S


def test_function_that_comes_back_unstarted_is_no_move() -> None:
    run = nested_run(LEAF)
    _, probe = begin_to_wait(run)

    run.handle(recalled("a", 0), 1.0)

    assert run.wake_at is None
    assert answer(run, probe, waits(), now=1.0) == []
    assert run.wake_at is not None


def test_run_that_rests_before_a_retry_waits_for_nobody() -> None:
    run = nested_run(LEAF, backoff=(60.0, 1.0, 60.0))
    run.handle(failed("a", 0), 0.0)

    assert run.wake_at is not None
    assert run.wake(run.wake_at) == []
    assert run.wake_at is not None


def test_run_without_a_function_that_could_start_asks_nothing() -> None:
    first, second = Function("first", [], code), Function("second", ["first"], code)
    run = nested_run(first, second)
    run.handle(NodeDown("a", "gone"), 0.0)

    assert run.wake(FIRST_PAUSE_S) == []


def test_functions_that_are_ready_count_as_those_that_are_queued_do() -> None:
    run = nested_run(LEAF, Function("pinned", [], async_code, cost={"cpu": 1}, node="b"), max_concurrency=1)
    run.handle(node_up("b"), 0.0)
    now, question = next_probe(run)

    asked = probes(answer(run, question, now=now, name=run.state.node[0] or ""))

    (to_a, to_b) = asked
    assert to_a[1].wants == [CPU, Want({"cpu": 1.0}, is_async=True, nodes=["b"])]
    assert (to_a[0], to_b[0]) == ("a", "b")


def test_all_nodes_have_to_answer() -> None:
    run = nested_run(allocation_timeout_s=1.0)
    now, probe = begin_to_wait(run)
    run.handle(node_up("b", {"cpu": 0.0}), now)

    answer(run, probe, waits(), now=now)

    assert explained(run) == {}


def test_run_that_may_use_some_nodes_only_tells_all() -> None:
    run = run_of(LEAF, parent=PARENT, nodes=["a"], allocation_timeout_s=1.0)
    run.start(0.0, [node_up("a", {"cpu": 1.0}, spare={"cpu": 0.0}), node_up("b", {"cpu": 8.0})])
    assert list(run.scheduler.nodes) == ["a"]
    now, question = next_probe(run)

    asked = probes(answer(run, question, now=now))
    answer(run, asked[0][1], now=now, name="b", cpu=8.0)
    answer(run, asked[0][1], waits(want=asked[0][1].wants[0]), now=now)

    assert [name for name, _ in asked] == ["a", "b"]
    assert asked[0][1].wants == [Want({"cpu": 1.0}, is_async=False, nodes=["a"])]
    assert "lacks free cpu" in explained(run)["a"]


def test_ancestors_of_ancestors_are_told_at_once() -> None:
    run = nested_run()
    now, probe = begin_to_wait(run)

    ((_, again),) = probes(answer(run, probe, waits(), now=now, ancestors=[GRANDPARENT, PARENT]))

    assert again.ancestors == [PARENT, GRANDPARENT]


def test_so_many_ancestors_are_enough() -> None:
    run = nested_run()
    now, probe = begin_to_wait(run)
    many = [Ancestor(RunId(3), number, 1) for number in range(MAX_ANCESTORS + 5)]

    ((_, again),) = probes(answer(run, probe, waits(), now=now, ancestors=many))

    assert len(again.ancestors) == MAX_ANCESTORS


def test_run_that_waits_for_too_many_kinds_of_functions_waits_on() -> None:
    functions = [
        Function(number, [], code, cost={"cpu": 1 / (1 + number)}) for number in range(MAX_WANTS + 1)
    ]
    run = run_of(*functions, parent=PARENT)
    run.start(0.0, [node_up("a", {"cpu": 1.0}, spare={"cpu": 0.0})])
    now, question = next_probe(run)

    assert answer(run, question, now=now) == []
    assert run.wake_at is not None


def test_run_says_why_it_waits() -> None:
    run = nested_run(LEAF, Function("other", [], async_code))
    now, probe = begin_to_wait(run)

    answer(run, probe, waits(), now=now)

    leaf, other = run.view.explain()
    assert leaf.nodes == {
        "a": "lacks free cpu, held until runs of their own have ended by function 'p' (cpu 1, a worker)"
    }
    assert (leaf.state, other.nodes) == ("sent", {})


def test_cancelled_run_tells_the_nodes() -> None:
    run = nested_run()
    begin_to_wait(run)

    effects = run.handle(Cancel(), 1.0)

    assert [message.wants for _, message in probes(effects)] == [[]]
    assert ends(run.handle(MessageFromNode("a", CLOSED), 1.1))[0].cancelled


def test_any_run_tells_the_id_of_a_function() -> None:
    run = nested_run(Function("f" * 300, [], code), parent=None)

    (told,) = run.handle(MessageFromNode("a", Identify(RUN, 0)), 1.0)

    assert told == SendToNode("a", Identified(RUN, 0, repr_of("f" * 300, MAX_LABEL), "f" * 300))
    assert run.handle(MessageFromNode("a", Identify(RUN, 7)), 1.0) == []


@pytest.mark.parametrize("plain", ["fit", "ü" * MAX_ID, 0, -5, MAX_INT - 1])
def test_an_id_that_a_message_can_have_is_told_as_it_is(plain: str | int) -> None:
    told = identified(RUN, 3, plain)

    assert (told.index, told.exact_id) == (3, plain)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=Identified) == told


@pytest.mark.parametrize(
    "other", [("fit", 3), None, True, 1.5, "f" * (MAX_ID + 1), "\udcff", MAX_INT, -MAX_INT]
)
def test_any_other_id_is_told_as_text(other: FunctionId) -> None:
    told = identified(RUN, 3, other)

    assert told == Identified(RUN, 3, repr_of(other, MAX_LABEL))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=Identified) == told


def test_deadlock_of_a_nested_run_is_not_retried() -> None:
    run = run_of(Function("parent", [], code), max_retries=3)
    run.start(0.0, [node_up("a")])

    run.handle(failed("a", 0, "deadlock"), 1.0)

    error = error_of(run)
    assert isinstance(error, FunctionFailed)
    assert (error.kind, error.attempts) == ("deadlock", 1)


def test_run_that_may_have_a_node_asks_for_one_when_the_only_one_leaves() -> None:
    run = nested_run(may_start_node=True)

    effects = run.handle(node_up("a", {"cpu": 1.0}, leaving=True), 0.1)

    # The function is out there as yet, and may have started.
    assert not wants_node(effects)
    assert wants_node(run.handle(recalled("a", 0), 0.2))
    assert not wants_node(run.wake(1.0))


def test_run_whose_ancestors_hold_what_it_needs_gets_no_node_of_its_own() -> None:
    run = nested_run(may_start_node=True, allocation_timeout_s=3.0)
    now, probe = begin_to_wait(run)

    # A node within the function would offer the same memory and devices of the machine once more.
    assert not wants_node(answer(run, probe, waits(), now=now))
    run = nested_run(may_start_node=True, allocation_timeout_s=3.0)
    find_out(run)

    error = error_of(run)
    assert isinstance(error, AllocationError)
    assert "handoff.Subgraph" in str(error)


def test_run_on_certain_nodes_alone_asks_for_no_other() -> None:
    run = nested_run(may_start_node=True, nodes=["a"])
    now, probe = begin_to_wait(run)

    assert not wants_node(answer(run, probe, waits(), now=now))


def test_run_whose_ancestors_hold_all_waits_for_a_node_that_can_be_started() -> None:
    run = nested_run(allocation_timeout_s=10.0)
    starter = NodeUp("alloc", "at-alloc", {}, {}, 0, can_start={"cpu": 1.0})
    run.handle(starter, 0.0)
    now, question = next_probe(run)
    (to_a, to_starter) = probes(answer(run, question, now=now))
    assert (to_a[0], to_starter[0]) == ("a", "alloc")
    answer(run, to_a[1], waits(), now=now)
    nothing = Probed(
        RUN,
        to_a[1].round,
        is_active=False,
        capabilities={},
        workers=0,
        most_workers=0,
        ancestors=[],
        waiting=[],
    )

    run.handle(MessageFromNode("alloc", nothing), now)

    assert explained(run) == {}


# --- Functions that wait where they can't start, while others have room --------------------------------------------


def run_of_two_nodes(**spare_on_b: float) -> tuple[RunMachine, float, dict[str, Probe]]:
    """A nested run whose function waits on node a, before the answers to a round of all nodes."""
    leaf = Function("leaf", [], code, cost={"cpu": 1, "memory": 300})
    run = run_of(leaf, parent=PARENT, policy=POLICIES["most_spare"])
    offer = {"cpu": 1.0, "memory": 1000.0}
    # The queue of b wants more memory than there is.
    crowded = node_up("b", offer, spare=spare_on_b, waiting_claims={"memory": 1200.0})
    run.start(0.0, [node_up("a", offer), crowded])
    assert list(run.scheduler.nodes["a"].sent) == [0]
    now, question = next_probe(run)
    return run, now, dict(probes(answer(run, question, now=now)))


def test_function_is_recalled_that_would_fit_on_a_node_whose_queue_waits_for_something_else() -> None:
    run, now, asked = run_of_two_nodes(cpu=1.0, memory=400.0)

    answer(run, asked["a"], waits(), now=now)
    effects = answer(run, asked["b"], now=now, name="b", memory={"memory": 1000.0})
    moved = run.handle(recalled("a", 0), now + 0.1)

    assert SendToNode("a", Recall(RUN, [Ticket(0, 1)], 1)) in effects
    assert assigned(moved) == [("b", [0])]
    # Once.
    assert not any(isinstance(effect, SendToNode) and isinstance(effect.message, Recall) for effect in moved)


def test_function_stays_where_it_waits_as_long_as_no_node_has_room_for_it() -> None:
    run, now, asked = run_of_two_nodes(cpu=1.0, memory=200.0)

    answer(run, asked["a"], waits(), now=now)

    assert answer(run, asked["b"], now=now, name="b", memory={"memory": 1000.0}) == []


def test_function_that_is_pinned_stays_where_it_waits() -> None:
    run = run_of(Function("leaf", [], code, cost=CLAIM, node="a"), parent=PARENT)
    run.start(0.0, [node_up("a"), node_up("b")])
    now, question = next_probe(run)
    asked = dict(probes(answer(run, question, now=now)))

    answer(run, asked["a"], now=now)

    assert answer(run, asked["b"], now=now, name="b") == []


def test_nothing_is_recalled_from_a_node_that_is_gone_or_has_been_asked() -> None:
    run, _, _ = run_of_two_nodes(cpu=1.0, memory=400.0)
    run.scheduler.nodes["a"].recall_sent(1)

    assert run._work_stealing.recall({"a": [0], "gone": [0]}) == []
