"""Numerical libraries in workers start no more threads than their function claims cores."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from handoff_actors.workers.child.environments import Environments, JobEnvironment
from handoff_actors.workers.child.store import WorkerStore
from handoff_actors.workers.child.threads import VARIABLES
from tests.workers.pool_harness import ASYNC, SYNC, PoolHarness

pytestmark = pytest.mark.processes


@pytest.fixture(autouse=True)
def _no_variables(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in getattr(request, "param", {}).items():
        monkeypatch.setenv(name, value)
    # Before the zygote starts, which has them from here.
    request.getfixturevalue("harness")


def thread_limits() -> list[str | None]:
    return [os.environ.get(name) for name in VARIABLES]


def threads_of_numpy() -> set[int]:
    import numpy  # noqa: ICN001, F401, PLC0415 - it is to be loaded by the worker
    from threadpoolctl import threadpool_info  # noqa: PLC0415

    return {int(library["num_threads"]) for library in threadpool_info()}


async def call(harness: PoolHarness, code: Any, cpu: float | None) -> Any:
    return await harness.call_with(SYNC, code, (), (), {}, cost=None if cpu is None else {"cpu": cpu})


@pytest.mark.parametrize(("cpu", "threads"), [(None, "1"), (0.5, "1"), (1.0, "1"), (3.0, "3")])
async def test_limit_is_the_cores_that_a_function_claims(
    harness: PoolHarness, cpu: float | None, threads: str
) -> None:
    assert await call(harness, thread_limits, cpu) == [threads] * len(VARIABLES)


async def test_limit_of_coroutines_is_one(harness: PoolHarness) -> None:
    assert await harness.call(ASYNC, thread_limits) == ["1"] * len(VARIABLES)


async def test_libraries_that_are_loaded_follow_the_claim(harness: PoolHarness) -> None:
    assert [await call(harness, threads_of_numpy, cpu) for cpu in (1.0, 2.0, 1.0)] == [{1}, {2}, {1}]


async def test_libraries_that_are_loaded_are_left_alone_without_threadpoolctl(harness: PoolHarness) -> None:
    def forbid() -> None:
        sys.modules["threadpoolctl"] = None  # type: ignore[assignment]

    await call(harness, forbid, 1.0)

    assert await call(harness, thread_limits, 2.0) == ["2"] * len(VARIABLES)


@pytest.mark.parametrize("_no_variables", [{"MKL_NUM_THREADS": "5"}], indirect=True)
async def test_variables_set_for_the_node_are_left_as_they_are(harness: PoolHarness) -> None:
    assert [await call(harness, thread_limits, cpu) for cpu in (1.0, 2.0)] == [[None, None, "5"]] * 2


def test_variables_that_a_function_asked_for_give_way_to_the_next_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    # A worker's environments put a finder of modules there, which is to go with this test.
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    environments = Environments(WorkerStore(tmp_path, None), lambda: None)

    environments.enter(JobEnvironment(1, {"OMP_NUM_THREADS": "7"}, "", None), 1)
    asked_for = thread_limits()
    environments.enter(None, 2)

    assert asked_for == ["7", "1", "1"]
    assert thread_limits() == ["2", "2", "2"]
