"""Placement counts what all runs of a session, and other apps, have on each node."""

from collections import Counter

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.events import (
    Cancel,
    MessageFromNode,
    RoomFreed,
    RunEffect,
    SendToNode,
    TellOfRoom,
)
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling import session_load
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.core.run.scheduling.session_load import SessionLoad
from handoff_actors.graph import Function
from handoff_actors.ids import Index, Resources, RunId
from handoff_actors.wire.messages.jobs import Ticket
from handoff_actors.wire.messages.runs import Closed, Recall
from tests.core.builders import (
    assigned,
    code,
    completed,
    done,
    node_state,
    node_up,
    options,
    program_of,
    recalled,
)

ONE_CORE = {"cpu": 1.0}
THREE = [node_up(name, ONE_CORE, workers=1) for name in ("a", "b", "c")]
SYNC = RequirementClass(0, {}, is_async=False)
CPU = RequirementClass(1, ONE_CORE, is_async=False)
MEMORY = RequirementClass(2, {"memory": 100.0}, is_async=False)
COROUTINE = RequirementClass(3, {}, is_async=True)


def run_of(load: SessionLoad, number: int, *costs: Resources | None) -> RunMachine:
    functions = [Function(index, [], code, cost=cost) for index, cost in enumerate(costs)]
    return RunMachine(
        RunId(number), program_of(*functions), options(load=load, policy=POLICIES["most_spare"])
    )


def first_node(effects: list[RunEffect]) -> str:
    [(name, _)] = assigned(effects)
    return name


def spread(*costs: Resources | None, load: SessionLoad | None = None) -> list[str]:
    """The nodes of runs of one function each, one run after the other."""
    load = load or SessionLoad()
    runs = [run_of(load, number, cost) for number, cost in enumerate(costs)]
    return [first_node(run.start(0.0, THREE)) for run in runs]


def told(load: SessionLoad) -> list[RunId]:
    return list(load.runs_to_tell())


# --- Placement --------------------------------------------------------------------------------------------------


def test_runs_of_one_session_share_the_nodes_with_and_without_claims() -> None:
    assert sorted(spread(*[None] * 6)) == ["a", "a", "b", "b", "c", "c"]
    assert sorted(spread(*[ONE_CORE] * 6)) == ["a", "a", "b", "b", "c", "c"]
    assert sorted(spread(None, ONE_CORE, None, ONE_CORE, None, ONE_CORE)) == ["a", "a", "b", "b", "c", "c"]


def test_sessions_break_ties_in_different_ways_and_each_always_in_its_own() -> None:
    firsts = {salt: spread(None, load=SessionLoad(salt))[0] for salt in map(str, range(300))}

    assert set(firsts.values()) == {"a", "b", "c"}
    assert min(Counter(firsts.values()).values()) > 75
    assert firsts == {salt: spread(None, load=SessionLoad(salt))[0] for salt in firsts}


def test_what_other_apps_run_and_queue_counts() -> None:
    load = SessionLoad()
    nodes = [
        node_up("a", ONE_CORE, workers=1, spare={"cpu": 0.0}, busy=1),
        node_up("b", ONE_CORE, workers=1, busy=1),
        node_up("c", ONE_CORE, workers=1, waiting_claims={"cpu": 1.0}),
        node_up("d", ONE_CORE, workers=1),
    ]

    assert first_node(run_of(load, 1, ONE_CORE).start(0.0, nodes)) == "d"
    assert first_node(run_of(SessionLoad(), 1, None).start(0.0, nodes)) in {"c", "d"}


def test_own_functions_are_not_taken_for_those_of_others() -> None:
    load = SessionLoad()
    run = run_of(load, 1, ONE_CORE)
    run.start(0.0, [node_up("a", ONE_CORE)])

    load.take(node_up("a", ONE_CORE, spare={"cpu": 0.0}, busy=1))

    assert (load.nodes["a"].others, load.nodes["a"].others_busy) == ({"cpu": 0.0}, 0)


def test_coroutines_take_no_worker_and_functions_without_cores_take_one() -> None:
    state = node_state(node_up("a", {"cpu": 2.0, "memory": 1000.0}, workers=2))
    for index, need in enumerate((COROUTINE, COROUTINE, MEMORY)):
        state.add([Index(index)], need)

    load = state.load
    assert (load.all_busy, load.coroutines) == (1, 2)
    assert load.spare_share({}, is_async=False, is_claimed=False) == 0.0
    assert load.spare_share({}, is_async=True, is_claimed=False) == -1.0
    assert load.spare_share(ONE_CORE, is_async=False, is_claimed=False) == 0.0
    assert load.spare_share({"memory": 100.0}, is_async=True, is_claimed=False) == 0.8
    assert (load.room(SYNC), load.room(CPU), load.room(COROUTINE)) == (1, 2, session_load.MAX_COROUTINES - 2)
    load.check()


