"""Tests of where the time of a function went, by what the run knows of it."""

import pytest

from handoff_actors.core.run.facts.normal_path import set_sent
from handoff_actors.core.run.facts.phases import PhaseEvent
from handoff_actors.core.run.facts.state import Transfer
from handoff_actors.report.breakdown import Breakdown
from tests.report.builders import BEGAN_AT, Past, async_code, function


def parts(time: Breakdown) -> dict[str, float]:
    return {name: round(getattr(time, f"{name}_s"), 9) for name in PARTS}


PARTS = ("inputs", "retries", "resources", "moving", "overhead", "ran")
NONE = dict.fromkeys(PARTS, 0.0)


def test_a_function_that_nothing_kept_waiting_lost_time_to_messages_only() -> None:
    past = Past.of(function("a")).went("a", ready=0.0, sent=0.0, received=1.5, ran=1.25)

    entry = past.report["a"]

    assert entry.started_at == pytest.approx(0.25)
    assert parts(entry.time) == NONE | {"overhead": 0.25, "ran": 1.25}


def test_time_until_the_inputs_are_made_is_waiting_for_inputs() -> None:
    past = Past.of(function("a"), function("b", ["a"]))
    past.went("a", ready=0.0, sent=0.0, received=1.0, ran=1.0)
    past.went("b", ready=1.0, sent=1.0, received=2.0, ran=1.0)

    assert parts(past.report["b"].time) == NONE | {"inputs": 1.0, "ran": 1.0}


def test_time_until_it_is_sent_is_waiting_for_room() -> None:
    past = Past.of(function("a")).went("a", ready=0.0, sent=0.5, received=1.0, ran=0.5)

    assert parts(past.report["a"].time) == NONE | {"resources": 0.5, "ran": 0.5}


def test_time_behind_another_on_the_same_worker_is_waiting_for_room() -> None:
    past = Past.of(function("a"), function("b"))
    past.went("a", ready=0.0, sent=0.0, received=1.0, ran=1.0)
    past.went("b", ready=0.0, sent=0.0, received=2.25, ran=1.0)

    assert parts(past.report["b"].time) == NONE | {"resources": 1.0, "overhead": 0.25, "ran": 1.0}


def test_time_until_a_claim_is_given_up_is_waiting_for_room() -> None:
    past = Past.of(function("a", cost={"cpu": 2}), function("b", cost={"cpu": 2}))
    past.went("a", ready=0.0, sent=0.0, received=1.0, ran=1.0, worker=1)
    past.went("b", ready=0.0, sent=0.0, received=2.0, ran=1.0, worker=2)

    assert parts(past.report["b"].time) == NONE | {"resources": 1.0, "ran": 1.0}


def test_functions_heard_of_together_ran_one_after_the_other() -> None:
    past = Past.of(function("a"), function("b"), function("c"))
    for name in "abc":
        past.went(name, ready=0.0, sent=0.0, received=3.0, ran=1.0)

    report = past.report

    assert [report[name].started_at for name in "abc"] == pytest.approx([0.0, 1.0, 2.0])
    assert [report[name].finished_at for name in "abc"] == pytest.approx([1.0, 2.0, 3.0])
    assert parts(report["a"].time) == NONE | {"ran": 1.0}
    assert parts(report["c"].time) == NONE | {"resources": 2.0, "ran": 1.0}


def test_a_chain_that_is_heard_of_together_ran_in_its_order() -> None:
    past = Past.of(function("c", ["b"]), function("b", ["a"]), function("a"))
    for name in "abc":
        past.went(name, ready=0.0 if name == "a" else 3.0, sent=0.0, received=3.0, ran=1.0)

    report = past.report

    assert [report[name].started_at for name in "abc"] == pytest.approx([0.0, 1.0, 2.0])
    assert report.critical_path.function_ids == ["a", "b", "c"]
    assert parts(report.critical_path.time) == NONE | {"ran": 3.0}


