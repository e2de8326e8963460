"""Objects of `per_worker` in the workers of a node: where functions with them run, what they claim, and when they go."""

from collections.abc import Sequence

from msgspec.structs import replace

from handoff_actors.core.node.events import (
    KillWorker,
    NodeEffect,
    ObjectMade,
    RunJobs,
    SpawnWorker,
    WorkersSampled,
    WorkerUp,
)
from handoff_actors.core.node.limits import Limits
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.ids import Resources, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Call, Job, Template, Ticket, WarmObject
from handoff_actors.wire.messages.members import Beat, WarmCopies
from handoff_actors.wire.messages.runs import Close, Completed, Recalled
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

KEY, OTHER_KEY = b"k" * 16, b"o" * 16
IDLE_S = 100.0
OTHER_RUN = RunId(8)


def maker(
    cost: Resources | None = None, *, number: int = 1, key: bytes = KEY, idle_s: float = IDLE_S
) -> Template:
    """A template whose code makes an object."""
    return replace(template(number, cost), warm=WarmObject(key, f"load({key[:1]!r})", idle_s))


def user(index: int, *makers: int, number: int = 0) -> Job:
    """A function that takes objects."""
    return job(index, number=number, args=[Call(number, [], None) for number in makers or (1,)])


def take(
    node: NodeMachine, templates: Sequence[Template], *jobs: Job, now: float = 1.0, run: RunId = RUN
) -> list[NodeEffect]:
    return node.handle(said(assign(jobs, templates, run)), now)


def end(
    node: NodeMachine, index: int, *, worker: WorkerId = FIRST_WORKER, now: float, run: RunId = RUN
) -> list[NodeEffect]:
    """A worker has run a function, for which it has made the object if it had none."""
    for key in (KEY, OTHER_KEY):
        node.handle(ObjectMade(worker, key, 5_000_000), now)
    effects = node.handle(worker_done(done(index), worker=worker, run=run), now)
    node.check()
    return effects


def killed(effects: Sequence[NodeEffect]) -> list[WorkerId]:
    return [effect.worker for effect in effects if isinstance(effect, KillWorker)]


def node_with_object(
    capabilities: Resources, cost: Resources, *, workers: int = 1, most_workers: int = 4
) -> NodeMachine:
    """A node whose first worker has run a function with an object, at time 1, and is idle."""
    node = started_node(capabilities, workers=workers, most_workers=most_workers)
    assert gives(take(node, [template(), maker(cost)], user(1))) == [(FIRST_WORKER, [1])]
    end(node, 1, now=1.0)
    return node


def test_an_object_claims_as_long_as_a_worker_has_it() -> None:
    node = started_node({"cpu": 2.0, "memory": 1000.0})

    take(node, [template(cost={"cpu": 1.0}), maker({"memory": 600.0})], user(1))

    assert node.ledger.claimed == {"cpu": 1.0, "memory": 600.0}
    assert node.advertisement().spare == {"cpu": 1.0, "memory": 400.0}

    end(node, 1, now=2.0)

    assert node.ledger.claimed == {"cpu": 0.0, "memory": 600.0}
    assert node.advertisement().spare == {"cpu": 2.0, "memory": 1000.0}
    assert node.advertisement().warm == [WarmCopies(KEY, "load(b'k')", 1, 5_000_000)]
    assert not node.is_idle
    node.handle(said(Close(RUN)), 3.0)
    assert node.is_idle


def test_functions_run_where_their_object_is_and_others_elsewhere() -> None:
    node = node_with_object({"cpu": 2.0}, {}, workers=2)

    assert gives(take(node, [], job(2))) == [(SECOND_WORKER, [2])]
    end(node, 2, worker=SECOND_WORKER, now=2.0)
    assert gives(take(node, [], user(3))) == [(FIRST_WORKER, [3])]
    assert gives(take(node, [], user(4))) == [(SECOND_WORKER, [4])]
    assert node.advertisement().warm == [WarmCopies(KEY, "load(b'k')", 2, 5_000_000)]


