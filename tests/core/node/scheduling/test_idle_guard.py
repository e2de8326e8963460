from handoff_actors.core.node.events import (
    KillWorker,
    LogRetirement,
    NodeEffect,
    Reply,
    SpawnWorker,
    WorkersSampled,
    WorkerUnfit,
    WorkerUp,
)
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.ids import WorkerId
from handoff_actors.wire.messages.runs import Close, Completed, WorkerRetired
from tests.core.builders import (
    APP,
    FIRST_WORKER,
    RUN,
    SECOND_WORKER,
    assign,
    done,
    exited,
    gives,
    job,
    replies,
    said,
    started_node,
    template,
    worker_done,
    worker_failed,
)

THIRD_WORKER = WorkerId(3)


def _sample(began_at: float, *cpu_s: float) -> WorkersSampled:
    used = {WorkerId(number): seconds for number, seconds in enumerate(cpu_s, start=1)}
    return WorkersSampled(began_at, {}, 5000, 10_000, used)


def _node_after_work() -> NodeMachine:
    """A node whose first worker has done function 0 by second 1."""
    node = started_node({"cpu": 2.0}, workers=2)
    node.handle(said(assign([job(0)])), 0.5)
    node.handle(worker_done(done(0)), 1.0)
    return node


def _killed(effects: list[NodeEffect]) -> list[WorkerId]:
    return [effect.worker for effect in effects if isinstance(effect, KillWorker)]


def test_worker_in_which_something_runs_on_is_replaced_and_its_run_told_so() -> None:
    node = _node_after_work()

    first = node.handle(_sample(1.2, 5.0, 1.0), 1.2)
    too_soon = node.handle(_sample(2.0, 5.8, 1.0), 2.0)
    effects = node.handle(_sample(2.3, 6.1, 1.0), 2.3)

    assert _killed(first) == _killed(too_soon) == []
    assert _killed(effects) == [FIRST_WORKER]
    assert SpawnWorker(THIRD_WORKER, False) in effects
    (told,) = replies(effects)
    assert isinstance(told, WorkerRetired)
    assert (told.run, told.index, told.attempt) == (RUN, 0, 1)
    assert "kept 1.0 cores busy for 1.1 s" in told.reason
    node.check()


def test_run_hears_of_the_function_that_failed_last() -> None:
    node = started_node()
    node.handle(said(assign([job(3)])), 0.5)
    node.handle(worker_failed(3), 1.0)

    node.handle(_sample(1.2, 5.0), 1.2)
    (told,) = replies(node.handle(_sample(2.3, 6.0), 2.3))

    assert isinstance(told, WorkerRetired)
    assert told.index == 3


def test_retirement_after_the_end_of_the_run_is_logged() -> None:
    node = _node_after_work()
    node.handle(said(Close(RUN)), 1.1)

    node.handle(_sample(1.2, 5.0), 1.2)
    effects = node.handle(_sample(2.3, 6.0), 2.3)

    assert [effect.worker for effect in effects if isinstance(effect, LogRetirement)] == [FIRST_WORKER]
    assert replies(effects) == []


def test_quiet_workers_stay_and_are_looked_at_no_longer() -> None:
    node = _node_after_work()

    assert node.is_to_be_sampled
    node.handle(_sample(1.2, 5.0, 1.0), 1.2)
    assert node.is_to_be_sampled
    assert _killed(node.handle(_sample(2.3, 5.02, 9.0), 2.3)) == []
    assert not node.is_to_be_sampled

    node.handle(said(assign([job(1)], [])), 3.0)
    assert node.is_to_be_sampled


def test_worker_that_gets_a_part_of_a_core_on_a_busy_machine_is_judged_again() -> None:
    node = _node_after_work()

    node.handle(_sample(1.2, 5.0), 1.2)
    starved = node.handle(_sample(2.3, 5.4), 2.3)
    assert node.is_to_be_sampled
    later = node.handle(_sample(3.4, 6.4), 3.4)

    assert _killed(starved) == []
    assert _killed(later) == [FIRST_WORKER]