def test_what_is_sent_later_ran_later_among_those_heard_of_together() -> None:
    past = Past.of(function("late"), function("early"))
    past.went("late", ready=0.0, sent=1.5, received=3.0, ran=1.0)
    past.went("early", ready=0.0, sent=0.0, received=3.0, ran=1.0)

    assert past.report["late"].started_at > past.report["early"].started_at


def test_coroutines_overlap() -> None:
    past = Past.of(function("a", code=async_code), function("b", code=async_code))
    for name in "ab":
        past.went(name, ready=0.0, sent=0.0, received=1.0, ran=1.0)

    assert [past.report[name].started_at for name in "ab"] == [0.0, 0.0]


def test_bringing_inputs_in_is_moving_data() -> None:
    past = Past.of(function("a"), function("b", ["a"]))
    past.went("a", ready=0.0, sent=0.0, received=1.0, ran=1.0, value=10)
    past.went("b", ready=1.0, sent=1.0, received=3.0, ran=1.0, node="m")
    past.state.transfers.append(Transfer(0, "m", 10, BEGAN_AT + 1.25, BEGAN_AT + 1.75))

    assert parts(past.report["b"].time) == NONE | {"inputs": 1.0, "moving": 0.5, "overhead": 0.5, "ran": 1.0}


def test_a_transfer_of_which_the_news_was_late_ended_when_the_function_began() -> None:
    past = Past.of(function("a"), function("b", ["a"]))
    past.went("a", ready=0.0, sent=0.0, received=1.0, ran=1.0, value=10)
    past.went("b", ready=1.0, sent=1.0, received=3.0, ran=1.0, node="m")
    past.state.transfers.append(Transfer(0, "m", 10, BEGAN_AT + 1.75, BEGAN_AT + 2.25))

    report = past.report

    [transfer] = report.timeline.transfers
    assert (transfer.began_at, transfer.ended_at) == (1.5, 2.0)
    assert parts(report["b"].time) == NONE | {"inputs": 1.0, "moving": 0.5, "overhead": 0.5, "ran": 1.0}


def test_a_transfer_begins_once_the_value_is_made_however_long_a_node_says_it_took() -> None:
    past = Past.of(function("a"), function("b", ["a"]))
    past.went("a", ready=0.0, sent=0.0, received=1.0, ran=1.0, value=10)
    past.went("b", ready=1.0, sent=1.0, received=3.0, ran=1.0, node="m")
    past.state.transfers.append(Transfer(0, "m", 10, BEGAN_AT + 0.5, BEGAN_AT + 1.5))

    [transfer] = past.report.timeline.transfers

    assert (transfer.began_at, transfer.ended_at) == (1.0, 1.5)


def test_a_value_that_is_brought_in_again_was_first_there_for_the_first_that_took_it() -> None:
    past = Past.of(function("a"), function("b", ["a"]), function("c", ["a"]))
    past.went("a", ready=0.0, sent=0.0, received=1.0, ran=1.0, value=10)
    past.went("b", ready=1.0, sent=1.0, received=3.0, ran=1.0, node="m")
    past.went("c", ready=1.0, sent=1.0, received=6.0, ran=1.0, node="m")
    for began, ended in ((1.5, 2.25), (4.0, 4.5)):
        past.state.transfers.append(Transfer(0, "m", 10, BEGAN_AT + began, BEGAN_AT + ended))

    first, second = past.report.timeline.transfers

    assert first.ended_at == 2.0
    assert (second.began_at, second.ended_at) == (4.0, 4.5)


def test_a_function_begins_after_what_it_takes_has_ended_however_fast_its_nodes_clock_runs() -> None:
    past = Past.of(function("a"), function("b", ["a"]), function("c", ["b"]))
    past.went("a", ready=0.0, sent=0.0, received=1.0, ran=1.0)
    past.went("b", ready=1.0, sent=1.25, received=3.0, ran=2.5, node="fast")
    # Fused behind it, and heard of later.
    past.went("c", ready=1.0, sent=1.25, received=4.0, ran=3.0, node="fast")

    report = past.report

    assert report["b"].started_at == 1.25
    assert report["b"].finished_at == report["c"].started_at == 1.25
    assert all(report[name].time.all_s == pytest.approx(report[name].finished_at) for name in "abc")


