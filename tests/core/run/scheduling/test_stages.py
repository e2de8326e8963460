"""Stages of streams are functions that take no usual worker, go where their claims fit, and are as long as their app likes."""

from handoff_actors.core.run.events import RoomFreed, RunEffect
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.durations import Durations
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.core.run.scheduling.session_load import SessionLoad
from handoff_actors.graph import DAG, Function, Plan
from handoff_actors.ids import Resources, RunId
from handoff_actors.stage_mark import is_stage_code
from tests.core.builders import (
    assigned,
    code,
    completed,
    done,
    node_state,
    node_up,
    options,
    program_of,
    run_of,
    stage_code,
)


def stages(count: int, cost: Resources | None = None, first: int = 0) -> list[Function]:
    return [Function(f"stage {number}", [], stage_code, cost=cost) for number in range(first, first + count)]


def sent_to(effects: list[RunEffect]) -> dict[str, int]:
    sent: dict[str, int] = {}
    for name, indices in assigned(effects):
        sent[name] = sent.get(name, 0) + len(indices)
    return sent


def of_session(load: SessionLoad, number: int, *functions: Function) -> RunMachine:
    return RunMachine(
        RunId(number), program_of(*functions), options(load=load, policy=POLICIES["most_spare"])
    )


def test_code_is_known_by_its_mark_alone() -> None:
    class Equal:
        def __call__(self) -> None: ...

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    plan = Plan.compile(DAG("dag").add_functions([*stages(1), Function("f", [], code)]))

    assert [spec.is_stage for spec in plan.templates] == [True, False]
    assert not is_stage_code(Equal())


def test_more_stages_than_workers_are_sent_at_once() -> None:
    run = run_of(*stages(10))

    effects = run.start(0.0, [node_up("a", workers=2, busy=2)])

    assert sent_to(effects) == {"a": 10}


def test_stages_that_claim_nothing_spread_over_the_nodes() -> None:
    run = run_of(*stages(4))

    effects = run.start(0.0, [node_up("a"), node_up("b")])

    assert sent_to(effects) == {"a": 2, "b": 2}


def test_stages_leave_the_workers_to_functions() -> None:
    run = run_of(*stages(5), *(Function(number, [], code) for number in range(2)))

    run.start(0.0, [node_up("a", workers=2)])
    load = run.scheduler.nodes["a"].load

    assert (load.busy, load.coroutines) == (2, 5)
    load.check()


def test_no_stage_is_sent_to_wait_behind_others() -> None:
    run = run_of(*stages(5, {"cpu": 1.0}))

    effects = run.start(0.0, [node_up("a", {"cpu": 2.0}, workers=2)])
    later = run.handle(completed("a", done(0)), 1.0)

    assert sent_to(effects) == {"a": 2}
    assert sent_to(later) == {"a": 1}
    need = run.scheduler.needs.of[0]
    assert need.is_stage
    assert not node_state(node_up("b")).may_queue(need)


def test_durations_of_stages_are_not_learned() -> None:
    run, durations = run_of(*stages(1)), Durations()
    run.start(0.0, [node_up("a")])

    run.handle(completed("a", done(0, ran_s=3600.0)), 3600.0)
    durations.learn(run.scheduler._program.templates, run._plan.template_of, run.state)

    assert run.scheduler.needs.of[0].seconds is None
    assert durations.of(b"") is None


def test_stages_are_not_fused() -> None:
    run = run_of(Function("a", [], stage_code), Function("b", ["a"], stage_code))
    run.start(0.0, [node_up("a")])
    run.scheduler.needs.of[0].seconds = 1e-6

    effects = run.handle(completed("a", done(0)), 1.0)

    assert sent_to(effects) == {"a": 1}


def test_run_of_stages_is_told_of_room_while_no_worker_is_idle() -> None:
    load = SessionLoad()
    others = of_session(load, 1, *(Function(number, [], code) for number in range(4)))
    first = of_session(load, 2, *stages(1, {"memory": 10.0}))
    second = of_session(load, 3, *stages(1, {"memory": 10.0}))
    node = node_up("a", {"cpu": 2.0, "memory": 10.0}, workers=2)
    for run in (others, first):
        run.start(0.0, [node])
    assert sent_to(second.start(0.0, [node])) == {}

    first.handle(completed("a", done(0)), 1.0)
    told = list(load.runs_to_tell())

    assert load.nodes["a"].idle_workers == 0
    assert RunId(3) in told
    assert sent_to(second.handle(RoomFreed(), 1.1)) == {"a": 1}
