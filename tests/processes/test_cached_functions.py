"""Functions whose results are cached on the app's machine."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from tests.processes.app import App

pytestmark = pytest.mark.processes

LARGE = 1_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv("HANDOFF_CACHE", str(directory))
    return directory


def cached_files(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if not path.name.startswith(".")]


def noted(log: Path, code: Callable[..., Any]) -> Callable[..., Any]:
    """A function that leaves a line in a file whenever it runs."""

    def run(*args: Any) -> Any:
        with log.open("a") as file:
            file.write("x")
        return code(*args)

    return run


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def make_writable_by_others(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o777)


def times(log: Path) -> int:
    return len(log.read_text()) if log.exists() else 0


async def test_a_result_is_used_again_by_code_and_inputs_whatever_the_id(app: App, tmp_path: Path) -> None:
    log = tmp_path / "log"
    results = []
    for function_id in ("first", "second"):
        dag = handoff.DAG()
        value = dag.call(noted(log, lambda number: number + 1), 1, id=function_id, cache="30d")
        run = await app.run(dag)
        results.append((run.results[value], run.reused))

    assert results == [(2, set()), (2, {"second"})]
    assert times(log) == 1


async def test_other_code_or_inputs_run(app: App, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for code, argument in ((abs, 1), (abs, 2), (float, 2)):
        dag = handoff.DAG()
        dag.call(noted(log, code), argument, cache=60)
        await app.run(dag)

    assert times(log) == 3


async def test_an_input_that_is_a_result_counts_by_what_made_it(app: App, tmp_path: Path) -> None:
    above, below = tmp_path / "above", tmp_path / "below"

    async def result(start: int) -> Any:
        dag = handoff.DAG()
        made = dag.call(noted(above, lambda number: number), start)
        return (await app.run(dag.add_function(taker(made, below)))).results["taker"]

    def taker(made: handoff.Handle[Any], log: Path) -> handoff.Function:
        return handoff.Function("taker", [made], noted(log, lambda number: number * 10), cache="1h")

    assert [await result(1), await result(1), await result(2)] == [10, 10, 20]
    # What is not cached itself runs in each run.
    assert (times(above), times(below)) == (3, 2)


async def test_large_results_and_those_of_tasks_are_cached_too(app: App, tmp_path: Path, cache: Path) -> None:
    log = tmp_path / "log"
    made = handoff.task(noted(log, bytes), cache="1d")
    for _ in range(2):
        dag = handoff.DAG()
        large = dag.call(made, LARGE)
        length = dag.call(len, large)
        run = await app.run(dag)
        assert run.results[large] == bytes(LARGE)
        assert run.results[length] == LARGE

    assert times(log) == 1
    [file] = cached_files(cache)
    assert (mode_of(file), mode_of(cache)) == (0o600, 0o700)


async def test_a_result_of_an_earlier_run_counts_by_what_made_it(app: App, tmp_path: Path) -> None:
    log = tmp_path / "log"
    lengths = []
    for _ in range(2):
        first = handoff.DAG()
        large = first.call(bytes, LARGE, cache="1h")
        first.call(len, large)
        earlier = await app.run(first)
        second = handoff.DAG()
        length = second.call(noted(log, len), large, cache="1h")
        lengths.append((await app.run(second)).results[length])
        assert earlier.results

    assert lengths == [LARGE, LARGE]
    assert times(log) == 1


async def test_results_expire(app: App, tmp_path: Path, cache: Path) -> None:
    log = tmp_path / "log"
    for ttl in ("1h", "1h", 0.000001):
        dag = handoff.DAG()
        dag.call(noted(log, abs), 1, cache=ttl)
        await app.run(dag)

    assert times(log) == 2


async def test_a_failure_is_not_cached(app: App, tmp_path: Path, cache: Path) -> None:
    log = tmp_path / "log"

    def fail(_: int) -> None:
        raise ValueError("no")

    for _ in range(2):
        dag = handoff.DAG()
        dag.call(noted(log, fail), 1, cache="1h", max_retries=0)
        with pytest.raises(handoff.FunctionFailed):
            await app.run(dag)

    assert times(log) == 2
    assert cached_files(cache) == []


async def test_a_journal_and_the_cache_work_together(app: App, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name in ("one.journal", "one.journal", "other.journal"):
        dag = handoff.DAG()
        value = dag.call(noted(log, abs), 1, id="a", cache="1h")
        run = await app.run(dag, journal=tmp_path / name)
        assert run.results[value] == 1

    assert run.reused == {"a"}
    assert times(log) == 1


async def test_hooks_of_a_function_that_is_cached_do_not_run_again(app: App, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def taken(value: int, _source: str, _target: str) -> int:
        with log.open("a") as file:
            file.write("x")
        return value

    for _ in range(2):
        dag = handoff.DAG()
        made = dag.call(abs, 1)
        total = dag.call(float, handoff.Argument(made, serialize=taken), cache="1h")
        assert (await app.run(dag)).results[total] == 1.0

    assert times(log) == 1


async def test_a_directory_that_others_can_write_is_refused(app: App, cache: Path) -> None:
    make_writable_by_others(cache)
    dag = handoff.DAG()
    dag.call(abs, 1, cache="1h")

    with pytest.raises(handoff.HandoffError, match=r"others can write it; .*HANDOFF_CACHE"):
        await app.run(dag)


async def test_a_file_that_others_can_write_or_that_is_cut_off_is_not_used(
    app: App, tmp_path: Path, cache: Path
) -> None:
    log = tmp_path / "log"

    async def run() -> None:
        dag = handoff.DAG()
        dag.call(noted(log, abs), 1, cache="1h")
        await app.run(dag)

    await run()
    [file] = cached_files(cache)
    file.chmod(0o666)
    await run()
    assert times(log) == 2
    os.truncate(file, file.stat().st_size - 1)
    await run()
    assert times(log) == 3
