"""Bursts of small runs from several apps, and a look-out for nodes that wait while others idle."""

from functools import partial
from random import Random

from handoff_actors.core.run.options import RunOptions
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.graph import DAG, Function
from handoff_actors.ids import Index, Resources, RunId
from tests.simulation.apps import App
from tests.simulation.cluster import Cluster
from tests.simulation.dags import Conduct, work_of
from tests.simulation.nodes import SimulatedNode
from tests.simulation.runs import SimulatedRun
from tests.simulation.symbols import make_code

#: By then all apps know all nodes, and their workers are up.
SETTLED_S = 3.0
LOOK_S = 0.005
#: Functions may wait on one node while another idles for as long as the adverts of both take, and the messages of a recall.
LIMIT_S = 0.3
LASTING_S = 120.0


def run_burst(seed: int) -> None:
    """Play one burst. Raises AssertionError if a node waits while another idles, or if a run does not end well."""
    random = Random(seed)
    cluster = Cluster(random, has_faults=False, trace=None)
    cluster.apps += [App(f"app{number}", cluster) for number in range(random.choice((1, 3, 12)))]
    cores = random.choice((1, 1, 2))
    for number in range(random.choice((2, 3, 5))):
        cluster.start_node(f"node{number}", {"cpu": cores})
    costs = random.choice(((None,), ({"cpu": 1.0},), (None, {"cpu": 1.0}), (None, {"cpu": 0.5})))
    apart_s = random.choice((0.0, 0.01, 0.1))
    usual_s = random.choice((0.03, 0.3, 1.0))
    for number in range(random.choice((12, 40))):
        duration_s = usual_s * random.choice((1, 1, 1, 5))
        app = random.choice(cluster.apps)
        run = _run_of_one(RunId(number + 1), random.choice(costs), duration_s, app, cluster)
        cluster.timeline.after(SETTLED_S + number * apart_s, partial(app.start, run))
    look_out = LookOut(cluster)
    cluster.timeline.after(SETTLED_S, look_out.look)
    cluster.run_until_all_is_over(cluster.timeline.now + LASTING_S)
    assert all(run.end is not None and run.end.error is None for run in cluster.runs.values())


def _run_of_one(
    number: RunId, cost: Resources | None, duration_s: float, app: App, cluster: Cluster
) -> SimulatedRun:
    dag = DAG("dag").add_function(Function("x", [], make_code("code", is_async=False), cost=cost))
    work = work_of(dag, {Index(0): Conduct(duration_s, is_large=False)})
    options = RunOptions(POLICIES["most_spare"], wanted={Index(0)}, load=app.load)
    run = cluster.runs[number] = SimulatedRun(number, work, options, app, cluster)
    return run


class LookOut:
    """Looks at all nodes again and again."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        #: Since when functions wait on a node, and since when one idles.
        self._waits_since: dict[str, float] = {}
        self._idles_since: dict[str, float] = {}

    def look(self) -> None:
        now = self._cluster.timeline.now
        for name, node in self._cluster.nodes.items():
            _note(self._waits_since, name, now, holds=_waits(node))
            _note(self._idles_since, name, now, holds=not node.machine.is_working)
        for waiting, since in self._waits_since.items():
            for idle, idle_since in self._idles_since.items():
                assert now - max(since, idle_since) <= LIMIT_S, f"{waiting} waits while {idle} idles"
        if self._cluster.goes_on:
            self._cluster.timeline.after(LOOK_S, self.look)


def _waits(node: SimulatedNode) -> bool:
    return len(node.machine._scheduler.queue) > 0


def _note(since: dict[str, float], name: str, now: float, *, holds: bool) -> None:
    if holds:
        since.setdefault(name, now)
    else:
        since.pop(name, None)
