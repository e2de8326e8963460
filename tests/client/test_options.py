"""Each option of a run has one name, one type and one default, wherever it is spelled."""

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

import handoff_actors as handoff
from handoff_actors.client.execute_options import ExecuteOptions, LocalExecuteOptions
from handoff_actors.client.options import RunSettings
from handoff_actors.client.session import Session

SIGNATURE = inspect.signature(Session.execute_distributed).parameters
OPTIONS = {name: parameter for name, parameter in SIGNATURE.items() if name not in {"self", "dag"}}
#: In the order of a contract: programs may give these by position.
BY_POSITION = [
    "allocation_strategy", "max_retries", "max_concurrency", "timeout", "nodes", "fetch", "on_event",
]  # fmt: skip


def hints_of(source: object) -> dict[str, Any]:
    return {name: hint for name, hint in get_type_hints(source).items() if name in OPTIONS}


def test_signature_is_as_programs_expect() -> None:
    kinds = {name: parameter.kind for name, parameter in OPTIONS.items()}

    assert [name for name in kinds if kinds[name] is inspect.Parameter.POSITIONAL_OR_KEYWORD] == BY_POSITION
    assert {name: parameter.default for name, parameter in OPTIONS.items()} == {
        "allocation_strategy": "most_spare",
        "max_retries": 3,
        "max_concurrency": None,
        "timeout": None,
        "nodes": None,
        "fetch": None,
        "on_event": None,
        "retry_backoff": None,
        "retry_on": None,
        "on_failure": "stop",
        "allocation_timeout": 10.0,
        "journal": None,
        "on_result": None,
        "progress": None,
        "output": None,
        "env_vars": None,
        "working_dir": None,
        "modules_by_value": (),
        "max_functions": 10_000_000,
    }


@pytest.mark.parametrize("source", [ExecuteOptions, RunSettings])
def test_names_and_types_are_those_of_the_signature(source: type) -> None:
    assert set(get_type_hints(source)) == set(OPTIONS)
    assert hints_of(source) == hints_of(Session.execute_distributed)


def test_defaults_are_those_of_the_signature() -> None:
    settings = RunSettings()

    assert {name: getattr(settings, name) for name in OPTIONS} == {
        name: parameter.default for name, parameter in OPTIONS.items()
    }


def test_a_local_run_has_the_same_options_but_for_nodes() -> None:
    assert get_type_hints(ExecuteOptions).keys() - get_type_hints(LocalExecuteOptions).keys() == {"nodes"}


@pytest.mark.parametrize("function", [handoff.execute_distributed, handoff.execute, handoff.run_sync])
def test_functions_of_the_module_take_the_same(function: Callable[..., Any]) -> None:
    hints = get_type_hints(function)

    assert hints["options"].__args__ == (ExecuteOptions,)


async def test_unknown_options_are_refused() -> None:
    dag = handoff.new().add_function(handoff.Function("only", [], int))
    # mypy would complain about comments that it needs not: it refuses these, too.
    async with handoff.Session(seeds=(), local_node={"cpu": 1}) as session:
        with pytest.raises(TypeError, match="max_retry"):
            await session.execute_distributed(dag, max_retry=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="max_retry"):
            await session.execute_local(dag, max_retry=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="nodes"):
            await session.execute_local(dag, nodes=["n1"])  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="max_retry"):
            await handoff.execute_local(dag, session=session, max_retry=1)  # type: ignore[call-arg]
        with pytest.raises(
            TypeError, match=r"^execute_distributed\(\) has no option 'retries'; did you mean max_retries\?"
        ):
            await handoff.execute_distributed(dag, session=session, retries=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^Session\(\) has no option 'progres'; did you mean progress\?"):
        handoff.Session(progres=False)  # type: ignore[call-arg]


async def test_what_is_no_dag_is_refused_with_a_way_out() -> None:
    handle = handoff.new().call(int, id="only")

    async with handoff.Session(seeds=()) as session:
        for run in (session.execute_distributed, session.execute_local):
            with pytest.raises(TypeError, match=r"a run is of a DAG, not of \[1\]: dag = handoff.new\(\)"):
                await run([1])  # type: ignore[arg-type]
            with pytest.raises(
                TypeError, match=r"not of Handle\(id='only'\): pass the DAG, and fetch=handle"
            ):
                await run(handle)  # type: ignore[arg-type]
