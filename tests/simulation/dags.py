"""Random DAGs, how their functions behave, and the programs that runs are made of."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal

from handoff_actors.core.resources import holds
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.graph import DAG, Argument, Function, Plan, collocated, per_worker
from handoff_actors.graph.argument import Collocated
from handoff_actors.graph.checks import is_coroutine_code
from handoff_actors.graph.spec import WarmSpec
from handoff_actors.ids import Index, Resources
from handoff_actors.wire.messages.jobs import Assembled, Ref, Template, WarmObject
from handoff_actors.wire.messages.runs import FailureKind
from tests.simulation.symbols import (
    GROW,
    PACK,
    RETURNED,
    UNPACK,
    Code,
    encode_constants,
    make_code,
    name_of,
)

COSTS: Sequence[dict[str, float]] = (
    {"cpu": 1},
    {"cpu": 2},
    {"cpu": 0.5},
    {"cpu": 1, "memory": 500},
    {"gpu": 1},
    {"gpu": 0.5},
    {"cpu": 1, "gpu": 2},
    {"license": 1},
    {"memory": 700},
)
#: Things that an attempt may do instead of ending well: fail, take far too long, or end its worker.
Mishap = FailureKind | Literal["slow", "crash"]
MISHAPS: Sequence[Mishap] = ("exception", "exception", "slow", "crash", "store", "serialization")
LARGE_NBYTES = 1_000_000
#: The first value that an app has by itself, as in apps: indices beyond those of a run's functions are those of functions to come.
APP_VALUES = 1 << 40
#: The share of runs with functions that are skipped, or run on other conditions than the success of their inputs.
GATED = 0.4
#: Seconds for which objects stay in workers unused.
IDLE_S = (0.02, 1.0, 600.0)
#: The share of runs with functions that return graphs.
GROWING = 0.3


@dataclass
class Conduct:
    """The course of the attempts at one function."""

    duration_s: float
    is_large: bool
    #: The faults, by attempt.
    mishaps: dict[int, Mishap] = field(default_factory=dict)
    #: True if it does not end when it is cancelled.
    is_stubborn: bool = False


@dataclass
class Work:
    """The program of one run, and the DAG that it is made from."""

    program: Program
    conducts: dict[Index, Conduct]
    #: Large constants, by index.
    constants: dict[Index, bytes]
    dag: DAG


def make_work(
    random: Random,
    size: int,
    nodes: Sequence[str],
    offers: Iterable[Resources],
    *,
    is_calm: bool,
    is_long: bool,
    are_alike: bool,
    gates: Random,
    objects: Random | None = None,
) -> Work:
    """Make up a run; `gates` is for what decides whether functions run, `objects` for those that workers keep. Its costs are those that `offers` can meet, nearly always; if all functions are alike, they are fused."""
    possible = [cost for cost in COSTS if any(holds(offer, cost) for offer in offers)]
    costs = COSTS if random.random() < 0.05 else [*possible, {"cpu": 0.25}]
    dag = _make_dag(random, size, nodes, costs)
    if are_alike:
        dag = _made_alike(dag)
    if gates.random() < GATED:
        dag = _gated(gates, dag)
    if objects is not None:
        dag = _with_objects(objects, dag, [{}, *possible])
    if gates.random() < GROWING:
        dag = _growing(gates, dag)
    plan = Plan.compile(dag)
    encoded, constants = encoded_constants(random, plan, APP_VALUES)
    usual_s = random.choice((0.1, 1.0, 2.0) if is_long else (0.0002, 0.02, 0.1, 0.3))
    if are_alike and random.random() < 0.7:
        usual_s = 0.0002
    conducts = {index: _make_conduct(random, usual_s, is_calm=is_calm) for index in range(plan.size)}
    return Work(Program(plan, templates_of(plan), encoded, []), conducts, constants, dag)


def work_of(dag: DAG, conducts: dict[Index, Conduct]) -> Work:
    """Make a run of a DAG without constants."""
    plan = Plan.compile(dag)
    return Work(Program(plan, templates_of(plan), [], []), conducts, {}, dag)


def encoded_constants(
    random: Random, plan: Plan, first_index: Index
) -> tuple[list[bytes | Ref | Assembled], dict[Index, bytes]]:
    """The constants of a plan as they are sent, and those of them that the app itself has, by index."""
    large: dict[Index, bytes] = {}
    encoded: list[bytes | Ref | Assembled] = []
    for extra_args, _ in plan.constants:
        value = encode_constants(extra_args)
        if random.random() < 0.5:
            encoded.append(value)
        else:
            index = first_index + len(large)
            large[index] = value
            encoded.append(Ref(index, LARGE_NBYTES, [""]))
    return encoded, large


def templates_of(plan: Plan) -> list[Template]:
    return [
        Template(
            number,
            spec.code.__name__.encode(),
            True,
            spec.code.__name__.encode(),
            spec.is_async,
            spec.as_list,
            spec.cost,
            spec.timeout,
            run_if=spec.run_if,
            conditions=spec.conditions,
            warm=None if spec.warm is None else _warm_object(spec.warm, spec.cost),
        )
        for number, spec in enumerate(plan.templates)
    ]


def _warm_object(warm: WarmSpec, cost: Resources) -> WarmObject:
    return WarmObject(f"{warm.name} {sorted(cost.items())}".encode(), warm.name, warm.idle_s)


def _make_conduct(random: Random, usual_s: float, *, is_calm: bool) -> Conduct:
    conduct = Conduct(
        usual_s * random.choice((0.5, 1, 1, 4)), random.random() < 0.5, is_stubborn=random.random() < 0.2
    )
    if not is_calm and random.random() < 0.15:
        first = random.randint(1, 2)
        last = first + random.choice((0, 0, 1, 9))
        mishap = random.choice(MISHAPS)
        conduct.mishaps = dict.fromkeys(range(first, last + 1), mishap)
    return conduct


def _make_dag(random: Random, size: int, nodes: Sequence[str], all_costs: Sequence[Resources]) -> DAG:
    dag = DAG("dag")
    kinds = [make_code(f"code{number}", is_async=number % 3 == 0) for number in range(4)]
    costs = random.sample(all_costs, min(3, len(all_costs)))
    has_oddities = random.random() < 0.6
    for number in range(size):
        dag.add_function(
            _make_function(random, number, dag, random.choice(kinds), costs, nodes, has_oddities)
        )
    return dag


def _with_objects(random: Random, dag: DAG, costs: Sequence[Resources]) -> DAG:
    models = [
        per_worker(
            make_code("load", is_async=False), number, cost=random.choice(costs), idle=random.choice(IDLE_S)
        )
        for number in random.sample(range(4), 2)
    ]
    made = DAG(dag.id)
    for function in dag.functions.values():
        taken = random.sample(models, random.choice((0, 0, 1, 1, 2)))
        made.add_function(replace(function, args=[*function.args, *taken]))
    return made


def _made_alike(dag: DAG) -> DAG:
    alike = DAG(dag.id)
    code = make_code("code1", is_async=False)
    previous: list[Hashable] = []
    for function in dag.functions.values():
        args = list(function.args) or previous
        cost = None if function.type == "inline" else {"cpu": 0.25}
        alike.add_function(replace(function, code=code, cost=cost, args=args, timeout=None, priority=0))
        previous = [function.id]
    return alike


def _gated(random: Random, dag: DAG) -> DAG:
    """Give some of the functions conditions and other results to run on, and have some skip others."""
    gated = DAG(dag.id)
    share = random.choice((0.1, 0.3, 0.5))
    for function in dag.functions.values():
        made = function
        if random.random() < share / 2:
            is_async = made.code is not None and is_coroutine_code(made.code)
            made = replace(made, code=make_code(random.choice(sorted(RETURNED)), is_async=is_async))
        earlier = list(gated.functions)[-8:]
        if made.type == "regular" and earlier and random.random() < share:
            conditions = random.sample(earlier, min(len(earlier), random.choice((1, 1, 2))))
            made = replace(made, when=conditions)
        if made.type == "regular" and random.random() < share:
            is_for_failures = bool(made.args) and random.random() < 0.3
            made = replace(made, run_if="failure" if is_for_failures else "always")
        gated.add_function(made)
    return gated


def _growing(random: Random, dag: DAG) -> DAG:
    """Have some of the functions return graphs."""
    growing = DAG(dag.id)
    share = random.choice((0.1, 0.5))
    for function in dag.functions.values():
        made = function
        if made.type == "regular" and name_of(made) not in RETURNED and random.random() < share:
            is_async = made.code is not None and is_coroutine_code(made.code)
            made = replace(made, code=make_code(GROW, is_async=is_async))
        growing.add_function(made)
    return growing


def _make_function(
    random: Random,
    number: int,
    dag: DAG,
    code: Code,
    costs: Sequence[dict[str, float]],
    nodes: Sequence[str],
    has_oddities: bool,
) -> Function:
    earlier = list(dag.functions)[-8:]
    args = [_make_argument(random, arg, has_oddities) for arg in _some(random, earlier)]
    extra_args = (number,) if random.random() < 0.3 else ()
    if has_oddities and random.random() < 0.1:
        return Function(number, args, code, type="inline", extra_args=extra_args)
    return Function(
        number,
        args,
        code,
        extra_args=extra_args,
        cost=random.choice((None, *costs)),
        node=_make_place(random, dag, nodes) if has_oddities else None,
        max_retries=random.choice((None, None, 0, 1)),
        retry_backoff=random.choice((None, None, (0.05, 2, 0.3))),
        timeout=0.4 if random.random() < 0.1 else None,
        priority=random.choice((0, 0, 0, 1)),
    )


def _some(random: Random, ids: Sequence[Hashable]) -> list[Hashable]:
    return random.sample(list(ids), min(len(ids), random.choice((0, 1, 1, 2, 3))))


def _make_argument(random: Random, function_id: Hashable, has_oddities: bool) -> Hashable:
    if not has_oddities or random.random() < 0.8:
        return function_id
    return Argument(function_id, random.choice((None, PACK)), random.choice((None, UNPACK)))


def _make_place(random: Random, dag: DAG, nodes: Sequence[str]) -> str | Collocated | None:
    chance = random.random()
    regular = [function.id for function in dag.functions.values() if function.type == "regular"]
    if chance < 0.1:
        return random.choice(nodes)
    if chance < 0.25 and regular:
        return collocated(random.choice(regular))
    return None
