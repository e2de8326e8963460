"""The cost of scheduling: run and node back to back, with workers that answer at once and nothing in between.

    python benchmarks/core_speed.py [fan-out | layers | chain | hops]

prints the microseconds that each machine takes for a function, without the encoding, sending and executing that
production has.
"""

import sys
from collections.abc import Callable, Sequence
from random import Random
from time import process_time

from handoff_actors.core.node.events import (
    MessageFromPeer,
    NodeEvent,
    PeerConnected,
    Reply,
    RunJobs,
    WorkerDone,
    WorkerUp,
)
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.events import MessageFromNode, RunEffect, RunEnded, SendToNode
from handoff_actors.core.run.grow import RunMachineEvent
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.options import RunOptions
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.graph import DAG, Function, Plan
from handoff_actors.ids import PeerId, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Done, Template
from handoff_actors.wire.messages.runs import Completed

APP = PeerId(b"app")
WORKERS = 2
#: Seconds that a no-op takes in a worker, as reported to the machines.
RAN_S = 0.000002


def no_op(*values: object) -> None:
    """Stand for a function; it is never called."""


def fan_out() -> DAG:
    return DAG().add_functions(Function(index, (), no_op) for index in range(100_000))


def layers() -> DAG:
    random = Random(1)
    dag = DAG()
    for layer in range(100):
        for place in range(100):
            above = [(layer - 1, other) for other in random.sample(range(100), 3)] if layer else []
            dag.add_function(Function((layer, place), above, no_op))
    return dag


def chain() -> DAG:
    return DAG().add_functions(
        Function(index, (index - 1,) if index else (), no_op) for index in range(10_000)
    )


def hops() -> DAG:
    """A chain whose functions are sent one by one, since each has a time limit."""
    return DAG().add_functions(
        Function(index, (index - 1,) if index else (), no_op, timeout=60.0) for index in range(10_000)
    )


WORKLOADS: dict[str, Callable[[], DAG]] = {
    "fan-out": fan_out,
    "layers": layers,
    "chain": chain,
    "hops": hops,
}


class Pair:
    """A run and its only node, each timed by itself."""

    def __init__(self, plan: Plan) -> None:
        templates = [
            Template(number, b"", True, b"", spec.is_async, spec.as_list, spec.cost, spec.timeout)
            for number, spec in enumerate(plan.templates)
        ]
        program = Program(plan, templates, [], [])
        self._run = RunMachine(RunId(1), program, RunOptions(POLICIES["most_spare"], wanted=()))
        self._node = NodeMachine({"cpu": float(WORKERS)}, WORKERS, WORKERS, lease_s=10.0)
        self._began_at = process_time()
        self.run_s = self.node_s = 0.0

    def finish(self) -> None:
        """Run all functions."""
        self._node.start(self._now())
        for number in range(1, WORKERS + 1):
            self._node.handle(WorkerUp(WorkerId(number), number), self._now())
        self._node.handle(PeerConnected(APP, has_lease=False), self._now())
        self._timed_start()
        effects = self._timed_run(
            NodeUp("node", "", {"cpu": float(WORKERS)}, {"cpu": float(WORKERS)}, WORKERS)
        )
        while not any(isinstance(effect, RunEnded) for effect in effects):
            events: list[NodeEvent] = [
                MessageFromPeer(APP, effect.message) for effect in effects if isinstance(effect, SendToNode)
            ]
            effects = [answer for heard in self._work(events) for answer in self._timed_run(heard)]

    def _work(self, events: list[NodeEvent]) -> list[MessageFromNode]:
        """Let node and workers handle all events. The run gets the messages at once, as from one read of a socket."""
        done: list[Done] = []
        while events:
            answers: list[NodeEvent] = []
            for event in events:
                for effect in self._timed_node(event):
                    match effect:
                        case RunJobs(worker, run, _, jobs):
                            given = [member for job in jobs for member in (job, *job.then)]
                            entries = [Done(job.index, job.attempt, b"\xc0", 1, RAN_S) for job in given]
                            answers.append(WorkerDone(worker, run, entries))
                        case Reply(message=Completed(done=entries)):
                            done += entries
            events = answers
        return [MessageFromNode("node", Completed(RunId(1), done, {}))]

    def _timed_start(self) -> None:
        start = process_time()
        self._run.start(self._now())
        self.run_s += process_time() - start

    def _timed_run(self, event: RunMachineEvent) -> Sequence[RunEffect]:
        start = process_time()
        effects = self._run.handle(event, self._now())
        self.run_s += process_time() - start
        return effects

    def _timed_node(self, event: NodeEvent) -> Sequence[object]:
        start = process_time()
        effects = self._node.handle(event, self._now())
        self.node_s += process_time() - start
        return effects

    def _now(self) -> float:
        return process_time() - self._began_at


def main() -> None:
    print(f"{'us per function':<16} {'plan':>6} {'run':>6} {'node':>6} {'both':>6}")
    for name in sys.argv[1:] or WORKLOADS:
        dag = WORKLOADS[name]()
        start = process_time()
        plan = Plan.compile(dag)
        compiled_s = process_time() - start
        pair = Pair(plan)
        pair.finish()
        per_function = [1e6 * seconds / plan.size for seconds in (compiled_s, pair.run_s, pair.node_s)]
        print(f"{name:<16}", *(f"{us:6.2f}" for us in (*per_function, sum(per_function[1:]))))


if __name__ == "__main__":
    main()
