"""Sessions, clusters, runs and results as a prompt and a notebook show them."""

import os
from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import handoff_actors as handoff
from handoff_actors.client.run import Run

pytestmark = pytest.mark.processes


class Raising:
    def __repr__(self) -> str:
        raise ValueError("no text")


class Huge:
    def __repr__(self) -> str:
        return "<b>" + "h" * 10_000_000


class Unreadable:
    def __reduce__(self) -> Any:
        return int, ("x",)


def megabyte() -> bytes:
    return bytes(1_000_000)


def same(value: Any) -> Any:
    return value


@pytest.fixture
async def session() -> AsyncIterator[handoff.Session]:
    async with handoff.Session(local_node={"cpu": 1}, name="n1") as session:
        yield session


def rows(form: str) -> list[list[str]]:
    tree = ET.fromstring(f"<div>{form}</div>".replace("<br>", "<br/>"))
    return [["".join(cell.itertext()) for cell in row] for row in tree.iter("tr")]


async def test_results_are_a_table_whatever_the_values_are(session: handoff.Session) -> None:
    dag = handoff.DAG("<i>odd</i>")
    for fn in (Raising, Huge, Unreadable, megabyte):
        dag.call(fn)
    dag.call(same, "<script>", id="<script>")
    kept = dag.call(megabyte)
    dag.call(len, kept)
    run = await session.execute_distributed(dag)

    form = run._repr_html_()

    assert rows(form)[0] == ["function", "value", "node", "attempts", "ran", "bytes"]
    shown = {row[0]: row[1] for row in rows(form)[1:]}
    assert len(shown.pop("Huge-1")) == 80
    assert shown.pop("Unreadable-1").startswith("<SerializationError: the result of function 'Unr")
    assert shown == {
        "Raising-1": "<Raising whose repr raises ValueError>",
        "megabyte-1": f"<{run.report['megabyte-1'].result_nbytes:,} bytes, not loaded yet>",
        "<script>": "'<script>'",
        "megabyte-2": f"StoredValue(node='n1', nbytes={run.report['megabyte-2'].result_nbytes})",
        "len-1": "1000000",
    }
    assert [row[2:4] for row in rows(form)[1:]] == [["n1", "1"]] * 7
    assert "<script>" not in form
    assert "&lt;i&gt;odd" in form
    assert repr(run.results).startswith("Results({'Raising-1': <Raising whose repr raises ValueError>, ")
    assert len(repr(run.results)) < 1000


async def test_a_value_that_was_loaded_is_shown(session: handoff.Session) -> None:
    dag = handoff.DAG()
    dag.call(megabyte)
    run = await session.execute_distributed(dag)
    assert len(run.results["megabyte-1"]) == 1_000_000

    assert rows(run.results._repr_html_())[1][1].startswith("b'\\x00\\x00")


async def test_results_of_many_functions_are_short(session: handoff.Session) -> None:
    dag = handoff.DAG("many")
    for number in range(10_000):
        dag.call(abs, number)
    run = await session.execute_distributed(dag)

    assert [row[0] for row in rows(run.results._repr_html_())][9:14] == [
        "abs-9", "abs-10", "... 9,985 more ...", "abs-9996", "abs-9997",
    ]  # fmt: skip
    forms = [run._repr_html_(), run.results._repr_html_(), run.report._repr_html_()]
    assert max(map(len, forms)) < 10_000
    assert repr(run.results).endswith("'abs-9': 8, 'abs-10': 9, ... and 9,990 more})")
    assert repr(run.allocations).endswith("'abs-10': 'n1', ... and 9,990 more})")
    assert repr(run) == "<Run of DAG 'many': 10000 functions>"


def failing() -> None:
    raise RuntimeError("<why>\n\x1b[2J")


async def test_functions_that_have_failed_have_their_errors_in_the_table(session: handoff.Session) -> None:
    dag = handoff.DAG()
    dag.call(abs, -1)
    dag.call(same, dag.call(failing))
    run = await session.execute_distributed(dag, max_retries=0, on_failure="continue")

    table = {row[0]: row[1:] for row in rows(run._repr_html_())}
    assert table["abs-1"][0] == "1"
    assert table["failing-1"][0].startswith("<FunctionFailed: ")
    assert table["same-1"][0].startswith("<DependencyFailed: ")
    assert [table[name][-1] for name in ("failing-1", "same-1")] == ["", ""]
    failures = rows(run.failures._repr_html_())
    assert [row[:2] for row in failures[1:]] == [
        ["failing-1", "FunctionFailed"],
        ["same-1", "DependencyFailed"],
    ]
    assert repr(run.results) == "Results({'abs-1': 1})"
    assert repr(run.failures).startswith("RunFailures({'failing-1': FunctionFailed: ")
    assert repr(run.failures).isprintable()


async def test_functions_that_a_failed_run_never_ran_are_unfinished(session: handoff.Session) -> None:
    dag = handoff.DAG()
    failed = dag.call(failing)
    dag.call(same, failed)

    with pytest.raises(handoff.FunctionFailed) as caught:
        await session.execute_distributed(dag, max_retries=0)

    run = caught.value.run
    assert isinstance(run, Run)
    table = {row[0]: row[1] for row in rows(run._repr_html_())}
    assert table["failing-1"].startswith("<FunctionFailed: ")
    assert table["same-1"][:12] in {"<unfinished>", "<DependencyF"}


async def test_a_session_shows_its_nodes_and_the_runs_that_go_on() -> None:
    session = handoff.Session(local_node={"cpu": 2, "memory": 500}, name="<n1>")
    assert repr(session) == "<Session: not started>"
    forms: list[str] = []

    async with session:
        dag = handoff.DAG("<going>").add_function(handoff.Function("one", [], same, extra_args=[1]))
        await session.execute_distributed(dag, on_event=lambda _: forms.append(session._repr_html_()))

        assert repr(session) == "<Session: 1 node (one in this process: '<n1>'), 0 runs going on>"
        [heads, node] = rows(session._repr_html_())
        assert heads == ["node", "address", "offers", "spare", "running", "queued"]
        assert node[:3] == ["<n1>", "this process", "cpu 2, memory 500"]
        assert rows(forms[0])[2:] == [["run", "done"], ["<going>", "0 of 1"]]
        assert "<n1>" not in session._repr_html_()
    assert session._repr_html_() == "<p>Session: closed</p>"


def in_fork(action: Any) -> str:
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writing, action().encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def test_a_cluster_shows_its_nodes() -> None:
    cluster = handoff.LocalCluster(nodes=1)
    assert repr(cluster) == "<LocalCluster: 1 node, not started>"

    with cluster:
        assert repr(cluster) == "<LocalCluster: n1 running>"
        [node] = cluster.nodes
        assert rows(cluster._repr_html_()) == [
            ["node", "address", "process", "state"],
            ["n1", node.address, str(node.pid), "running"],
        ]
        assert in_fork(cluster._repr_html_) == (
            "<p>LocalCluster: it belongs to the process that this one is a fork of</p>"
        )
        node.kill()
        assert repr(cluster) == "<LocalCluster: no node running>"
        assert rows(cluster._repr_html_())[1][3] == "ended"

    assert repr(cluster) == "<LocalCluster: closed>"
    assert cluster._repr_html_() == "<p>LocalCluster: closed</p>"
