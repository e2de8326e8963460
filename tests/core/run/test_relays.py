"""A run whose nodes can't all reach one another: the app relays values between some."""

from handoff_actors.core.run.events import MessageFromNode, RelayBegun, RelayObserved
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.graph import Function
from handoff_actors.wire.messages.runs import Completed, Failed, Fetched
from tests.core.builders import RUN, assigned, code, completed, done, node_up, run_of

LARGE = 60_000_000


def _run(*functions: Function) -> RunMachine:
    """A run on "a" and "b", of which "a" has made "x"."""
    run = run_of(
        Function("x", [], code, node="a"),
        *functions,
        observe=True,
        on_failure="continue",
        policy=POLICIES["most_spare"],
    )
    run.start(0.0, [node_up("a", {"cpu": 2.0}, workers=2), node_up("b", {"cpu": 2.0}, workers=2)])
    run.handle(completed("a", done(0, value=LARGE)), 0.1)
    return run


def _fetched(run: RunMachine, index: int) -> None:
    """ "b" has fetched "x" for a function, which is done."""
    fetched = [Fetched(0, LARGE, 0.1, 0.0)]
    run.handle(MessageFromNode("b", Completed(RUN, [done(index)], {}, fetched)), 0.4)


def _held(run: RunMachine, index: int) -> dict[str, int]:
    return dict(run.scheduler.locality.held(index))


def test_run_tells_of_a_relay_when_it_begins_and_counts_its_bytes() -> None:
    run = _run(Function("y", ["x"], code, node="b"))

    told = run.handle(RelayBegun(0, "a", "b"), 0.2)

    assert told == [RelayObserved(0, "a", "b", LARGE)]
    assert run.view.relayed == {("a", "b"): LARGE}


def test_relay_of_a_value_that_is_gone_again_counts_nothing() -> None:
    run = _run(Function("y", ["x"], code, node="b"))

    run.handle(RelayBegun(1, "a", "b"), 0.2)

    assert run.view.relayed == {("a", "b"): 0}


def test_unwatched_run_does_not_tell_of_relays() -> None:
    run = run_of(Function("x", [], code))
    run.start(0.0, [node_up("a")])

    assert run.handle(RelayBegun(0, "a", "b"), 0.2) == []


def test_bytes_that_have_to_be_relayed_count_twice_for_placement_and_once_in_the_report() -> None:
    run = _run(Function("y", ["x"], code, node="b"), Function("z", ["x"], code, node="b"))
    before = _held(run, 2)

    run.handle(RelayBegun(0, "a", "b"), 0.2)

    assert before == {"a": LARGE}
    assert _held(run, 2) == {"a": LARGE, "b": -LARGE}
    assert run.scheduler.locality.need(2, run.scheduler.needs.of[2]).held == {"a": LARGE, "b": -LARGE}
    assert run.view.moved == {1: LARGE, 2: LARGE}


def test_small_values_count_nothing_where_large_ones_are_relayed() -> None:
    run = _run(Function("s", [], code, node="a"), Function("y", ["x", "s"], code, node="b"))
    run.handle(completed("a", done(1)), 0.15)

    run.handle(RelayBegun(0, "a", "b"), 0.2)

    assert _held(run, 2) == {"a": LARGE, "b": -LARGE}


def test_function_with_a_large_input_runs_where_that_need_not_be_relayed() -> None:
    run = _run(
        Function("y", ["x"], code, node="b"),
        Function("w", [], code, cost={"cpu": 1}, node="a"),
        Function("z", ["x", "w"], code, cost={"cpu": 1}),
    )
    run.handle(RelayBegun(0, "a", "b"), 0.2)

    effects = run.handle(completed("a", done(2)), 0.3)

    assert assigned(effects) == [("a", [3])]


def test_node_that_has_got_a_value_by_itself_can_reach_its_holders_again() -> None:
    run = _run(*(Function(name, ["x"], code, node="b") for name in "yz"))
    run.handle(RelayBegun(0, "a", "b"), 0.2)
    _fetched(run, 1)
    relayed = {name: set(others) for name, others in run.state.cut_off.items()}
    run.state.cut_off["b"].add("a")
    run.state._relays.clear()

    _fetched(run, 2)

    assert relayed == {"b": {"a"}}
    assert run.state.cut_off == {"b": set()}


def test_value_that_has_been_relayed_is_there_like_any_other() -> None:
    run = _run(*(Function(name, ["x"], code, node="b") for name in "yz"))
    run.handle(RelayBegun(0, "a", "b"), 0.2)

    _fetched(run, 1)

    assert _held(run, 2) == {"a": LARGE, "b": LARGE}


def test_value_that_is_lost_meanwhile_says_nothing_about_its_holders() -> None:
    run = _run(Function("y", ["x"], code, node="b"))
    run.handle(RelayBegun(0, "a", "b"), 0.2)
    fetched = [Fetched(7, 10, 0.1, 0.0)]

    run.handle(MessageFromNode("b", Completed(RUN, [done(1)], {}, fetched)), 0.4)

    assert run.state.cut_off == {"b": {"a"}}


def _out_of_reach(index: int, attempt: int, lost: int | None = 0) -> MessageFromNode:
    reason = "node b could not fetch an input: no answer"
    return MessageFromNode(
        "b", Failed(RUN, index, attempt, "unreachable", b"", reason, lost, None, None, 0.0)
    )


def test_function_whose_input_even_the_app_can_not_bring_runs_where_that_is() -> None:
    run = run_of(
        Function("x", [], code, node="a"),
        Function("w", [], code, cost={"cpu": 2}, node="a"),
        Function("y", ["x"], code, cost={"cpu": 1}),
        policy=POLICIES["most_spare"],
    )
    run.start(0.0, [node_up("a", {"cpu": 2.0}, workers=2), node_up("b", {"cpu": 2.0}, workers=2)])
    elsewhere = run.handle(completed("a", done(0, value=100_000)), 0.1)

    again = run.handle(_out_of_reach(2, 1), 0.2)

    assert assigned(elsewhere) == [("b", [2])]
    assert assigned(again) == [("a", [2])]


def test_error_of_a_function_whose_input_never_comes_names_both_nodes_and_what_to_do() -> None:
    run = _run(Function("y", ["x"], code, node="b"))
    now = 0.2
    for attempt in range(1, 7):
        run.handle(_out_of_reach(1, attempt), now)
        now += 10.0
        run.wake(now)

    message = str(run.view.failures[1].error)

    assert "node 'b': function 'y' can't run there" in message
    assert "its input 'x' is on node 'a'" in message
    assert "Let 'b' connect there (firewall, --advertise)" in message


def test_error_of_a_function_whose_node_does_not_name_the_input_says_what_it_can() -> None:
    run = _run(Function("y", ["x"], code, node="b"))
    now = 0.2
    for attempt in range(1, 7):
        run.handle(_out_of_reach(1, attempt, lost=None), now)
        now += 10.0
        run.wake(now)

    assert "no answer" in str(run.view.failures[1].error)


def test_explanation_of_a_function_that_waits_for_a_relayed_input_says_so() -> None:
    run = _run(Function("y", ["x"], code, node="b"), Function("z", [], code, node="b"))
    run.handle(RelayBegun(0, "a", "b"), 0.2)

    waiting, other = run.view.explain()

    assert waiting.nodes == {"b": "gets no connection to 'a': 'x' comes through the app, which takes longer"}
    assert other.nodes == {}
