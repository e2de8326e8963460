"""Journals of runs to which functions are added, by functions and by the app."""

import asyncio
import operator
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors.actors.app.journal_file import JournalFile
from tests.processes import test_journal
from tests.processes.app import App

pytestmark = pytest.mark.processes

LARGE = 300_000


class Log(test_journal.Log):
    """A log whose wrappers are of this module: functions of other modules count by name only."""

    def logged(self, name: str, code: Callable[..., Any]) -> Callable[..., Any]:
        path = str(self._path)

        def run(*args: Any) -> Any:
            with open(path, "a") as file:  # noqa: PTH123 - as short as what travels should be
                file.write(f"{name}\n")
            return code(*args)

        return run


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


def forget(journal: Path, *ids: str) -> None:
    """Remove functions from a journal, as if the app had been killed before they were written."""
    with closing(sqlite3.connect(journal)) as database, database:
        for function_id in ids:
            assert database.execute("DELETE FROM done WHERE function = ?", [repr(function_id)]).rowcount == 1


def journaled(journal: Path) -> set[str]:
    with closing(sqlite3.connect(journal)) as database:
        return {name.strip("'") for (name,) in database.execute("SELECT function FROM done")}


# --- Graphs that functions return -------------------------------------------------------------------------------


def parent_of(
    log: Log, right: Callable[..., Any] = abs, start: int = 1
) -> Callable[..., "handoff.Subgraph[int]"]:
    """A function that goes on as two others and their sum."""
    logged_left, logged_right = log.logged("left", abs), log.logged("right", right)
    logged_sum = log.logged("sum", lambda left, right: left + right)

    def parent() -> handoff.Subgraph[int]:
        dag = handoff.new()
        both = dag.call(logged_left, start), dag.call(logged_right, 10)
        return handoff.Subgraph(dag, result=dag.call(logged_sum, *both))

    return log.logged("parent", parent)


def graph_of(parent: Callable[..., Any], log: Log) -> handoff.DAG:
    dag = handoff.new()
    dag.call(log.logged("after", lambda value: value), dag.call(parent, id="p"), id="after")
    return dag


async def test_what_a_function_had_added_is_reused_and_only_the_function_itself_runs_again(
    app: App, journal: Path, log: Log
) -> None:
    await app.run(graph_of(parent_of(log), log), journal=journal)
    log.take()
    assert journaled(journal) == {"p", "p/0", "p/1", "after"}
    forget(journal, "p", "after")

    run = await app.run(graph_of(parent_of(log), log), journal=journal)

    assert log.take() == ["after", "parent", "sum"]
    assert run.results["after"] == 11
    assert run.reused == {"p/0", "p/1"}
    assert (await app.run(graph_of(parent_of(log), log), journal=journal)).results["after"] == 11
    assert log.take() == []


async def test_an_added_function_whose_code_has_changed_runs_again(app: App, journal: Path, log: Log) -> None:
    await app.run(graph_of(parent_of(log), log), journal=journal)
    log.take()

    run = await app.run(graph_of(parent_of(log, right=lambda value: -value), log), journal=journal)

    assert log.take() == ["after", "parent", "right", "sum"]
    assert run.results["after"] == -9
    assert run.reused == {"p/0"}


async def test_an_added_function_whose_input_has_changed_runs_again(
    app: App, journal: Path, log: Log
) -> None:
    await app.run(graph_of(parent_of(log), log), journal=journal)
    log.take()

    run = await app.run(graph_of(parent_of(log, start=5), log), journal=journal)

    assert log.take() == ["after", "left", "parent", "sum"]
    assert run.results["after"] == 15


async def test_variables_of_the_run_count_for_what_functions_add(app: App, journal: Path, log: Log) -> None:
    await app.run(graph_of(parent_of(log), log), journal=journal, env_vars={"LANG_OF_RUN": "a"})
    log.take()

    await app.run(graph_of(parent_of(log), log), journal=journal, env_vars={"LANG_OF_RUN": "b"})

    assert log.take() == ["after", "left", "parent", "right", "sum"]


async def test_a_graph_within_a_graph_that_has_ended_is_not_made_again(
    app: App, journal: Path, log: Log
) -> None:
    inner = parent_of(log)
    last = log.logged("last", lambda value, more: value + more)

    def outer() -> handoff.Subgraph[int]:
        dag = handoff.new()
        return handoff.Subgraph(dag, result=dag.call(last, dag.call(inner), 100))

    def graph() -> handoff.DAG:
        dag = handoff.new()
        dag.call(log.logged("outer", outer), id="outer")
        return dag

    await app.run(graph(), journal=journal)
    log.take()
    forget(journal, "outer")

    assert (await app.run(graph(), journal=journal)).results["outer"] == 111
    assert log.take() == ["last", "outer"]


