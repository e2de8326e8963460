"""Short ways to the events, plans and machines that tests of the core are about."""

from collections.abc import Sequence

from handoff_actors.core.node.events import (
    Advertise,
    MessageFromPeer,
    NodeEffect,
    PeerConnected,
    Reply,
    ReportProtocolError,
    RunJobs,
    WorkerDone,
    WorkerExited,
    WorkerFailed,
    WorkerUp,
)
from handoff_actors.core.node.limits import NO_LIMITS, Limits
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.events import MessageFromNode, RunEffect, RunEnded, SendToNode
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.options import RunOptions
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.placement import MostSpare
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.core.run.scheduling.session_load import SessionLoad
from handoff_actors.graph import DAG, Function, Plan
from handoff_actors.ids import PeerId, Resources, RunId, WorkerId
from handoff_actors.stage_mark import runs_stage
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.jobs import FIRST, Arg, Done, Job, Rank, Template, Ticket, WarmObject
from handoff_actors.wire.messages.runs import (
    Assign,
    Closed,
    Completed,
    Failed,
    FailureKind,
    Recalled,
    Rejected,
)

RUN = RunId(7)
APP = PeerId(b"app")
LEASE_S = 5.0
FIRST_WORKER = WorkerId(1)
SECOND_WORKER = WorkerId(2)
CLOSED = Closed(RUN)


def code(*args: object, **kwargs: object) -> None: ...


async def async_code(*args: object) -> None: ...


@runs_stage
def stage_code(*args: object) -> None: ...


def hook(value: object, source: str, target: str) -> None: ...


# --- Nodes ------------------------------------------------------------------------------------------------------


def template(
    number: int = 0,
    cost: Resources | None = None,
    *,
    timeout: float | None = None,
    is_async: bool = False,
) -> Template:
    return Template(number, b"", True, b"code", is_async, False, cost or {}, timeout)


def job(
    index: int, *, attempt: int = 1, number: int = 0, args: Sequence[Arg] = (), rank: Rank = FIRST
) -> Job:
    return Job(index, attempt, number, list(args), None, rank=rank)


def assign(jobs: Sequence[Job], templates: Sequence[Template] | None = None, run: RunId = RUN) -> Assign:
    return Assign(run, [template()] if templates is None else list(templates), list(jobs))


def said(message: object, peer: PeerId = APP) -> MessageFromPeer:
    return MessageFromPeer(peer, message)  # type: ignore[arg-type]  # tests say anything


def done(index: int, *, attempt: int = 1, value: bytes | int = b"v", ran_s: float = 0.5) -> Done:
    return Done(index, attempt, value, 1001, ran_s)


def worker_done(*entries: Done, worker: WorkerId = FIRST_WORKER, run: RunId = RUN) -> WorkerDone:
    return WorkerDone(worker, run, list(entries))


def started_node(
    capabilities: Resources | None = None,
    *,
    workers: int = 1,
    most_workers: int = 4,
    limits: Limits = NO_LIMITS,
) -> NodeMachine:
    """A node whose usual workers are up, with one app connected."""
    node = NodeMachine(capabilities or {"cpu": 1.0}, workers, most_workers, LEASE_S, limits)
    node.start(0.0)
    for number in range(1, workers + 1):
        node.handle(WorkerUp(WorkerId(number), 1000 + number), 0.0)
    node.handle(PeerConnected(APP), 0.0)
    return node


def gives(effects: Sequence[NodeEffect]) -> list[tuple[WorkerId, list[int]]]:
    return [
        (effect.worker, [given.index for given in effect.jobs])
        for effect in effects
        if isinstance(effect, RunJobs)
    ]


def replies(effects: Sequence[NodeEffect]) -> list[FromNode]:
    return [effect.message for effect in effects if isinstance(effect, Reply)]


def rejection(effects: Sequence[NodeEffect]) -> str:
    """Why a node does nothing about a message but tell its sender and its log."""
    (reported,) = [effect for effect in effects if isinstance(effect, ReportProtocolError)]
    others = [effect for effect in effects if not isinstance(effect, ReportProtocolError | Advertise)]
    assert others == [Reply(reported.peer, Rejected(RUN, reported.reason))]
    return reported.reason