def test_coroutines_that_have_ended_leave_their_room() -> None:
    state = node_state(node_up("a"))
    for index in range(3):
        state.add([Index(index)], COROUTINE)

    state.remove([Index(1)])

    load = state.load
    assert (load.all_busy, load.coroutines) == (0, 2)
    load.check()


def test_a_function_waits_for_a_worker_or_for_its_claim() -> None:
    state = node_state(node_up("a", {"cpu": 2.0}, workers=1))
    state.add([Index(0)], SYNC)
    state.add([Index(1)], SYNC)
    state.add([Index(2)], RequirementClass(4, {"cpu": 1.5}, is_async=False))
    state.add([Index(3)], RequirementClass(4, {"cpu": 1.5}, is_async=False))

    load = state.load
    assert load.waiting(SYNC) == 3
    assert load.waiting(CPU) == 1
    assert load.waiting(RequirementClass(5, {"cpu": 0.0}, is_async=False)) == 0
    assert load.is_overloaded


def test_changes_are_told_to_those_that_ask_and_all_if_they_ask_late() -> None:
    load = SessionLoad()
    state = node_state(node_up("a"), load)
    load.is_indexed = True
    before = load.version
    state.add([Index(0)], SYNC)

    assert load.changed_since(load.version) == []
    assert load.changed_since(before) == ["a"]
    for _ in range(session_load.MAX_CHANGES):
        load.changed("a")
    assert load.changed_since(before) is None


# --- What is news to runs ---------------------------------------------------------------------------------------


def test_runs_hear_of_a_node_only_if_more_than_its_load_has_changed() -> None:
    load = SessionLoad()
    first = node_up("a", ONE_CORE)

    assert load.take(first)
    assert not load.take(first)
    assert not load.take(node_up("a", ONE_CORE, busy=1))
    assert load.take(node_up("a", {"cpu": 2.0}))
    assert load.take(node_up("a", {"cpu": 2.0}, leaving=True))
    assert load.take(NodeDown("a", "it is gone"))
    assert load.take(node_up("a", ONE_CORE))
    load.nodes["a"].is_paused = True
    assert load.nodes["a"].idle_workers == 0
    assert load.take(node_up("a", ONE_CORE))


def test_round_trip_is_the_least_of_several() -> None:
    load = node_state(node_up("a")).load

    for seconds in (0.2, 0.02, 0.05):
        load.measure_trip(seconds)
    assert load.round_trip_s == 0.0
    load.measure_trip(0.03)
    assert load.round_trip_s == 0.02


# --- Runs that are told of room ---------------------------------------------------------------------------------


def test_waiting_function_is_called_back_for_room_that_another_run_has_freed() -> None:
    load = SessionLoad()
    short, long, waiting = (run_of(load, number, None) for number in (1, 2, 3))
    two = THREE[:2]
    places = [first_node(run.start(0.0, two)) for run in (short, long, waiting)]
    assert places == ["a", "b", "a"]
    load.is_freed = False
    waiting_too = run_of(load, 4, None)
    assert first_node(waiting_too.start(0.0, two)) == "b"

    effects = short.handle(completed("a", done(0, ran_s=0.1)), 1.0)

    assert TellOfRoom() in effects
    # The one that waits on the idle node starts there; that on the other is called back once that has ended.
    done_too = waiting.handle(completed("a", done(0, ran_s=0.1)), 2.0)
    assert TellOfRoom() in done_too
    assert told(load) == [RunId(4), RunId(2)]
    asked = waiting_too.handle(RoomFreed(), 2.0)
    assert asked == [SendToNode("b", Recall(RunId(4), [Ticket(Index(0), 1)], room=1))]
    # Room is kept for it.
    assert load.recalling == 1
    assert told(load) == []
    moved = waiting_too.handle(recalled("b", 0), 2.1)
    assert assigned(moved) == [("a", [0])]
    assert load.recalling == 0


