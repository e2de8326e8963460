"""A cluster with two versions of Python: daemons of both, and an app of one."""

import asyncio
import importlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import handoff_actors as handoff
from handoff_actors.process.interpreter import PYTHON
from tests.daemons import Daemon, Daemons
from tests.docs.quotes import check_quoted
from tests.processes import surroundings

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
#: `scripts/python` makes them, and so does `PYTHON=... scripts/test`.
ENVIRONMENTS = ".venv*/bin/python"
PRINT_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


def version_of(python: Path) -> str:
    return subprocess.run(
        [python, "-c", PRINT_VERSION], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def other_python() -> tuple[str, str]:
    """An interpreter of another minor version that has the project, and that version."""
    for python in sorted(ROOT.glob(ENVIRONMENTS)):
        if (version := version_of(python)) != PYTHON:
            return str(python), version
    pytest.skip("no environment with another Python is there: `scripts/python 3.13` makes one")


class Pair:
    """A session, and a node of each version."""

    def __init__(self, session: handoff.Session, same: Daemon, other: Daemon, version: str) -> None:
        self.session = session
        self.same = same
        self.other = other
        #: That of `other`.
        self.version = version


@pytest.fixture
async def pair(daemons: Daemons, other_python: tuple[str, str]) -> AsyncIterator[Pair]:
    python, version = other_python
    # Not all of this interpreter's path: what is compiled for one version is nothing to the other.
    variables = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "HANDOFF_CHECK": "1"}
    same = daemons.start("--name", "same", "--cpu", "2", variables=variables)
    options = ("--name", "other", "--cpu", "4", "--join", same.address)
    other = daemons.start(*options, variables=variables, python=python)
    async with handoff.Session(seeds=[same.address]) as session:
        yield Pair(session, same, other, version)


def many(code: object, count: int = 40, **options: object) -> handoff.DAG:
    return handoff.DAG().add_functions(
        handoff.Function(number, [], code, **options)  # type: ignore[arg-type]
        for number in range(count)
    )


async def test_nodes_of_both_versions_are_members_and_share_what_can_be_imported(pair: Pair) -> None:
    run = await pair.session.execute_distributed(many(surroundings.python, cost={"cpu": 1}))

    assert set(await pair.session.discover_nodes()) == {"same", "other"}
    assert set(run.results.values()) == {PYTHON, pair.version}
    for number, node in run.allocations.items():
        assert run.results[number] == (PYTHON if node == "same" else pair.version)


async def test_code_by_value_runs_on_the_apps_own_version_only(pair: Pair) -> None:
    run = await pair.session.execute_distributed(
        many(lambda: sys.version_info[:2], cost={"cpu": 1}).add_function(
            handoff.Function("sum", list(range(40)), len, argument_inclusion="as_list", node="other")
        )
    )

    assert {run.allocations[number] for number in range(40)} == {"same"}
    assert run.results["sum"] == 40


async def test_modules_that_the_other_version_lacks_are_an_error_that_says_so(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def f(): return 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    code = importlib.import_module("only_here").f

    run = await pair.session.execute_distributed(many(code, count=1, node="same"))
    with pytest.raises(handoff.SerializationError) as caught:
        await pair.session.execute_distributed(many(code, count=1, node="other"))

    assert run.results[0] == 1
    text = str(caught.value)
    assert "on node 'other': it needs 'only_here'" in text
    assert f"come from Python {PYTHON}, and this is Python {pair.version}" in text
    assert "install it there" in text


async def test_what_only_the_other_version_offers_is_an_allocation_error_that_says_so(pair: Pair) -> None:
    dag = handoff.DAG().add_function(handoff.Function("x", [], lambda: 1, cost={"cpu": 3}))

    with pytest.raises(handoff.AllocationError) as caught:
        await pair.session.execute_distributed(dag, allocation_timeout=0.1)

    assert f"was pickled by value, which no node offers (other runs Python {pair.version})" in str(
        caught.value
    )


async def test_explanation_says_which_python_a_node_runs(pair: Pair) -> None:
    dag = handoff.DAG().add_function(handoff.Function("x", [], lambda: 1, cost={"cpu": 3}))
    dag.add_function(handoff.Function("y", [], int))
    has_begun = asyncio.Event()
    running = asyncio.ensure_future(pair.session.execute_distributed(dag, on_event=lambda _: has_begun.set()))
    await has_begun.wait()

    explained = pair.session.explain(dag.id)

    assert explained[0].nodes["other"] == (
        f"runs Python {pair.version}, and this function's code, or a value that it takes,"
        f" was pickled by value with {PYTHON}"
    )
    check_quoted("troubleshooting.md", "runs Python 3.13", explained[0].nodes["other"])
    assert "which is less than {'cpu': 3.0}" in explained[0].nodes["same"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_results_cross_versions_unless_they_hold_code(pair: Pair) -> None:
    dag = handoff.DAG()
    dag.add_function(handoff.Function("plain", [], dict, kwargs={"a": [1, "b"]}, node="other"))
    dag.add_function(handoff.Function("taken", ["plain"], sorted, node="same"))
    run = await pair.session.execute_distributed(dag)
    assert run.results["taken"] == ["a"]

    dag = handoff.DAG()
    dag.add_function(handoff.Function("code", [], surroundings.made_here, node="other"))
    dag.add_function(handoff.Function("taken", ["code"], surroundings.call, node="same"))
    with pytest.raises(handoff.SerializationError) as caught:
        await pair.session.execute_distributed(dag)

    assert "function 'taken' on node 'same'" in str(caught.value)
    assert f"code that was pickled by value with Python {pair.version}, and this is Python {PYTHON}" in str(
        caught.value
    )


async def test_result_with_code_that_comes_home_is_an_error_that_names_both_versions(pair: Pair) -> None:
    dag = handoff.DAG().add_function(handoff.Function("code", [], surroundings.made_here, node="other"))
    run = await pair.session.execute_distributed(dag)

    with pytest.raises(handoff.SerializationError, match=f"by value with Python {pair.version}"):
        run.results["code"]


async def test_exceptions_and_large_values_cross_versions(pair: Pair) -> None:
    dag = handoff.DAG()
    dag.add_function(handoff.Function("large", [], bytes, extra_args=[1_000_000], node="other"))
    dag.add_function(handoff.Function("size", ["large"], len, node="same"))
    run = await pair.session.execute_distributed(dag)
    assert run.results["size"] == 1_000_000

    with pytest.raises(handoff.FunctionFailed) as caught:
        await pair.session.execute_distributed(
            handoff.DAG().add_function(
                handoff.Function("x", [], int, extra_args=["?"], node="other", max_retries=0)
            )
        )
    assert isinstance(caught.value.__cause__, ValueError)


async def test_values_are_handed_over_to_the_other_version_when_a_node_leaves(pair: Pair) -> None:
    dag = handoff.DAG().add_function(handoff.Function("x", [], bytes, extra_args=[300_000], node="same"))
    dag.add_function(handoff.Function("y", ["x"], len, node="other"))
    run = await pair.session.execute_distributed(dag)

    await asyncio.to_thread(pair.same.terminate)

    assert await run.fetch("x") == bytes(300_000)