def exited(worker: WorkerId = FIRST_WORKER, signal: int | None = 9) -> WorkerExited:
    return WorkerExited(worker, signal, None if signal else 3)


def worker_failed(
    index: int, kind: FailureKind = "exception", worker: WorkerId = FIRST_WORKER
) -> WorkerFailed:
    return WorkerFailed(worker, RUN, index, 1, kind, b"error", "reason", 0.1)


# --- Runs -------------------------------------------------------------------------------------------------------


def program_of(*functions: Function) -> Program:
    plan = Plan.compile(DAG("dag").add_functions(functions))
    templates = [
        Template(
            number,
            b"",
            True,
            b"code",
            spec.is_async,
            spec.as_list,
            spec.cost,
            spec.timeout,
            run_if=spec.run_if,
            conditions=spec.conditions,
            warm=None
            if spec.warm is None
            else WarmObject(spec.warm.name.encode(), spec.warm.name, spec.warm.idle_s),
            is_stage=spec.is_stage,
        )
        for number, spec in enumerate(plan.templates)
    ]
    constants = [repr(constant).encode() for constant in plan.constants]
    return Program(plan, templates, [*constants], [repr(value).encode() for value in plan.values])


def options(**changes: object) -> RunOptions:
    return RunOptions(**({"policy": MostSpare(), "wanted": ()} | changes))  # type: ignore[arg-type]


def run_of(*functions: Function, **changes: object) -> RunMachine:
    return RunMachine(RUN, program_of(*functions), options(**changes))


def node_up(
    name: str = "a",
    capabilities: Resources | None = None,
    *,
    spare: Resources | None = None,
    workers: int = 2,
    leaving: bool = False,
    python: str = "",
    busy: int = 0,
    waiting_claims: Resources | None = None,
    out_of_use: str = "",
    ends_at: float | None = None,
) -> NodeUp:
    offers = {"cpu": 2.0} if capabilities is None else capabilities
    return NodeUp(
        name,
        f"address of {name}",
        offers,
        offers if spare is None else spare,
        workers,
        leaving,
        python=python,
        busy=busy,
        waiting_claims=waiting_claims or {},
        out_of_use=out_of_use,
        ends_at=ends_at,
    )


def node_state(event: NodeUp, load: SessionLoad | None = None, run: RunId = RUN) -> NodeState:
    """A node that a run has just heard of."""
    load = load or SessionLoad()
    load.node_up(event)
    return NodeState(run, load.nodes[event.name])


def completed(name: str, *entries: Done) -> MessageFromNode:
    return MessageFromNode(name, Completed(RUN, list(entries), {}))


def failed(
    name: str, index: int, kind: FailureKind = "exception", *, attempt: int = 1, lost: int | None = None
) -> MessageFromNode:
    return MessageFromNode(name, Failed(RUN, index, attempt, kind, b"error", "reason", lost, None, None, 0.0))


def recalled(name: str, *indices: int, attempt: int = 1) -> MessageFromNode:
    return MessageFromNode(name, Recalled(RUN, [Ticket(index, attempt) for index in indices]))


def job_in(effect: RunEffect) -> Job:
    """The one job that a run sends out."""
    assert isinstance(effect, SendToNode)
    assert isinstance(effect.message, Assign)
    (sent,) = effect.message.jobs
    return sent


def assigned(effects: Sequence[RunEffect]) -> list[tuple[str, list[int]]]:
    return [
        (effect.name, [sent.index for sent in effect.message.jobs])
        for effect in effects
        if isinstance(effect, SendToNode) and isinstance(effect.message, Assign)
    ]


def started(*functions: Function, **changes: object) -> RunMachine:
    """A run that has started before it knew any node."""
    run = run_of(*functions, **changes)
    run.start(0.0)
    return run


def ends(effects: list[RunEffect]) -> list[RunEnded]:
    return [effect for effect in effects if isinstance(effect, RunEnded)]


def error_of(run: RunMachine, name: str = "a") -> object:
    """The error of a run that has gone wrong and now hears that its only node has closed it."""
    (end,) = ends(run.handle(MessageFromNode(name, CLOSED), 99.0))
    return end.error
