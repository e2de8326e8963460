"""No function is reported to begin before those have ended whose results it takes, on any loop, wherever they run."""

import asyncio
import json
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvloop

import handoff_actors as handoff
from tests.daemons import Daemons
from tests.report.functions import burn, large, nothing, pause, second_time
from tests.report.trace_format import Event, check_trace, slices

pytestmark = pytest.mark.processes

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPS: list[LoopFactory] = [uvloop.new_event_loop, asyncio.new_event_loop]
#: Times in traces are microseconds, rounded to the nanosecond.
ROUNDING_US = 2e-3

COROUTINE = "coroutine"
KINDS: dict[str, tuple[Callable[..., object], dict[str, Any]]] = {
    **{f"quick{number}": (nothing, {}) for number in range(4)},
    "busy": (burn, {}),
    "large": (large, {}),
    COROUTINE: (pause, {}),
    "inline": (nothing, {"type": "inline"}),
    "retried": (second_time, {"max_retries": 1}),
}

Inputs = Mapping[str, list[str]]


def web(tmp_path: Path) -> tuple[handoff.DAG, Inputs]:
    """Functions of every kind that take results of one another, most of them so quick that they are fused."""
    tmp_path.mkdir()
    chance, dag, inputs = random.Random(17), handoff.new(), dict[str, list[str]]()
    for number in range(120):
        kind = chance.choice(list(KINDS))
        name = f"{number} {kind}"
        taken = inputs[name] = chance.sample(list(inputs)[-20:], min(number, chance.randint(0, 3)))
        code, options = KINDS[kind]
        first = {"busy": [handoff.Constant(0.003)], "retried": [handoff.Constant(str(tmp_path / name))]}
        dag.add_function(handoff.Function(name, [*first.get(kind, []), *taken], code, **options))
    return dag, inputs


def test_functions_follow_what_they_take_on_an_embedded_node(tmp_path: Path) -> None:
    for number, new_loop in enumerate(LOOPS):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_check_runs(handoff.Session((), {"cpu": 2}), tmp_path / str(number)))


def test_functions_and_transfers_follow_what_they_take_on_a_cluster(
    daemons: Daemons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)
    nodes = daemons.cluster(2, "--cpu", "1")
    for number, new_loop in enumerate(LOOPS):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            transfers = runner.run(_check_runs(handoff.Session([nodes[0].address]), tmp_path / str(number)))

        assert transfers > 0


async def _check_runs(session: handoff.Session, tmp_path: Path) -> int:
    """Check several runs, the later ones with what is known of the functions' durations; return how many values moved."""
    dag, inputs = web(tmp_path)
    transfers = 0
    async with session:
        for _ in range(2):
            run = await session.execute_distributed(dag)
            producers = {name: list(_made_apart(inputs, name, run.report)) for name in map(str, run.report)}
            _check_report(run.report, producers)
            run.to_trace(tmp_path / "trace.json")
            trace = json.loads((tmp_path / "trace.json").read_text())
            check_trace(trace)
            transfers += _check_transfers(trace["traceEvents"], producers)
    return transfers


def _made_apart(inputs: Inputs, name: str, report: handoff.Report) -> Iterator[str]:
    """List the inputs of a function, with those of inline functions in place of these."""
    for taken in inputs[name]:
        yield from [taken] if taken in report else _made_apart(inputs, taken, report)


def _check_report(report: handoff.Report, producers: Inputs) -> None:
    workers = defaultdict(list)
    for name, entry in report.items():
        assert all(report[producer].finished_at <= entry.started_at for producer in producers[str(name)])
        assert 0.0 <= entry.queued_at <= entry.sent_at <= entry.started_at <= entry.finished_at
        assert entry.finished_at - entry.started_at == pytest.approx(entry.ran_s)
        assert entry.time.all_s == pytest.approx(entry.finished_at)
        # Coroutines of one worker do overlap.
        if not str(name).endswith(COROUTINE):
            workers[entry.node, entry.worker].append((entry.started_at, entry.finished_at))
    for spans in workers.values():
        assert all(before[1] <= after[0] for before, after in pairwise(sorted(spans)))
    last = report[report.critical_path.function_ids[-1]]
    assert report.critical_path.time.all_s == pytest.approx(last.finished_at)


def _check_transfers(events: list[Event], producers: Inputs) -> int:
    functions = {event["name"]: event for event in slices(events, "function")}
    transfers = slices(events, "transfer")
    for transfer in transfers:
        name, node = transfer["name"].removeprefix("brings "), transfer["pid"]
        made = functions[name]
        takers = [functions[taker] for taker in producers if name in producers[taker]]
        taken_at = [taker["ts"] for taker in takers if taker["pid"] == node != made["pid"]]
        again = sum(event["name"] == transfer["name"] and event["pid"] == node for event in transfers) > 1
        assert made["ts"] + made["dur"] <= transfer["ts"] + ROUNDING_US
        assert again or all(transfer["ts"] + transfer["dur"] <= at + ROUNDING_US for at in taken_at)
    return len(transfers)
