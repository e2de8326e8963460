import pickle
from typing import get_args

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.events import Cancel, MessageFromNode
from handoff_actors.core.run.facts.resumption import ReusedResult
from handoff_actors.core.run.facts.story import (
    _SENTENCES,
    MOST_DEPARTURES,
    MOST_OF_A_REASON,
    NO_STORY,
    Departed,
    NormalStep,
    Story,
)
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.errors import FunctionFailed
from handoff_actors.graph import Function
from handoff_actors.wire.messages.jobs import Ticket
from handoff_actors.wire.messages.runs import Copied, Recalled
from tests.core.builders import (
    RUN,
    code,
    completed,
    done,
    error_of,
    failed,
    node_up,
    recalled,
    started,
)


def steps(story: Story) -> list[tuple[float, str, int, str]]:
    return [(entry.at_s, entry.what, entry.attempt, entry.node) for entry in story]


def run_of_two(**options: object) -> RunMachine:
    return started(Function("x", [], code), Function("y", ["x"], code), **options)


def test_story_says_why_a_function_ran_three_times() -> None:
    run = started(Function("x", [], code))
    run.handle(node_up("a"), 1.0)
    run.handle(failed("a", 0), 2.0)
    run.handle(failed("a", 0, "worker", attempt=2), 3.0)
    run.handle(completed("a", done(0, attempt=3)), 4.0)

    story = run.view.story(0)

    assert steps(story) == [
        (1.0, "sent", 1, "a"),
        (2.0, "retried", 1, "a"),
        (2.0, "sent", 2, "a"),
        (3.0, "worker lost", 2, "a"),
        (3.0, "ready", 3, ""),
        (3.0, "sent", 3, "a"),
        (4.0, "done", 3, "a"),
    ]
    assert str(story).splitlines() == [
        "1.000 s  'x' was sent to node 'a' as attempt 1",
        "2.000 s  attempt 1 of 'x' on node 'a' failed and was tried again: reason",
        "2.000 s  'x' was sent to node 'a' as attempt 2",
        "3.000 s  attempt 2 of 'x' on node 'a' was lost with its worker: reason",
        "3.000 s  'x' had all of its inputs",
        "3.000 s  'x' was sent to node 'a' as attempt 3",
        "4.000 s  attempt 3 of 'x' on node 'a' was done",
    ]


def test_story_of_a_function_whose_node_and_input_were_lost_leads_back_to_the_node() -> None:
    run = run_of_two()
    run.handle(node_up("a"), 1.0)
    run.handle(completed("a", done(0, value=100)), 2.0)
    run.handle(NodeDown("a", "no answer"), 3.0)

    made, taken = run.view.story(0), run.view.story(1)

    assert [str(entry) for entry in made][-3:] == [
        "2.000 s  attempt 1 of 'x' on node 'a' was done",
        "3.000 s  the value of 'x' was lost, because node 'a' was lost: no answer",
        "3.000 s  'x' had all of its inputs",
    ]
    assert [entry.what for entry in taken] == ["sent", "node lost", "input lost"]
    cause = taken.entries[1].cause
    assert cause is not None
    assert (cause.what, cause.node, cause.function_id) == ("node lost", "a", None)


def test_value_that_only_a_lost_node_had_was_lost_because_of_it() -> None:
    takers = [Function(f"y{number}", ["x"], code) for number in range(40)]
    run = started(Function("x", [], code), *takers)
    run.handle(node_up("a", workers=1), 1.0)
    run.handle(completed("a", done(0, value=100, ran_s=1.0)), 2.0)
    run.handle(NodeDown("a", "no answer"), 3.0)

    last_taker = run.view.story(40)

    assert [str(entry) for entry in last_taker] == [
        "3.000 s  'y39' lost an input, because the value of 'x' was lost, because node 'a' was lost: no answer"
    ]


def test_input_that_a_node_found_nowhere_is_why_an_attempt_was_lost() -> None:
    run = run_of_two()
    run.handle(node_up("a"), 1.0)
    run.handle(completed("a", done(0, value=100)), 2.0)
    run.handle(failed("a", 1, "input", lost=0), 3.0)

    (lost,) = [entry for entry in run.view.story(1) if entry.what == "input lost"]

    assert lost.text == (
        "attempt 1 of 'y' on node 'a' lacked an input: reason, "
        "because the value of 'x' was lost: node 'a' found it nowhere"
    )


def test_functions_that_come_back_unstarted_say_why() -> None:
    run = started(*(Function(number, [], code) for number in range(4)))
    run.handle(node_up("a", workers=2), 1.0)
    run.handle(node_up("b", workers=2), 2.0)
    run.handle(recalled("a", 3), 3.0)
    run.handle(MessageFromNode("a", Recalled(RUN, [Ticket(1, 1)], is_separated=True)), 4.0)
    alone = started(Function("x", [], code))
    alone.handle(node_up("a"), 1.0)
    alone.handle(recalled("a", 0), 2.0)

    stories = (run.view.story(3), run.view.story(1), alone.view.story(0))

    assert [entry.text for story in stories for entry in story if entry.what in {"recalled", "stolen"}] == [
        "attempt 1 of 3 on node 'a' was called back for a node with room",
        "attempt 1 of 1 on node 'a' came back unstarted: it was not to go with the others of its fused group",
        "attempt 1 of 'x' on node 'a' came back unstarted: the node gave it back unasked",
    ]


