from handoff_actors.graph import Function
from tests.core.builders import (
    async_code,
    code,
    completed,
    done,
    failed,
    node_up,
    run_of,
)


def test_every_unfinished_function_is_explained() -> None:
    run = run_of(
        Function("sent", [], async_code),
        Function("waits", ["sent"], code),
        Function("pinned", [], code, node="nowhere"),
        Function("too much", [], code, cost={"gpu": 1}),
    )
    run.start(0.0, [node_up("a"), node_up("b", leaving=True)])

    found = {entry.function_id: entry for entry in run.view.explain()}

    assert {name: entry.state for name, entry in found.items()} == {
        "sent": "sent",
        "waits": "waiting",
        "pinned": "ready",
        "too much": "ready",
    }
    assert found["waits"].waits_for == ("sent",)
    assert found["pinned"].nodes["nowhere"] == "is not there"
    assert "less than" in found["too much"].nodes["a"]
    assert "leaves" in found["too much"].nodes["b"]


def test_node_that_is_full_is_explained_by_what_is_left_of_it() -> None:
    functions = [Function(number, [], code, cost={"cpu": 1}) for number in range(3)]
    run = run_of(*functions)
    run.start(0.0, [node_up("a", {"cpu": 1}, workers=3)])

    (waiting,) = [entry for entry in run.view.explain() if entry.nodes]

    assert (waiting.function_id, waiting.node) == (2, None)
    assert waiting.nodes == {"a": "has {'cpu': 0.0} and 1 workers to spare, and enough queued"}


def test_node_with_room_is_explained_by_the_limit_of_the_run() -> None:
    functions = [Function("first", [], code), Function("second", [], code)]
    run = run_of(*functions, max_concurrency=1)
    run.start(0.0, [node_up("a")])

    _, second = run.view.explain()

    assert second.nodes == {"a": "has room; other functions go first, or max_concurrency is reached"}


def test_one_function_is_explained_as_among_all_and_not_at_all_once_it_has_ended() -> None:
    run = run_of(Function("flaky", [], code), Function("done", [], code))
    run.start(0.0, [node_up("a", workers=2)])
    run.handle(failed("a", 0), 1.0)
    run.handle(completed("a", done(1)), 2.0)

    flaky, ended = run.view.explain_one(0), run.view.explain_one(1)

    assert [flaky] == run.view.explain()
    assert flaky is not None
    assert len(flaky.story) > 0
    assert ended is None
