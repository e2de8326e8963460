"""A call leaves nothing behind in its worker's process, however short it is, and whatever it ends with."""

import signal
from pathlib import Path

import pytest
from msgspec.structs import replace

from handoff_actors.wire.messages.jobs import Call, Job, TemplateEnvironment
from tests.workers import leftovers
from tests.workers.announcement import Announcement
from tests.workers.leftovers import STATES, change, change_and_fail, change_async, look, look_async
from tests.workers.pool_harness import ASYNC, RUN, SYNC, PoolHarness, job, template


async def test_a_function_leaves_no_state_behind(harness: PoolHarness) -> None:
    before = {name: await harness.call(SYNC, look, name) for name in STATES}
    after = {}
    for name in STATES:
        await harness.call(SYNC, change, name)
        after[name] = await harness.call(SYNC, look, name)

    assert after == before


async def test_a_function_that_fails_leaves_no_state_behind(harness: PoolHarness) -> None:
    before = {name: await harness.call(SYNC, look, name) for name in STATES}
    after = {}
    for name in STATES:
        with pytest.raises(LookupError):
            await harness.call(SYNC, change_and_fail, name)
        after[name] = await harness.call(SYNC, look, name)

    assert after == before


async def test_a_coroutine_leaves_no_state_behind(harness: PoolHarness) -> None:
    before = {name: await harness.call(ASYNC, look_async, name) for name in STATES}
    after = {}
    for name in STATES:
        await harness.call(ASYNC, change_async, name)
        after[name] = await harness.call(ASYNC, look_async, name)

    assert after == before


async def test_changes_by_c_code_in_a_long_function_are_undone(harness: PoolHarness) -> None:
    before = await harness.call(SYNC, leftovers.seen_of_c)

    await harness.call(SYNC, leftovers.change_by_c)

    assert await harness.call(SYNC, leftovers.seen_of_c) == before


async def test_an_inline_function_leaves_nothing_to_its_consumer(harness: PoolHarness) -> None:
    templates = {0: template(leftovers.set_variable), 1: template(leftovers.seen_by, 1)}
    consumer = Job(2, 1, 1, [Call(0, [], None)], None)

    harness.pool.give(SYNC, RUN, templates, [consumer], None)
    await harness.end_of(2)

    assert harness.result(2) == ("set within", "usual")


async def test_a_coroutine_that_a_plain_function_returns_sees_its_context(harness: PoolHarness) -> None:
    assert await harness.call(SYNC, leftovers.awaited) == "for the coroutine"
    assert await harness.call(SYNC, leftovers.seen_variable) == "usual"


async def test_what_a_module_changes_while_a_function_imports_it_stays(harness: PoolHarness) -> None:
    stays = (50, "1", 3000, signal.SIG_IGN, True, False, None, signal.SIG_DFL)

    await harness.call(SYNC, leftovers.import_and_change)
    await harness.call(ASYNC, leftovers.import_and_change_async)

    assert await harness.call(SYNC, leftovers.imported) == stays
    assert await harness.call(SYNC, leftovers.imported) == stays
    assert await harness.call(ASYNC, leftovers.imported_async) == stays
    assert await harness.call(ASYNC, leftovers.imported_async) == stays


async def test_tracebacks_of_imports_are_as_everywhere(harness: PoolHarness) -> None:
    shown = await harness.call(SYNC, leftovers.import_broken)

    assert "ZeroDivisionError" in shown
    assert "broken_on_import" in shown
    assert "exec_module" not in shown
    assert "importlib" not in shown


async def test_functions_with_recorders_are_found_by_name(harness: PoolHarness) -> None:
    assert await harness.call(SYNC, leftovers.recorders) == []


async def test_the_environment_of_a_run_stays_from_job_to_job(harness: PoolHarness, tmp_path: Path) -> None:
    here = TemplateEnvironment({b"OF_RUN": b"1"}, bytes(tmp_path))
    lost = TemplateEnvironment({b"OF_RUN": b"2"}, bytes(tmp_path / "lost"))
    templates = {
        0: replace(template(leftovers.change_environment), environment=here),
        1: replace(template(leftovers.seen_environment, 1), environment=here),
        2: replace(template(leftovers.seen_environment, 2), environment=lost),
        3: template(leftovers.seen_environment, 3),
    }
    jobs = [job(index, number=number) for index, number in enumerate((3, 0, 1, 0, 1, 2, 3, 1, 3))]

    harness.pool.give(SYNC, RUN, templates, jobs, None)
    await harness.end_of(8)

    assert [harness.result(index) for index in (2, 4, 7)] == [("1", str(tmp_path))] * 3
    assert [harness.result(index) for index in (0, 6, 8)] == [(None, str(Path.cwd()))] * 3
    assert harness.failed.keys() == {5}


async def test_a_recall_is_answered_after_a_function_that_ignored_its_signal(
    harness: PoolHarness, announcement: Announcement
) -> None:
    templates = {0: template(leftovers.ignore_signals_until), 1: template(leftovers.seen_variable, 1)}
    permission = Path(f"{announcement.path}.go")
    jobs = [job(0, announcement.path, str(permission)), job(1, number=1), job(2, number=1)]

    harness.pool.give(SYNC, RUN, templates, jobs, None)
    await announcement.text()
    harness.pool.recall(SYNC)
    permission.touch()  # noqa: ASYNC240
    await harness.until(lambda: bool(harness.recalls))

    # The other one has begun by then.
    assert harness.recalls == [[(RUN, 2, 1)]]


async def test_a_worker_that_cannot_be_mended_says_why_and_ends(harness: PoolHarness) -> None:
    templates = {0: template(leftovers.lose_privileges), 1: template(leftovers.seen_variable, 1)}
    jobs = [job(index, number=min(index, 1)) for index in range(3)]

    harness.pool.give(SYNC, RUN, templates, jobs, None)

    assert await harness.exit_of(SYNC) == (None, 0)
    key, reason = harness.unfit[SYNC]
    assert key == (RUN, 0, 1)
    assert "can't be put back" in reason
    assert harness.done.keys() == {0}
    assert harness.failed == {}