def mapped(log: Log, items: list[int], *, size: int = 0) -> handoff.DAG:
    """A map over a list that is known only later, of large items in parts or of small ones."""

    def made() -> Any:
        return handoff.Parts([bytes([item]) * size for item in items]) if size else items

    dag = handoff.new()
    source = dag.call(log.logged("list", made), id="list")
    code = log.logged("item", (lambda item: item[0]) if size else abs)
    dag.map(code, over=source).reduce(operator.add, id="total")
    return dag


@pytest.mark.parametrize("size", [0, LARGE], ids=["small", "parts"])
async def test_items_of_a_list_that_was_known_only_later_are_reused(
    app: App, journal: Path, log: Log, size: int
) -> None:
    await app.run(mapped(log, [1, 2, 3], size=size), journal=journal)
    log.take()
    forget(journal, "total", "total/1")

    run = await app.run(mapped(log, [1, 2, 3], size=size), journal=journal)

    # Parts were on the node alone, and are made again for the item that has to be.
    assert log.take() == (["item", "list"] if size else ["item"])
    assert run.results["total"] == 6
    assert {"total/0", "total/2"} <= run.reused


async def test_a_list_that_has_become_longer_runs_the_new_items(app: App, journal: Path, log: Log) -> None:
    await app.run(mapped(log, [1, 2, 3]), journal=journal)
    log.take()

    run = await app.run(mapped(log, [1, 2, 3, 4]), journal=journal)

    assert log.take() == ["item", "list"]
    assert run.results["total"] == 10


async def test_large_values_of_added_functions_are_made_again_only_if_something_takes_them(
    app: App, journal: Path, log: Log
) -> None:
    large, length = log.logged("large", bytes), log.logged("length", len)

    def parent() -> handoff.Subgraph[int]:
        dag = handoff.new()
        lengths = [dag.call(length, dag.call(large, LARGE + number)) for number in range(2)]
        return handoff.Subgraph(dag, result=dag.call(log.logged("sum", sum), lengths))

    def graph() -> handoff.DAG:
        dag = handoff.new()
        dag.call(log.logged("parent", parent), id="p")
        return dag

    await app.run(graph(), journal=journal)
    log.take()
    forget(journal, "p", "p/1")

    assert (await app.run(graph(), journal=journal)).results["p"] == 2 * LARGE + 1
    assert log.take() == ["large", "length", "parent", "sum"]


async def test_large_arguments_that_a_function_has_made_count_by_what_is_in_them(
    app: App, journal: Path, log: Log
) -> None:
    length, total = log.logged("length", len), log.logged("sum", lambda *lengths: sum(lengths))

    def graph(byte: bytes) -> handoff.DAG:
        def parent() -> handoff.Subgraph[int]:
            dag = handoff.new()
            lengths = [dag.call(length, made * LARGE) for made in (b"x", byte)]
            return handoff.Subgraph(dag, result=dag.call(total, *lengths))

        dag = handoff.new()
        dag.call(log.logged("parent", parent), id="p")
        return dag

    await app.run(graph(b"y"), journal=journal)
    log.take()
    forget(journal, "p")
    await app.run(graph(b"y"), journal=journal)
    same = log.take()
    await app.run(graph(b"z"), journal=journal)

    assert (same, log.take()) == (["parent", "sum"], ["length", "parent", "sum"])


# --- Open runs --------------------------------------------------------------------------------------------------


async def calls(app: App, log: Log, journal: Path, step: Callable[..., Any] = abs, **options: Any) -> int:
    async with app.session.open_run(journal=journal, **options) as run:
        first = run.call(log.logged("first", abs), 1)
        second = run.call(log.logged("step", step), first)
        await second
        total = run.call(
            log.logged("total", sum), [first, second, run.call(log.logged("named", abs), 5, id="n")]
        )
        return int(await total)


async def test_calls_of_an_open_run_that_were_done_are_reused(app: App, journal: Path, log: Log) -> None:
    events: list[handoff.RunEvent] = []
    first = await calls(app, log, journal)
    ran = log.take()

    second = await calls(app, log, journal, on_event=events.append)

    assert (first, second) == (7, 7)
    assert (ran, log.take()) == (["first", "named", "step", "total"], [])
    assert [event.kind for event in events if event.function_id is not None] == ["reused"] * 4


async def test_a_changed_call_runs_again_with_all_that_takes_its_result(
    app: App, journal: Path, log: Log
) -> None:
    await calls(app, log, journal)
    log.take()

    assert await calls(app, log, journal, step=lambda value: value + 10) == 17
    assert log.take() == ["step", "total"]


