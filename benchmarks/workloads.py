"""The work itself as plain data: functions and their inputs, independent of any framework."""

import random
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

FAN_OUT = 10_000
LAYER_WIDTH = 100
INPUTS_PER_FUNCTION = 3
LAYERED_SEED = 20_240_229
LARGE_ITEMS = 12_500_000
LARGE_CONSUMERS = 8
SPIN_FUNCTIONS = 80
SPIN_S = 0.05


class Sizes(NamedTuple):
    """The sizes of workloads, for figures that are per function or per run."""

    fan_out: int
    layers: int
    hops: int
    branching_rounds: int
    pending: int


FULL = Sizes(fan_out=FAN_OUT, layers=100, hops=300, branching_rounds=200, pending=20_000)
#: For contenders that take a millisecond or so for a function.
SMALL = Sizes(fan_out=2_000, layers=20, hops=100, branching_rounds=50, pending=5_000)
#: For contenders that take several milliseconds.
TINY = Sizes(fan_out=500, layers=5, hops=50, branching_rounds=30, pending=1_000)


class Step(NamedTuple):
    """One function: `code` is called with the results of `takes`, in that order."""

    key: str
    code: Callable[..., object]
    takes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    """A graph of steps, and the results of the steps that the app wants."""

    #: Every step stands after its inputs.
    steps: list[Step]
    expected: dict[str, object]
    #: Time limit of each step in seconds, for contenders that have time limits and send such steps one by one.
    timeout_s: float | None = None


class AnArray:
    """Equals any 100 MB array: comparing all of it would hold the app's event loop."""

    def __eq__(self, other: object) -> bool:
        return getattr(other, "size", 0) == LARGE_ITEMS

    __hash__ = None  # type: ignore[assignment]


def nothing(*_results: object) -> None:
    """Do no work, so that all the time is the framework's."""


def increment(number: int = 0) -> int:
    return number + 1


def add_up(*numbers: int) -> int:
    return sum(numbers) % 1_000_003 + 1


def make_array() -> "np.ndarray":
    """Make an array of ones, 100 MB of them."""
    import numpy as np  # noqa: PLC0415 - the other workloads must not pay for numpy

    return np.ones(LARGE_ITEMS)


def sum_array(array: "np.ndarray") -> float:
    return float(array.sum())


def spin() -> None:
    """Burn CPU time, not wall time: a worker that has to share its core takes longer."""
    end = time.thread_time() + SPIN_S
    while time.thread_time() < end:
        pass


def wait_at_gate(path: str) -> None:
    """Report at a Unix socket that the function runs, and return when the other side says so."""
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect(path)
        gate.recv(1)


def fan_out(functions: int = FAN_OUT) -> Workload:
    steps = [Step(f"nothing-{number}", nothing) for number in range(functions)]
    return Workload(steps, dict.fromkeys((step.key for step in steps), None))


def chain(hops: int) -> Workload:
    first = Step("hop-1", increment)
    later = [Step(f"hop-{hop}", increment, (f"hop-{hop - 1}",)) for hop in range(2, hops + 1)]
    return Workload([first, *later], {f"hop-{hops}": hops})


def hops(count: int) -> Workload:
    """A chain in which no two functions may be fused."""
    whole = chain(count)
    return Workload(whole.steps, whole.expected, timeout_s=60.0)


def branching() -> Workload:
    """One function, two that take its result, and one that joins theirs."""
    return with_sinks_wanted(
        [
            Step("source", increment),
            Step("left", increment, ("source",)),
            Step("right", add_up, ("source",)),
            Step("join", add_up, ("left", "right")),
        ]
    )


def layered(layers: int) -> Workload:
    """Every function but those of the first layer takes from three random ones of the layer before."""
    dice = random.Random(LAYERED_SEED)
    steps: list[Step] = []
    layer: list[str] = []
    for depth in range(layers):
        before, layer = layer, [f"layer-{depth}-{place}" for place in range(LAYER_WIDTH)]
        steps += [
            Step(key, add_up, tuple(dice.sample(before, INPUTS_PER_FUNCTION)) if before else ())
            for key in layer
        ]
    return with_sinks_wanted(steps)


def large() -> Workload:
    """One array of 100 MB, summed by eight functions."""
    sums = [Step(f"sum-{number}", sum_array, ("array",)) for number in range(LARGE_CONSUMERS)]
    return Workload(
        [Step("array", make_array), *sums], dict.fromkeys((step.key for step in sums), float(LARGE_ITEMS))
    )


def large_result() -> Workload:
    """A result of 100 MB that the app fetches."""
    return Workload([Step("array", make_array)], {"array": AnArray()})


def cpu_bound() -> Workload:
    steps = [Step(f"spin-{number}", spin) for number in range(SPIN_FUNCTIONS)]
    return Workload(steps, dict.fromkeys((step.key for step in steps), None))


def gated(path: str, functions: int) -> Workload:
    """Functions that all wait for one, which waits for the listener at `path`."""
    gate = Step("gate", partial(wait_at_gate, path))
    pending = [Step(f"pending-{number}", nothing, ("gate",)) for number in range(functions)]
    return Workload([gate, *pending], dict.fromkeys((step.key for step in pending), None))


def with_sinks_wanted(steps: list[Step]) -> Workload:
    taken = {key for step in steps for key in step.takes}
    results = evaluate(steps)
    return Workload(steps, {key: result for key, result in results.items() if key not in taken})


def evaluate(steps: Iterable[Step]) -> dict[str, object]:
    """Compute the result of every step in this process, to check the contenders against."""
    results: dict[str, object] = {}
    for step in steps:
        results[step.key] = step.code(*(results[key] for key in step.takes))
    return results