def test_value_that_leaves_with_its_node_is_copied() -> None:
    run = started(Function("x", [], code), Function("y", ["x"], code, node="c"), allocation_timeout_s=99.0)
    run.handle(node_up("a"), 1.0)
    run.handle(completed("a", done(0, value=100)), 2.0)
    run.handle(node_up("b"), 3.0)
    run.handle(node_up("a", leaving=True), 4.0)
    run.handle(MessageFromNode("b", Copied(RUN, [0], [])), 5.0)

    assert steps(run.view.story(0))[-2:] == [(2.0, "done", 1, "a"), (5.0, "drained", 1, "b")]
    assert str(run.view.node_story("a")).splitlines() == [
        "1.000 s  'x' was sent to node 'a' as attempt 1",
        "2.000 s  attempt 1 of 'x' on node 'a' was done",
        "4.000 s  node 'a' began to leave",
    ]
    assert steps(run.view.node_story("b")) == [(5.0, "drained", 1, "b")]


def test_story_of_a_node_has_its_attempts_and_its_end() -> None:
    run = started(Function("x", [], code), Function("y", [], code))
    run.handle(node_up("a"), 1.0)
    run.handle(completed("a", done(1)), 2.0)
    run.handle(NodeDown("a", "no answer"), 3.0)
    run.handle(node_up("b"), 4.0)

    story = run.view.node_story("a")

    assert [(entry.at_s, entry.what, entry.function_id) for entry in story] == [
        (1.0, "sent", "x"),
        (1.0, "sent", "y"),
        (2.0, "done", "y"),
        (3.0, "node lost", None),
        (3.0, "node lost", "x"),
    ]
    assert run.view.node_story("nobody") == NO_STORY


def test_function_that_was_reused_or_has_not_begun_has_a_short_story() -> None:
    run = started(Function("never", ["ready"], code), Function("ready", [], code, node="b"))
    reusing = RunMachine(RUN, run._program, run._options)
    reusing.start(5.0, [node_up("a")], {1: ReusedResult("a", b"v")})

    assert str(run.view.story(0)) == "nothing has happened yet"
    assert steps(run.view.story(1)) == [(0.0, "ready", 1, "")]
    assert str(reusing.view.story(1)) == "0.000 s  the result of 'ready' was in the journal"
    assert steps(reusing.view.node_story("a")) == [(0.0, "sent", 1, "a")]


def test_normal_path_stores_nothing() -> None:
    run = run_of_two()
    run.handle(node_up("a"), 1.0)
    run.handle(completed("a", done(0)), 2.0)
    run.handle(completed("a", done(1)), 3.0)

    assert not run._stories._kept
    assert len(run.view.story(1)) == 3
    assert steps(run.view.story(1)) == [(2.0, "ready", 1, ""), (2.0, "sent", 1, "a"), (3.0, "done", 1, "a")]


def test_only_the_latest_departures_are_kept_and_a_cause_that_is_not_is_left_out() -> None:
    run = started(Function("x", [], code))
    run.handle(node_up("a"), 1.0)
    run.handle(NodeDown("a", "r" * 2 * MOST_OF_A_REASON), 2.0)
    run.handle(node_up("a"), 3.0)
    before = run.view.story(0).entries[1].cause
    for number in range(MOST_DEPARTURES - 1):
        run.handle(recalled("a", 0, attempt=number + 2), 4.0)
        run.handle(node_up("a"), 4.0)

    story = run.view.story(0)

    assert before is not None
    assert len(before.reason) == MOST_OF_A_REASON
    assert story.dropped == 1
    assert (story.entries[1].what, story.entries[1].cause) == ("node lost", None)
    assert str(story).startswith("(1 earlier departures of the run were not kept)\n1.000 s  'x' was sent")


def test_function_that_fails_after_departures_says_what_they_were() -> None:
    run = started(Function("x", [], code), max_retries=1)
    run.handle(node_up("a"), 1.0)
    run.handle(failed("a", 0), 2.0)
    run.handle(failed("a", 0, attempt=2), 3.0)

    error = error_of(run)
    again = pickle.loads(pickle.dumps(error))

    for each in (error, again):
        assert isinstance(each, FunctionFailed)
        assert each.story is not None
        assert [entry.what for entry in each.story.entries] == ["sent", "retried", "sent", "failed"]
        assert "attempt 1 of 'x' on node 'a' failed and was tried again: reason" in each.__notes__[0]


def test_function_that_fails_at_once_has_no_story() -> None:
    run = started(Function("x", [], code), max_retries=0)
    run.handle(node_up("a"), 1.0)
    run.handle(failed("a", 0), 2.0)

    error = error_of(run)

    assert isinstance(error, FunctionFailed)
    assert error.story is None
    assert not hasattr(error, "__notes__")


def test_explanation_has_a_story_once_something_has_gone_wrong() -> None:
    run = started(Function("x", [], code), Function("y", [], code))
    run.handle(node_up("a"), 1.0)
    run.handle(failed("a", 0), 2.0)

    x, y = run.view.explain()

    assert [entry.what for entry in x.story] == ["sent", "retried", "ready", "sent"]
    assert y.story is NO_STORY
    assert run.handle(Cancel(), 3.0)


def test_every_kind_of_entry_has_a_sentence() -> None:
    assert set(_SENTENCES) == {*get_args(NormalStep), *get_args(Departed)}