async def test_graphs_and_grown_calls_of_an_open_run_are_reused(app: App, journal: Path, log: Log) -> None:
    for expected in (["after", "left", "parent", "right", "sum"], []):
        async with app.session.open_run(journal=journal) as run:
            handles = run.add(graph_of(parent_of(log), log))
            assert await handles["after"] == 11
        assert log.take() == expected


async def test_large_results_of_an_open_run_are_reused_once_they_were_awaited(
    app: App, journal: Path, log: Log
) -> None:
    for expected in (["awaited", "large", "length"], ["large"]):
        async with app.session.open_run(journal=journal) as run:
            awaited = run.call(log.logged("awaited", bytes), LARGE)
            stays = run.call(log.logged("large", bytes), LARGE)
            assert await run.call(log.logged("length", len), stays) == LARGE
            assert await awaited == bytes(LARGE)
            assert await run.call(len, awaited) == LARGE
        assert log.take() == expected


async def test_a_failure_is_not_reused(app: App, journal: Path, log: Log, tmp_path: Path) -> None:
    marker = tmp_path / "repaired"

    def fragile() -> str:
        if not marker.exists():
            raise ValueError("not yet")
        return "done"

    async def attempt() -> str:
        async with app.session.open_run(journal=journal, max_retries=0, on_failure="continue") as run:
            return str(await run.call(fragile))

    with pytest.raises(handoff.FunctionFailed):
        await attempt()
    marker.touch()

    assert await attempt() == "done"


async def test_an_id_that_is_used_again_in_the_same_run_is_another_call(
    app: App, journal: Path, log: Log
) -> None:
    async with app.session.open_run(journal=journal) as run:
        for _ in range(2):
            assert await run.call(log.logged("polled", abs), 1, id="poll") == 1
            await app.until(lambda: "poll" not in run._going.runner.plan.index_of)
            await asyncio.sleep(0)

    assert log.take() == ["polled", "polled"]


async def test_an_open_run_with_a_journal_keeps_nothing_of_calls_that_are_over(
    app: App, journal: Path
) -> None:
    async with app.session.open_run(journal=journal, max_pending=500) as run:
        runner = run._going.runner
        for number in range(8000):
            await run.room()
            run.call(abs, number)
        await app.until(lambda: not run._unfinished)
        await app.until(lambda: not runner._program.fingerprints)

        assert len(runner.plan.ids) < 4000
        assert not runner.values

    assert len(journaled(journal)) == 8000


async def test_a_journal_that_an_open_run_cannot_use_is_an_error_where_the_block_begins(
    app: App, journal: Path, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("no database, and long enough not to be taken for an empty one" * 20)
    with closing(JournalFile(journal)):
        for path, reason in (
            (journal, "in use by another run"),
            (tmp_path / "none" / "run.db", "none"),
            (tmp_path / "text", "it is no journal"),
        ):
            with pytest.raises(handoff.JournalError, match=reason):
                async with app.session.open_run(journal=path):
                    pytest.fail("the block has begun")
    await app.until_idle()


async def test_an_open_run_whose_journal_cannot_be_written_ends_with_the_error(
    app: App, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise handoff.JournalError(journal, "the disk is full")

    monkeypatch.setattr(JournalFile, "write", fail)
    with pytest.raises(handoff.JournalError, match="the disk is full"):
        async with app.session.open_run(journal=journal) as run:
            await run.call(abs, 1)
    await app.until_idle()


async def test_an_open_run_whose_journal_cannot_be_read_ends_with_the_error(
    app: App, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise handoff.JournalError(journal, "it is damaged")

    async with app.session.open_run(journal=journal) as run:
        await run.call(abs, 1)
    monkeypatch.setattr(JournalFile, "recorded", fail)
    with pytest.raises(handoff.JournalError, match="it is damaged"):
        async with app.session.open_run(journal=journal) as run:
            await run.call(abs, 1)
    await app.until_idle()


async def test_a_journal_that_cannot_be_read_when_a_graph_is_looked_up_ends_the_run(
    app: App, journal: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = JournalFile.recorded

    def fail(file: JournalFile, keys: list[bytes]) -> Any:
        if len(keys) == 3:
            raise handoff.JournalError(journal, "it is damaged")
        return read(file, keys)

    monkeypatch.setattr(JournalFile, "recorded", fail)
    with pytest.raises(handoff.JournalError, match="it is damaged"):
        await app.run(graph_of(parent_of(log), log), journal=journal)
    await app.until_idle()