def test_an_object_that_another_run_needs_too_is_the_same() -> None:
    node = node_with_object({"cpu": 2.0, "memory": 1000.0}, {"memory": 600.0}, workers=2)

    effects = take(node, [template(), maker({"memory": 600.0})], user(1), run=OTHER_RUN)

    assert gives(effects) == [(FIRST_WORKER, [1])]
    assert node.ledger.claimed["memory"] == 600.0


def test_one_function_needs_several_objects_also_of_inline_functions() -> None:
    node = started_node({"cpu": 1.0, "memory": 1000.0})
    inline = Call(3, [Call(2, [], None), b"value"], None)
    templates = [
        template(), maker({"memory": 1.0}), maker({"memory": 10.0}, number=2, key=OTHER_KEY), template(3)
    ]  # fmt: skip

    take(node, templates, job(1, args=[Call(1, [], None), inline, Call(1, [], None)]))

    assert node.ledger.claimed["memory"] == 11.0
    end(node, 1, now=2.0)
    assert gives(take(node, [], user(2), job(3))) == [(FIRST_WORKER, [2])]


def test_an_object_that_could_not_be_made_claims_nothing() -> None:
    node = started_node({"memory": 1000.0})
    take(node, [template(), maker({"memory": 600.0})], user(1))

    node.handle(worker_failed(1), 2.0)

    assert node.ledger.claimed == {"memory": 0.0}
    assert node.advertisement().warm == []
    node.check()


def test_a_death_releases_the_claim_and_the_function_runs_elsewhere() -> None:
    node = node_with_object({"cpu": 2.0, "memory": 1000.0}, {"memory": 600.0}, workers=2)
    take(node, [], user(2), user(3))

    node.handle(exited(), 3.0)

    assert node.ledger.claimed["memory"] == 600.0
    assert node.advertisement().warm == [WarmCopies(KEY, "load(b'k')", 1, 0)]
    node.check()
    node.handle(ObjectMade(FIRST_WORKER, KEY, 1), 4.0)


def test_all_objects_of_a_worker_that_died_are_gone() -> None:
    node = started_node({"memory": 1000.0})
    take(node, [template(), maker({"memory": 1.0}), maker(number=2, key=OTHER_KEY)], user(1, 1, 2))
    end(node, 1, now=1.0)

    node.handle(exited(), 2.0)

    assert node.ledger.claimed == {"memory": 0.0}
    assert node.advertisement().warm == []
    node.check()


def test_a_worker_ends_once_its_object_was_unused_for_long() -> None:
    node = node_with_object({"cpu": 1.0, "memory": 1000.0}, {"memory": 600.0})
    node.handle(said(Close(RUN)), 2.0)

    assert killed(node.wake(1.0 + IDLE_S - 0.01)) == []
    assert killed(node.wake(1.0 + IDLE_S)) == [FIRST_WORKER]
    assert killed(node.wake(2.0 + IDLE_S)) == []
    assert node.advertisement().warm == []

    node.handle(exited(), 1.1 + IDLE_S)

    assert node.ledger.claimed["memory"] == 0.0
    node.check()


def test_the_node_wakes_for_it() -> None:
    node = started_node({"cpu": 1.0})
    take(node, [template(), maker(idle_s=0.125)], user(1))
    end(node, 1, now=1.0)
    node.wake(1.02)

    assert node.wake_at == 1.125


def test_a_worker_with_a_job_keeps_its_objects() -> None:
    node = node_with_object({"cpu": 1.0}, {})
    take(node, [], job(2), now=2.0)
    node.handle(said(Beat()), 2.0 + IDLE_S)

    assert killed(node.wake(3.0 + IDLE_S)) == []
    assert killed(end(node, 2, now=4.0 + IDLE_S)) == []
    assert killed(node.wake(4.0 + IDLE_S)) == [FIRST_WORKER]


