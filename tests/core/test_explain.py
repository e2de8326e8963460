from core.builders import (
    async_code,
    code,
    node_up,
    program_of,
    run_of,
)
from handoff_actors.core.explain import explain
from handoff_actors.graph import Function


def test_every_unfinished_function_is_explained() -> None:
    program = program_of(
        Function("sent", [], async_code),
        Function("waits", ["sent"], code),
        Function("pinned", [], code, node="nowhere"),
        Function("too much", [], code, cost={"gpu": 1}),
    )
    run = run_of(
        Function("sent", [], async_code),
        Function("waits", ["sent"], code),
        Function("pinned", [], code, node="nowhere"),
        Function("too much", [], code, cost={"gpu": 1}),
    )
    run.start(0.0, [node_up("a"), node_up("b", leaving=True)])

    found = {entry.function_id: entry for entry in explain(program.plan, run.progress, run.dispatcher)}

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
