"""Tests of reports and of messages that are about many functions at a time."""

from handoff_actors.core.run.events import RunEnded
from handoff_actors.core.run.facts.phases import DONE, SENT
from handoff_actors.graph import Function
from tests.core.builders import assigned, code, completed, done, ends, node_up, started


def test_a_report_that_says_something_twice_and_something_stale_counts_once_each() -> None:
    run = started(*(Function(number, [], code) for number in range(4)))
    run.handle(node_up(workers=4), 0.1)

    effects = run.handle(
        completed(
            "a", done(0), done(1, value=b"first"), done(1, value=b"second"), done(2, attempt=7), done(3)
        ),
        0.2,
    )

    assert list(run.state.phase) == [DONE, DONE, SENT, DONE]
    assert run.state.inline == {0: b"v", 1: b"first", 3: b"v"}
    assert run.state.remaining == 1
    assert ends(effects) == []
    run.check()


def test_functions_whose_inputs_are_in_one_report_are_ready_once_by_it() -> None:
    functions = [Function(number, [], code) for number in range(3)]
    run = started(*functions, Function("sum", [0, 1, 2], code, timeout=1.0), on_failure="continue")
    run.handle(node_up("a", {"cpu": 4.0}, workers=4), 0.1)

    sent = run.handle(completed("a", done(2), done(0), done(1)), 0.2)
    ended = run.handle(completed("a", done(3)), 0.3)

    assert assigned(sent) == [("a", [3])]
    assert ends(ended) == [RunEnded(None)]


def test_a_function_that_stands_in_the_queue_twice_is_sent_once() -> None:
    run = started(*(Function(number, [], code) for number in range(3)))
    run.scheduler.push([1])

    assert assigned(run.handle(node_up(workers=4), 0.1)) == [("a", [0, 1, 2])]
    run.check()