def test_workers_beyond_the_usual_number_stay_with_their_objects() -> None:
    node = started_node({"cpu": 2.0}, workers=1)
    take(node, [template(cost={"cpu": 0.5}), maker()], user(1), user(2))
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0)
    end(node, 1, now=1.0)
    end(node, 2, worker=SECOND_WORKER, now=1.0)

    assert killed(node.wake(50.0)) == []
    assert killed(node.wake(1.0 + IDLE_S)) == [FIRST_WORKER, SECOND_WORKER]


def test_objects_alone_start_no_further_workers() -> None:
    node = started_node({"memory": 1000.0}, workers=1)

    effects = take(node, [template(), maker({"memory": 100.0})], user(1), user(2), user(3))

    assert gives(effects) == [(FIRST_WORKER, [1])]
    assert not any(isinstance(effect, SpawnWorker) for effect in effects)


# --- Room for others ----------------------------------------------------------------------------------------------


def test_an_unused_object_goes_when_a_function_needs_what_it_claims() -> None:
    node = node_with_object({"memory": 1000.0}, {"memory": 600.0}, workers=2)

    effects = take(node, [template(2, {"memory": 500.0})], job(2, number=2))

    assert killed(effects) == [FIRST_WORKER]
    assert gives(effects) == []
    assert killed(take(node, [], job(3, number=2))) == []
    assert gives(node.handle(exited(), 3.0)) == [(SECOND_WORKER, [2])]
    node.check()


def test_an_object_in_use_stays() -> None:
    node = node_with_object({"memory": 1000.0}, {"memory": 600.0}, workers=2)
    take(node, [], user(2))

    effects = take(node, [template(2, {"memory": 500.0})], job(3, number=2))

    assert killed(effects) == []
    assert gives(end(node, 2, now=4.0)) == []


def test_what_was_unused_for_longest_goes_first_and_only_what_helps() -> None:
    capabilities = {"cpu": 3.0, "memory": 1000.0, "license": 1.0}
    node = started_node(capabilities, workers=3)
    templates = [
        template(),
        maker({"license": 1.0}),
        maker({"memory": 400.0}, number=2, key=OTHER_KEY),
        maker({"memory": 300.0}, number=3, key=b"third"),
        template(4, {"memory": 500.0}),
    ]
    take(node, templates, user(1, 1), user(2, 2), user(3, 3))
    node.handle(ObjectMade(WorkerId(3), b"third", 1), 1.0)
    for index in (1, 3, 2):
        end(node, index, worker=WorkerId(index), now=1.0 + index % 3)

    assert killed(take(node, [], job(4, number=4), now=9.0)) == [WorkerId(3)]


def test_nothing_goes_where_that_would_not_do() -> None:
    node = node_with_object({"cpu": 2.0, "memory": 1000.0}, {"memory": 300.0}, workers=2)
    take(node, [template(2, {"memory": 600.0})], job(2, number=2))

    assert killed(take(node, [], job(3, number=2))) == []


def test_a_function_keeps_the_object_that_it_needs_itself() -> None:
    node = started_node({"cpu": 2.0, "memory": 1000.0}, workers=2)
    templates = [
        template(cost={"memory": 300.0}),
        maker({"memory": 400.0}),
        maker({"memory": 400.0}, number=2, key=OTHER_KEY),
        template(3),
    ]
    take(node, templates, user(1, 1, number=3), user(2, 2, number=3))
    end(node, 1, now=1.0)
    end(node, 2, worker=SECOND_WORKER, now=2.0)

    assert killed(take(node, [], user(3, 1))) == [SECOND_WORKER]


def test_an_object_makes_room_for_another() -> None:
    node = node_with_object({"cpu": 2.0, "memory": 1000.0}, {"memory": 600.0}, workers=1)

    effects = take(node, [maker({"memory": 700.0}, number=2, key=OTHER_KEY)], user(2, 2))

    assert killed(effects) == [FIRST_WORKER]
    spawned = [effect.worker for effect in effects if isinstance(effect, SpawnWorker)]
    node.handle(exited(), 2.0)
    assert gives(node.handle(WorkerUp(spawned[0], 2000), 3.0)) == [(spawned[0], [2])]


