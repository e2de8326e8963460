"""Whole worlds from a seed: members, apps, DAGs, and what goes wrong, and when."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from msgspec.structs import replace

from handoff_actors.core.node.lifetime import Lifetime
from handoff_actors.core.run.options import RunOptions
from handoff_actors.core.run.scheduling.durations import Durations
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.core.run.scheduling.python_affinity import PythonAffinity
from handoff_actors.graph import Plan
from handoff_actors.ids import Resources, RunId
from handoff_actors.wire.messages.jobs import Template
from tests.simulation.apps import App
from tests.simulation.cluster import PYTHON, Cluster
from tests.simulation.dags import Work, make_work
from tests.simulation.faults import CAPABILITIES, FAULTS, meet_a_bug
from tests.simulation.growing import GrowingRun, plain
from tests.simulation.relays import APART, part
from tests.simulation.runs import SimulatedRun

#: Faults begin in this time, and so do runs.
TROUBLED_S = (1.0, 1.0, 20.0)
#: After that, and after what may only run one by one, everything has to come to its end within this time.
LIMIT_S = 120.0
SIZES = (1, 3, 6, 12, 12, 25)
OTHER_PYTHON = "3.13"
#: The share of worlds with two versions of Python, of their nodes with the other one, of code that is for one only.
MIXED = 0.4
#: The share of runs that are given their functions while they go on.
GROWING = 0.3
#: The share of worlds with objects that workers keep.
KEEPING = 0.3
#: The share of worlds with nodes that end by themselves, and of their nodes that do.
LENT = 0.5


@dataclass
class World:
    """One simulated world."""

    seed: int
    random: Random
    cluster: Cluster
    troubled_s: float
    #: Seconds that the functions of a run take that may only run one by one; of several such runs the longest.
    one_by_one_s: float = 0.0

    @property
    def is_long(self) -> bool:
        """True if the world lasts long enough for silence to be noticed."""
        return self.troubled_s > min(TROUBLED_S)


def run_world(seed: int, trace: list[str] | None = None) -> Counter[str]:
    """Let the world of this seed run to its end; the answer is what went wrong in it. Raises AssertionError where something does not hold."""
    random = Random(seed)
    has_faults = random.random() < 0.75
    cluster = Cluster(random, has_faults=has_faults, trace=trace)
    world = World(seed, random, cluster, random.choice(TROUBLED_S))
    names = [f"node{number}" for number in range(random.randint(1, 5))]
    cluster.apps += [App(f"app{number}", cluster) for number in range(random.choice((1, 1, 2, 3)))]
    offers = [random.choice(CAPABILITIES) for _ in names]
    aside = Random(f"pythons of {seed}")
    if aside.random() < MIXED:
        cluster.pythons |= {name: OTHER_PYTHON for name in names[1:] if aside.random() < MIXED}
    for name, offer in zip(names, offers, strict=True):
        start = partial(cluster.start_node, name, offer)
        cluster.timeline.after(random.choice((0.0, 0.0, random.random())), start)
    aside = Random(f"lifetimes of {seed}")
    if has_faults and aside.random() < LENT:
        # Some stay, which is what runs need.
        cluster.lifetimes |= {name: _lifetime(aside) for name in names[1:] if aside.random() < LENT}
    aside = Random(f"apart in {seed}")
    if aside.random() < APART:
        part(cluster, names, aside, healed_after_s=world.troubled_s)
    for app in cluster.apps:
        _plan_runs(world, app, names, offers)
    if has_faults:
        _plan_faults(world, names)
        _plan_bugs(world, names)
    cluster.run_until_all_is_over(cluster.timeline.now + world.troubled_s + world.one_by_one_s + LIMIT_S)
    return cluster.faults


def _lifetime(random: Random) -> Lifetime:
    idle_s, drains_after_s = random.choice((None, 1.0, 6.0)), random.choice((None, 0.5, 2.0, 9.0))
    return Lifetime(idle_s, drains_after_s)


def _plan_runs(world: World, app: App, names: Sequence[str], offers: Sequence[Resources]) -> None:
    random, cluster = world.random, world.cluster
    has_objects = Random(f"objects in {world.seed}").random() < KEEPING
    for _ in range(random.choice((1, 1, 2, 3))):
        number = RunId(len(cluster.runs) + 1)
        pins = [*names, "nowhere"] if random.random() < 0.03 else names
        aside = Random(world.seed + number)
        are_alike = aside.random() < 0.4
        work = make_work(
            random,
            random.choice(SIZES),
            pins,
            offers,
            is_calm=random.random() < 0.6,
            is_long=world.is_long,
            are_alike=are_alike,
            gates=Random(f"gates of {world.seed + number}"),
            objects=Random(f"objects of {world.seed + number}") if has_objects else None,
        )
        if cluster.pythons:
            work.program = _with_native_parts(aside, work.program)
        plan = work.program.plan
        functions = list(plan.index_of.values())
        extra = random.sample(functions, min(len(functions), random.choice((0, 0, 2))))
        options = RunOptions(
            POLICIES[random.choice(sorted(POLICIES))],
            wanted={*plan.sinks, *extra},
            max_retries=random.choice((0, 2, 3)),
            backoff=random.choice(((0.0, 1.0, 0.0), (0.01, 2.0, 0.1))),
            on_failure=Random(f"failures of {world.seed + number}").choice(("stop", "continue")),
            max_concurrency=random.choice((None, None, 1, 3)),
            timeout_s=random.choice((None, None, None, None, 6.0)),
            allocation_timeout_s=4.0,
            observe=True,
            load=app.load,
            durations=_assumed(aside, work.program.templates, chance=1.0 if are_alike else 0.5),
        )
        if options.max_concurrency == 1:
            in_all_s = sum(conduct.duration_s for conduct in work.conducts.values())
            world.one_by_one_s = max(world.one_by_one_s, in_all_s)
        run = cluster.runs[number] = _made_run(number, work, options, app, world)
        starts_after_s = random.choice((0.1, random.random() * world.troubled_s))
        cluster.timeline.after(starts_after_s, partial(app.start, run))


def _made_run(number: RunId, work: Work, options: RunOptions, app: App, world: World) -> SimulatedRun:
    aside = Random(f"growth of {world.seed + number}")
    if world.cluster.pythons or aside.random() >= GROWING:
        return SimulatedRun(number, work, options, app, world.cluster)
    dag = plain(work.dag)
    plan = Plan.compile(dag)
    conducts = {
        plan.index_of[function_id]: work.conducts[index]
        for function_id, index in work.program.plan.index_of.items()
    }
    work = Work(work.program, conducts, {}, dag)
    return GrowingRun(number, work, options, app, world.cluster, world.troubled_s)


def _with_native_parts(random: Random, program: Program) -> Program:
    """Some of the code, and of the constants, is for the apps' own Python only."""
    chosen = [
        frozenset(number for number in range(count) if random.random() < MIXED)
        for count in (len(program.templates), len(program.constants), len(program.values))
    ]
    return replace(program, affinity=PythonAffinity(PYTHON, *chosen))


def _assumed(random: Random, templates: Sequence[Template], chance: float) -> Durations:
    """Durations that the app assumes: none, or that all functions are quick, which may be wrong."""
    durations = Durations()
    if random.random() < chance:
        for template in templates:
            durations.record(template.digest, random.choice((0.0, 0.0, 0.0001)))
    return durations


def _plan_faults(world: World, names: Sequence[str]) -> None:
    # One fault again and again: some things happen only where several of a kind meet.
    theme = world.random.choice(FAULTS)
    for _ in range(world.random.choice((4, 8, 16, 24))):
        fault = theme if world.random.random() < 0.3 else world.random.choice(FAULTS)
        delay_s = 0.1 + world.random.random() * world.troubled_s
        world.cluster.timeline.after(delay_s, partial(fault, world.cluster, world.random.choice(names)))


def _plan_bugs(world: World, names: Sequence[str]) -> None:
    # Aside, so that all else in the world of a seed is as it would be without them.
    aside = Random(f"bugs of {world.seed}")
    for _ in range(aside.choice((0, 0, 0, 1, 3, 6))):
        delay_s = 0.1 + aside.random() * world.troubled_s
        world.cluster.timeline.after(delay_s, partial(meet_a_bug, world.cluster, aside.choice(names)))
