"""Functions that a run has forgotten, as its history has them."""

import pytest
from msgspec.structs import replace

from handoff_actors.core.run.events import LetGo, MessageFromNode, RelayBegun
from handoff_actors.core.run.facts import history
from handoff_actors.core.run.facts.history import OTHER_CODES, CodeHistory, PastFunction
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.graph import Function
from handoff_actors.ids import FunctionId
from handoff_actors.skip import ENCODED_SKIP
from handoff_actors.wire.messages.runs import WorkerRetired
from tests.core.builders import RUN, async_code, code, completed, done, failed
from tests.core.run.growing.test_expanding import BOTH, expanded, expansion_of, grown, parent_and_dependent
from tests.core.run.growing.test_growth import call, grow, open_run, then


def kept(run: RunMachine) -> list[PastFunction]:
    return run.view.history.kept


def by_id(run: RunMachine) -> dict[FunctionId, PastFunction]:
    return {past.function_id: past for past in kept(run)}


def sums(run: RunMachine) -> dict[str, CodeHistory]:
    return {each.code: each for each in run.view.history.sums}


def goes(
    run: RunMachine, name: str, index: int = 0, *, now: float = 2.0, ran_s: float = 0.5, attempt: int = 1
) -> None:
    """Have a function that nobody holds go through a run, at an index that is free."""
    grow(run, call(name), held=[], now=now)
    then(run, completed("a", replace(done(index, attempt=attempt), ran_s=ran_s)), now + 1.0)


@pytest.fixture
def _few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_FORGOTTEN", 2)
    monkeypatch.setattr(history, "SUMMED_AT_ONCE", 1)


def test_a_function_that_is_forgotten_is_in_the_history_as_it_went() -> None:
    run = open_run()
    grow(run, call("x"), now=1.0)
    then(run, completed("a", replace(done(0, value=b"value"), ran_s=0.25, worker=7)), 2.0)

    before = kept(run)
    then(run, LetGo(["x"]), 3.0)

    assert before == []
    (past,) = kept(run)
    assert past == PastFunction(
        "x",
        None,
        past.code,
        0,
        "a",
        7,
        1,
        1.0,
        1.0,
        1.0,
        2.0,
        0.25,
        0,
        5,
        "done",
        True,
        "",
    )
    assert (past.code.code, past.code.is_async, past.code.cost) == ("code", False, {})
    assert len(run.view.history) == 1
    assert run.view.forgets
    assert (run.view.history.summed, run.view.history.sums) == (0, [])


def test_functions_that_had_one_index_after_the_other_are_told_apart() -> None:
    run = open_run()
    goes(run, "x", now=2.0)
    goes(run, "y", now=4.0, attempt=2)

    assert [(past.function_id, past.index, past.attempts, past.added_at) for past in kept(run)] == [
        ("x", 0, 1, 2.0),
        ("y", 0, 1, 4.0),
    ]


def test_every_end_of_a_function_is_kept() -> None:
    run = open_run()
    grow(run, call("fails"), call("behind", "fails"), call("skips"), held=[], now=1.0)
    then(run, completed("a", done(2, value=ENCODED_SKIP)), 2.0)
    then(run, failed("a", 0), 3.0)

    found = by_id(run)

    assert {name: (past.outcome, past.is_done, past.attempts) for name, past in found.items()} == {
        "fails": ("failed", False, 1),
        "behind": ("skipped", False, 0),
        "skips": ("skipped", True, 1),
    }
    assert found["behind"].node == ""


def test_a_value_that_went_through_the_app_is_forgotten_with_its_function() -> None:
    run = open_run("a", "b")
    for name, index in (("x", 0), ("y", 1)):
        grow(run, call(name, node="a"), now=1.0)
        then(run, completed("a", done(index, value=100)), 2.0)
        then(run, RelayBegun(index, "a", "b"), 2.5)

    then(run, LetGo(["x"]), 3.0)

    assert run.state._relays == {(1, "b")}
    assert run.view.relayed == {("a", "b"): 200}


def test_a_stored_result_and_a_retired_worker_are_kept() -> None:
    run = open_run()
    grow(run, call("x"), now=1.0)
    then(run, completed("a", done(0, value=100)), 2.0)
    then(run, MessageFromNode("a", WorkerRetired(RUN, 0, 1, "a thread was left")), 2.5)

    then(run, LetGo(["x"]), 3.0)

    (past,) = kept(run)
    assert (past.result_nbytes, past.retired) == (100, "a thread was left")


@pytest.mark.usefixtures("_few_are_kept")
def test_the_oldest_are_summed_up_by_code() -> None:
    run = open_run()
    for number in range(5):
        goes(run, f"x{number}", now=10.0 * number + 1.0, ran_s=0.25 * number, attempt=number + 1)

    assert [past.function_id for past in kept(run)] == ["x3", "x4"]
    assert run.view.history.summed == 3
    summed = sums(run)["code"]
    assert (summed.count, summed.failed, summed.attempts, summed.result_nbytes) == (3, 0, 3, 3)
    assert (summed.ran_s, summed.longest_ran_s, summed.nodes) == (0.75, 0.5, {"a"})
    # They were sent when they were added, and heard of a second later.
    assert (summed.inputs_s, summed.retries_s, summed.resources_s) == (0.0, 0.0, 0.0)
    assert summed.overhead_s == pytest.approx(3.0 - 0.75)