def test_app_whose_function_waits_behind_others_takes_the_node_that_idles() -> None:
    load = SessionLoad()
    run = run_of(load, 1, None)
    nodes = [node_up("a", ONE_CORE, workers=1), node_up("b", ONE_CORE, workers=1, busy=1)]
    assert first_node(run.start(0.0, nodes)) == "a"

    load.take(node_up("a", ONE_CORE, workers=1, busy=3))
    assert told(load) == []
    load.take(node_up("b", ONE_CORE, workers=1))

    assert told(load) == [RunId(1)]
    asked = run.handle(RoomFreed(), 0.1)
    assert asked == [SendToNode("a", Recall(RunId(1), [Ticket(Index(0), 1)], room=1))]
    # It was the one that runs: it asks again later, by itself.
    run.handle(recalled("a"), 0.2)
    assert run.wake_at is not None
    assert run.wake(run.wake_at) == asked


def test_run_that_has_nothing_waiting_on_an_overloaded_node_is_not_told() -> None:
    load = SessionLoad()
    load.take(node_up("a", ONE_CORE, workers=1))
    sync, coroutine = (NodeState(RunId(number), load.nodes["a"]) for number in (1, 2))
    sync.add([Index(0), Index(1)], SYNC)
    coroutine.add([Index(0)], COROUTINE)

    load.take(node_up("b", ONE_CORE, workers=1))

    assert load.nodes["a"].is_overloaded
    assert told(load) == [RunId(1)]


def test_runs_that_found_no_room_are_told_in_turns_as_long_as_there_is_room() -> None:
    load = SessionLoad()
    runs = {RunId(number): run_of(load, number, *[ONE_CORE] * 9) for number in (1, 2, 3)}
    for run in runs.values():
        run.start(0.0, [node_up("a", {"cpu": 2.0}, workers=2)])
    assert told(load) == []

    joined = node_up("b", ONE_CORE, workers=1)
    load.take(joined)
    asked = []
    for number in load.runs_to_tell():
        asked.append(number)
        runs[number].handle(joined, 0.1)

    assert asked == [RunId(1)]
    load.take(node_up("c", ONE_CORE, workers=1))
    assert told(load)[0] == RunId(2)


def test_those_with_the_same_needs_are_not_all_asked_in_vain() -> None:
    load = SessionLoad()
    load.take(node_up("idle", {}, workers=4))
    demand = (CPU.key, None)
    for number in range(20):
        load.wait(RunId(number), {demand})

    first, second = told(load), told(load)

    assert first == [RunId(number) for number in range(session_load.MAX_REFUSALS)]
    assert second[0] == RunId(session_load.MAX_REFUSALS)


def test_run_that_waits_no_more_is_not_told() -> None:
    load = SessionLoad()
    load.take(node_up("idle", {}, workers=4))
    for number in (1, 2):
        load.begin(RunId(number), is_asked_always=False)
    load.wait(RunId(1), {(CPU.key, None), (SYNC.key, "a")})
    load.wait(RunId(2), {(SYNC.key, "a")})
    load.wait(RunId(1), {(SYNC.key, "a")})

    rounds = load.runs_to_tell()

    assert next(rounds) == RunId(1)
    load.end(RunId(2))
    load.end(RunId(1))
    assert list(rounds) == []


def test_policies_of_users_are_asked_after_each_change() -> None:
    load = SessionLoad()
    load.begin(RunId(1), is_asked_always=True)

    assert told(load) == [RunId(1)]
    load.forget(RunId(1))
    assert told(load) == []


def test_run_that_is_forgotten_leaves_nothing_on_any_node() -> None:
    load = SessionLoad()
    run = run_of(load, 1, ONE_CORE, None)
    run.start(0.0, [*THREE])
    assert sum(node.all_busy for node in load.nodes.values()) == 2

    load.forget(RunId(1))

    for node in load.nodes.values():
        assert (node.all_busy, node.claims, node.states) == (0, {}, {})


def test_room_is_kept_no_longer_for_functions_of_a_node_that_is_gone() -> None:
    load = SessionLoad()
    state = node_state(node_up("a"), load)
    state.recall_sent(3)
    assert load.recalling == 3

    load.take(NodeDown("a", "it is gone"))

    assert load.recalling == 0


def test_functions_of_a_run_that_has_ended_count_until_their_nodes_have_closed_it() -> None:
    load = SessionLoad()
    run = run_of(load, 1, ONE_CORE)
    run.start(0.0, THREE[:1])

    run.handle(Cancel(), 0.1)
    assert load.nodes["a"].all_busy == 1
    run.handle(MessageFromNode("a", Closed(RunId(1))), 0.2)

    assert (load.nodes["a"].all_busy, load.nodes["a"].states) == (0, {})