def test_a_message_home_is_lost_time_of_the_function_that_waited_for_it() -> None:
    past = Past.of(function("a"), function("other"), function("b", ["a"]))
    for name in ("a", "other"):
        past.went(name, ready=0.0, sent=0.0, received=2.0, ran=1.0)
    past.went("b", ready=2.0, sent=2.0, received=3.0, ran=1.0, worker=2)

    assert parts(past.report["b"].time) == NONE | {"inputs": 1.0, "overhead": 1.0, "ran": 1.0}
    assert past.report.critical_path.time.all_s == pytest.approx(3.0)


def test_a_transfer_to_another_node_is_nothing_to_a_function() -> None:
    past = Past.of(function("a"), function("b", ["a"]))
    past.went("a", ready=0.0, sent=0.0, received=1.0, ran=1.0, value=10)
    past.went("b", ready=1.0, sent=1.0, received=3.0, ran=1.0, node="m")
    past.state.transfers.append(Transfer(0, "elsewhere", 10, BEGAN_AT + 1.25, BEGAN_AT + 1.75))

    assert past.report["b"].time.moving_s == 0.0


def test_a_large_constant_of_the_app_is_moved_too() -> None:
    past = Past.of(function("a", extra_args=[b"large"]))
    past.went("a", ready=0.0, sent=0.0, received=2.0, ran=1.0)
    past.state.transfers.append(Transfer(past.plan.size, "n", 10, BEGAN_AT + 0.25, BEGAN_AT + 0.75))

    assert parts(past.report["a"].time) == NONE | {"moving": 0.5, "overhead": 0.5, "ran": 1.0}


def test_earlier_attempts_and_pauses_are_trying_again() -> None:
    past = Past.of(function("a"))
    set_sent(past.state, [0], "n", BEGAN_AT)
    past.state.change(0, PhaseEvent.RETURNED)
    past.state.change(0, PhaseEvent.RESTED)
    past.went("a", ready=2.0, sent=2.0, received=3.0, ran=1.0)

    entry = past.report["a"]

    assert entry.attempts == 2
    assert parts(entry.time) == NONE | {"retries": 2.0, "ran": 1.0}


def test_what_a_node_makes_up_bends_no_time() -> None:
    past = Past.of(function("a"), function("b"))
    past.went("a", ready=0.0, sent=0.0, received=1.0, ran=1e9)
    past.went("b", ready=0.0, sent=0.0, received=1.0, ran=1e9)

    report = past.report

    assert all(min(parts(report[name].time).values()) >= 0.0 for name in "ab")
    assert all(0.0 <= report[name].time.all_s <= 1.0 for name in "ab")


def test_the_critical_path_is_what_each_waited_for_to_the_last() -> None:
    past = Past.of(function("quick"), function("slow"), function("both", ["quick", "slow"]), function("off"))
    past.went("quick", ready=0.0, sent=0.0, received=0.5, ran=0.5, worker=1)
    past.went("slow", ready=0.0, sent=0.0, received=2.0, ran=1.75, worker=2)
    past.went("both", ready=2.0, sent=2.25, received=3.0, ran=0.75, worker=1)
    past.went("off", ready=0.0, sent=0.0, received=2.5, ran=2.5, worker=3)

    path = past.report.critical_path

    assert path.function_ids == ["slow", "both"]
    assert parts(path.time) == NONE | {"resources": 0.25, "overhead": 0.25, "ran": 2.5}
    assert path.time.all_s == pytest.approx(past.report.duration_s)


def test_a_run_of_nothing_has_no_path() -> None:
    report = Past.of().report

    assert report.critical_path.steps == ()
    assert report.duration_s == 0.0
    assert "0 functions in 0 us on 0 nodes, 0 workers" in str(report)