def test_a_function_whose_object_the_node_could_never_hold_is_given_back() -> None:
    node = started_node({"memory": 1000.0})

    effects = take(node, [template(cost={"memory": 500.0}), maker({"memory": 600.0})], user(1))

    assert Recalled(RUN, [Ticket(1, 1)]) in replies(effects)


def test_where_the_machine_is_short_of_memory_unused_objects_go_first() -> None:
    node = started_node({"cpu": 3.0}, workers=2, limits=Limits(memory_factor=2.0))
    take(node, [template(), maker()], user(1))
    end(node, 1, now=1.0)
    take(node, [], job(2))
    is_short = WorkersSampled(2.0, {FIRST_WORKER: 10**8, SECOND_WORKER: 10**10}, 1, 10**11)

    assert killed(node.handle(is_short, 2.0)) == [FIRST_WORKER]
    node.handle(exited(), 3.0)
    assert killed(node.handle(is_short, 4.0)) == [SECOND_WORKER]


def test_memory_that_objects_claim_is_not_held_against_functions() -> None:
    node = started_node({"memory": 10_000.0}, limits=Limits(memory_factor=2.0))
    take(node, [template(cost={"memory": 100.0}), maker({"memory": 2000.0})], user(1))
    ample = 10**12

    assert killed(node.handle(WorkersSampled(2.0, {FIRST_WORKER: 4 * 10**9}, ample, ample), 2.0)) == []
    assert killed(node.handle(WorkersSampled(2.0, {FIRST_WORKER: 5 * 10**9}, ample, ample), 3.0)) == [
        FIRST_WORKER
    ]


# --- GPUs -----------------------------------------------------------------------------------------------------------


def devices_of(effects: Sequence[NodeEffect]) -> list[tuple[int, ...] | None]:
    return [effect.devices for effect in effects if isinstance(effect, RunJobs)]


def test_functions_see_the_gpus_of_their_objects() -> None:
    node = started_node({"gpu": 2.0})

    assert devices_of(take(node, [template(), maker({"gpu": 1.0})], user(1))) == [(0,)]
    end(node, 1, now=2.0)
    assert devices_of(take(node, [], job(2))) == [None]
    end(node, 2, now=3.0)
    assert devices_of(take(node, [], user(3))) == [(0,)]


def test_functions_see_their_own_gpus_and_those_of_their_objects() -> None:
    node = started_node({"gpu": 2.0})
    take(node, [template(cost={"gpu": 1.0}), maker({"gpu": 1.0})], user(1))
    end(node, 1, now=2.0)

    assert devices_of(take(node, [], user(2))) == [(0, 1)]


def test_a_worker_that_has_seen_other_gpus_is_not_used() -> None:
    node = started_node({"gpu": 2.0}, workers=1, most_workers=2)
    take(node, [template(), maker({"gpu": 1.0}), template(2, {"gpu": 1.0})], user(1))
    end(node, 1, now=2.0)

    # It would see both, and has seen the first one only.
    effects = take(
        node, [template(3, {"gpu": 1.0}), maker({"gpu": 1.0}, number=4, key=OTHER_KEY)], user(2, 4)
    )

    assert gives(effects) == []
    assert [type(e) for e in effects if isinstance(e, SpawnWorker | KillWorker)] == [SpawnWorker]
    assert devices_of(node.handle(WorkerUp(SECOND_WORKER, 1002), 3.0)) == [(1,)]
    node.check()


def test_where_no_further_worker_may_start_one_with_other_gpus_ends() -> None:
    node = started_node({"gpu": 2.0}, workers=1, most_workers=1)
    take(node, [template(), maker({"gpu": 1.0}), maker({"gpu": 1.0}, number=2, key=OTHER_KEY)], user(1))
    end(node, 1, now=2.0)

    assert killed(take(node, [], user(2, 2))) == [FIRST_WORKER]


# --- Coroutines -----------------------------------------------------------------------------------------------------


def coroutine(number: int, cost: Resources | None = None) -> Template:
    return template(number, cost, is_async=True)