def test_cpu_time_of_functions_does_not_count() -> None:
    node = _node_after_work()

    node.handle(_sample(1.2, 5.0), 1.2)
    node.handle(said(assign([job(1)], [])), 1.3)
    running = node.handle(_sample(2.5, 6.3), 2.5)
    node.handle(worker_done(done(1)), 2.6)
    # This sample was taken before the function ended.
    late = node.handle(_sample(2.55, 6.35), 2.7)
    after = node.handle(_sample(2.8, 6.5), 2.8)
    quiet = node.handle(_sample(4.0, 6.5), 4.0)

    assert _killed([*running, *late, *after, *quiet]) == []


def test_unfit_sync_worker_is_replaced_and_its_other_functions_run_elsewhere() -> None:
    node = started_node({"cpu": 1.0}, workers=1)
    node.handle(said(assign([job(index) for index in range(3)])), 0.5)
    node.handle(worker_done(done(0, ran_s=0.0001)), 0.6)
    held = {index for _, index in node._scheduler.roster.workers[FIRST_WORKER].held}
    assert held == {1, 2}

    effects = node.handle(WorkerUnfit(FIRST_WORKER, RUN, 0, 1, "it left a mess"), 0.7)
    lost = node.handle(exited(signal=None), 0.8)
    restarted = node.handle(WorkerUp(SECOND_WORKER, 2000), 0.9)

    assert _killed(effects) == [FIRST_WORKER]
    assert SpawnWorker(SECOND_WORKER, False) in effects
    assert Reply(APP, WorkerRetired(RUN, 0, 1, "it left a mess")) in effects
    assert replies(lost) == []
    assert [worker for worker, _ in gives(restarted)] == [SECOND_WORKER]
    node.check()


def test_unfit_async_worker_ends_with_its_functions_and_new_ones_go_to_another() -> None:
    node = started_node({"cpu": 1.0}, workers=1)
    coroutine = template(is_async=True)
    node.handle(said(assign([job(0), job(1)], [coroutine])), 0.5)
    started = node.handle(WorkerUp(SECOND_WORKER, 2000), 0.6)
    assert gives(started) == [(SECOND_WORKER, [0, 1])]
    node.handle(worker_done(done(0), worker=SECOND_WORKER), 0.7)

    unfit = node.handle(WorkerUnfit(SECOND_WORKER, RUN, 0, 1, "it left a task"), 0.8)
    again = node.handle(WorkerUnfit(SECOND_WORKER, RUN, 0, 1, "it left a task"), 0.8)
    node.handle(said(assign([job(2)], [])), 0.9)
    given = node.handle(WorkerUp(THIRD_WORKER, 3000), 1.0)
    ended = node.handle(worker_done(done(1), worker=SECOND_WORKER), 1.1)

    assert _killed([*unfit, *again]) == []
    assert gives(given) == [(THIRD_WORKER, [2])]
    assert _killed(ended) == [SECOND_WORKER]
    assert any(isinstance(message, Completed) for message in replies(ended))
    node.check()


def test_unfit_async_worker_that_dies_is_forgotten() -> None:
    node = started_node({"cpu": 1.0}, workers=1)
    node.handle(said(assign([job(0)], [template(is_async=True)])), 0.5)
    node.handle(WorkerUp(SECOND_WORKER, 2000), 0.6)
    node.handle(WorkerUnfit(SECOND_WORKER, RUN, 0, 1, "it left a task"), 0.8)

    effects = node.handle(exited(SECOND_WORKER), 0.9)

    assert _killed(effects) == []
    assert node._scheduler.roster.retiring == []
    node.check()


def test_unfit_async_worker_that_is_killed_for_another_reason_is_killed_once() -> None:
    node = started_node({"cpu": 1.0}, workers=1)
    node.handle(said(assign([job(0)], [template(is_async=True)])), 0.5)
    node.handle(WorkerUp(SECOND_WORKER, 2000), 0.6)
    node.handle(WorkerUnfit(SECOND_WORKER, RUN, 0, 1, "it left a task"), 0.8)

    closed = node.handle(said(Close(RUN)), 0.9)
    killed = node.wake(2.0)
    after = node.handle(exited(SECOND_WORKER), 2.1)

    assert _killed([*closed, *killed, *after]) == [SECOND_WORKER]


def test_reports_of_workers_that_are_gone_change_nothing() -> None:
    node = _node_after_work()

    effects = node.handle(WorkerUnfit(WorkerId(9), RUN, 0, 1, "it left a mess"), 1.2)

    assert _killed(effects) == []