@pytest.mark.usefixtures("_few_are_kept")
def test_failures_and_what_never_ran_are_summed_up_apart() -> None:
    run = open_run()
    grow(run, call("fails"), call("behind", "fails"), held=[], now=1.0)
    then(run, failed("a", 0), 3.0)
    for number in range(2):
        goes(run, f"x{number}", now=4.0 + number, attempt=2 + number)

    summed = sums(run)["code"]
    assert run.view.history.summed == 2
    assert (summed.count, summed.failed, summed.attempts, summed.ran_s) == (0, 1, 1, 0.0)


@pytest.mark.usefixtures("_few_are_kept")
def test_time_before_a_function_is_summed_up_by_what_it_went_into() -> None:
    run = open_run(max_retries=1)
    # Behind another, on the worker of that one; heard of together.
    grow(run, call("first"), call("second"), held=[], now=1.0)
    both = [replace(done(index), ran_s=1.0, worker=7) for index in (0, 1)]
    then(run, completed("a", both[0]), 3.0)
    then(run, completed("a", both[1]), 4.5)
    # Waits for its input, and is tried twice.
    grow(run, call("input"), call("taker", "input"), held=[], now=10.0)
    then(run, completed("a", replace(done(1, attempt=2), ran_s=1.0)), 11.0)
    then(run, failed("a", 0, attempt=2), 12.0)
    then(run, completed("a", replace(done(0, attempt=3), ran_s=1.0)), 14.0)
    for number in range(2):
        goes(run, f"x{number}", now=20.0 + number, attempt=4 + number)

    summed = sums(run)["code"]
    assert run.view.history.summed == 4
    assert (summed.count, summed.attempts, summed.ran_s) == (4, 5, 4.0)
    assert (summed.inputs_s, summed.retries_s) == (0.0, 2.0)
    # The second one's, until its worker had ended the first; the rest is of messages.
    assert (summed.resources_s, summed.overhead_s) == (2.0, 1.0 + 0.5 + 0.0 + 1.0)


@pytest.mark.usefixtures("_few_are_kept")
def test_coroutines_do_not_wait_for_one_another() -> None:
    run = open_run()
    grow(run, *[Function(name, (), async_code) for name in ("x", "y")], held=[], now=1.0)
    for index in (0, 1):
        then(run, completed("a", replace(done(index), ran_s=1.0)), 3.0)
    goes(run, "z", 1, now=4.0, attempt=2)
    goes(run, "z", 1, now=6.0, attempt=3)

    summed = sums(run)["async_code"]
    assert (summed.count, summed.resources_s, summed.overhead_s) == (2, 0.0, 2.0)


@pytest.mark.usefixtures("_few_are_kept")
def test_codes_nodes_and_workers_in_sums_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOST_CODES", "MOST_NODES", "MOST_WORKERS"):
        monkeypatch.setattr(history, name, 1)
    run = open_run("a", "b")
    for number, name in enumerate("abab"):
        grow(run, call(f"x{number}", node=name), held=[], now=2.0 + number)
        then(run, completed(name, replace(done(0, attempt=number + 1), worker=number)), 2.5 + number)
    for number in range(4, 7):
        grow(run, call(f"x{number}", node="a", cost={"cpu": 1}), held=[], now=2.0 + number)
        then(run, completed("a", done(0, attempt=number + 1)), 2.5 + number)

    found = sums(run)
    assert {name: (each.count, each.nodes) for name, each in found.items()} == {
        "code": (4, {"a"}),
        OTHER_CODES: (1, {"a"}),
    }
    assert len(run.view.history._free_at) <= 1


def test_code_of_a_template_that_is_gone_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handoff_actors.core.run.growing.growing_program.MOST_IDLE_TEMPLATES", 0)
    run = open_run()

    goes(run, "x")
    goes(run, "y", now=4.0, attempt=2)

    assert run.view.history._by_template == {}
    first, second = kept(run)
    assert first.code is second.code


def test_a_function_that_has_returned_a_graph_is_in_the_history_of_any_run() -> None:
    run = parent_and_dependent()
    expanded(run, now=1.0)
    run.handle(completed("a", grown(2, expansion_of(*BOTH, result="both"))), 2.0)

    first, second = kept(run)

    assert not run.view.forgets
    assert (first.function_id, first.parent, first.index) == ("f", None, 0)
    assert (second.function_id, second.parent, second.index) == ("f/0", "f", 2)
    assert [(past.outcome, past.is_done, past.attempts) for past in (first, second)] == [
        ("done", True, 1)
    ] * 2
    assert [(past.finished_at, past.ran_s, past.worker) for past in (first, second)] == [
        (1.0, 0.5, 1001),
        (2.0, 0.5, 1001),
    ]
    # The functions of the two graphs; one of each has the place of the function that has returned it.
    assert list(run.view.added_at) == [
        2.0 if name.startswith("f/0") else 0.0 if name == "after" else 1.0
        for name in map(str, run.view.plan.ids)
    ]


@pytest.mark.usefixtures("_few_are_kept")
def test_a_chain_of_graphs_has_a_bounded_history() -> None:
    run = parent_and_dependent()
    alone = Function("alone", (), code)
    for number in range(5):
        graph = expansion_of(alone, result="alone")
        run.handle(completed("a", grown(0, graph, attempt=number + 1)), number + 1.0)

    assert [past.finished_at for past in kept(run)] == [4.0, 5.0]
    assert run.view.history.summed == 3
    # The first one was there from the beginning.
    assert {name: each.count for name, each in sums(run).items()} == {"code": 1, "grown": 2}