def node_with_coroutines(capabilities: Resources, *templates: Template) -> tuple[NodeMachine, WorkerId]:
    """A node whose async worker runs the functions 1 and 2 with an object."""
    node = started_node(capabilities)
    effects = take(node, templates, user(1), user(2))
    [worker] = [effect.worker for effect in effects if isinstance(effect, SpawnWorker)]
    assert gives(node.handle(WorkerUp(worker, 2000), 1.0)) == [(worker, [1, 2])]
    node.check()
    return node, worker


def test_coroutines_share_one_object() -> None:
    templates = coroutine(0, {"cpu": 0.25}), maker({"memory": 600.0})
    node, worker = node_with_coroutines({"cpu": 1.0, "memory": 1000.0}, *templates)

    assert node.ledger.claimed == {"cpu": 0.5, "memory": 600.0}
    end(node, 1, worker=worker, now=2.0)
    assert node.ledger.claimed == {"cpu": 0.25, "memory": 600.0}
    end(node, 2, worker=worker, now=3.0)
    assert node.ledger.claimed == {"cpu": 0.0, "memory": 600.0}
    assert killed(node.wake(3.0 + IDLE_S)) == [worker]


def test_coroutines_wait_for_the_room_of_their_object() -> None:
    node = node_with_object({"cpu": 2.0, "memory": 1000.0}, {"memory": 600.0}, workers=2)
    effects = take(
        node, [coroutine(2), maker({"memory": 600.0}, number=3, key=OTHER_KEY)], user(2, 3, number=2)
    )
    [worker] = [effect.worker for effect in effects if isinstance(effect, SpawnWorker)]

    effects = node.handle(WorkerUp(worker, 2000), 2.0)

    assert gives(effects) == []
    assert killed(effects) == [FIRST_WORKER]
    assert gives(node.handle(exited(), 3.0)) == [(worker, [2])]
    node.check()


def test_an_async_worker_with_other_coroutines_retires_for_an_unused_object() -> None:
    node, worker = node_with_coroutines({"cpu": 1.0}, coroutine(0), maker())
    take(node, [], job(3))
    end(node, 1, worker=worker, now=2.0)
    end(node, 2, worker=worker, now=2.0)

    assert killed(node.wake(2.0 + IDLE_S)) == []
    assert node.advertisement().warm == []
    assert killed(end(node, 3, worker=worker, now=3.0 + IDLE_S)) == [worker]


def test_the_async_worker_that_makes_room_for_an_object_is_replaced_at_once() -> None:
    node, worker = node_with_coroutines(
        {"cpu": 1.0, "memory": 1000.0}, coroutine(0), maker({"memory": 600.0})
    )
    end(node, 1, worker=worker, now=2.0)
    end(node, 2, worker=worker, now=2.0)

    effects = take(
        node, [coroutine(2), maker({"memory": 600.0}, number=3, key=OTHER_KEY)], user(3, 3, number=2)
    )

    assert killed(effects) == [worker]
    assert [effect.is_async for effect in effects if isinstance(effect, SpawnWorker)] == [True]
    assert node.wake(2.0) == []


# --- What other runs are told -------------------------------------------------------------------------------------


def test_objects_that_other_runs_use_count_as_their_claims() -> None:
    node = node_with_object({"cpu": 3.0, "memory": 1000.0}, {"memory": 300.0}, workers=3)
    take(node, [], user(2))
    take(node, [template(), maker({"memory": 500.0}, key=OTHER_KEY)], user(1), user(2), run=OTHER_RUN)
    node.handle(ObjectMade(SECOND_WORKER, OTHER_KEY, 1), 3.0)

    effects = node.handle(worker_done(done(1), worker=SECOND_WORKER, run=OTHER_RUN), 3.0)

    told = [message.others for message in replies(effects) if isinstance(message, Completed)]
    assert told == [{"memory": 300.0}]


def test_a_job_given_back_needs_its_object_no_more() -> None:
    node = node_with_object({"cpu": 1.0}, {})

    assert node.handle(said(Close(RUN), APP), 2.0) != []
    assert node.advertisement().warm != []
