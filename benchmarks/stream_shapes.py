"""Streams of items through three stages, and what is measured of them, with any framework.

This is imported by the workers of all frameworks: it needs nothing but the standard library, and numpy for arrays.
"""

import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

#: The stages of a flow: they return what they get, or do so with lists, or copy arrays; or the middle one has two workers, and
#: sends equal keys to the same one.
Kind: TypeAlias = Literal["plain", "batched", "large", "keyed"]

STAGES = 3
#: Items in flight at most.
WINDOW = 4096
#: The same, of arrays: 32 MB.
LARGE_WINDOW = 32
BATCH = 32
KEYS = 7
WARM_SHARE = 10


class StreamSizes(NamedTuple):
    """How many items there are of each."""

    items: int = 100_000
    ones: int = 500
    arrays: int = 300
    array_nbytes: int = 1_000_000


FULL = StreamSizes()
#: For frameworks that take a millisecond or so for an item. Their figures are rates, too.
SMALL = StreamSizes(items=3_000, ones=100, arrays=100)


class Flow(Protocol):
    """Three warm stages of one framework, in a row."""

    async def one(self, value: Any) -> Any:
        """Send one item through, and wait for it."""

    def many(self, values: Iterable[Any]) -> AsyncIterator[Any]:
        """Send items through, up to a window at once; give what comes out, in order."""


#: Opens the stages of a kind.
OpenFlow: TypeAlias = Callable[[Kind], AbstractAsyncContextManager[Flow]]


def nothing(value: Any) -> Any:
    return value


def copied(array: Any) -> Any:
    return array.copy()


def key_of(value: int) -> int:
    return value % KEYS


def code_of(kind: Kind) -> Callable[[Any], Any]:
    """The code of each stage; in flows of batches it gets lists."""
    return copied if kind == "large" else nothing


def window_of(kind: Kind) -> int:
    if kind == "large":
        return LARGE_WINDOW
    return WINDOW // BATCH if kind == "batched" else WINDOW


class ByHand:
    """A flow whose app makes batches, for frameworks that make none."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    async def one(self, value: Any) -> Any:
        """See Flow."""
        [out] = await self._flow.one([value])
        return out

    async def many(self, values: Iterable[Any]) -> AsyncIterator[Any]:
        """See Flow."""
        items = iter(values)
        batches = iter(lambda: list(islice(items, BATCH)), [])
        async for batch in self._flow.many(batches):
            for value in batch:
                yield value


def of_kind(kind: Kind, flow: Flow) -> Flow:
    """Return the flow as it is measured, where its stages know nothing of batches."""
    return ByHand(flow) if kind == "batched" else flow


async def _rate(flow: Flow, sizes: StreamSizes) -> float:
    return sizes.items / await _timed(flow, range(sizes.items))


async def _one(flow: Flow, sizes: StreamSizes) -> float:
    took_s: list[float] = []
    for number in range(sizes.ones):
        began_at = time.perf_counter()
        out = await flow.one(number)
        took_s.append(time.perf_counter() - began_at)
        if out != number:
            raise ValueError("the result is wrong")
    return statistics.median(took_s) * 1e3


async def _large(flow: Flow, sizes: StreamSizes) -> float:
    import numpy as np  # noqa: PLC0415 - not every interpreter that imports this has it

    array = np.ones(sizes.array_nbytes, np.uint8)
    began_at = time.perf_counter()
    count = 0
    async for out in flow.many(array for _ in range(sizes.arrays)):
        if out.nbytes != array.nbytes or out[-1] != 1:
            raise ValueError("the result is wrong")
        count += 1
    if count != sizes.arrays:
        raise ValueError("results are missing")
    return (time.perf_counter() - began_at) / count * 1e3


async def _timed(flow: Flow, values: Sequence[int]) -> float:
    """Return the seconds that items take from the first push to the last result."""
    began_at = time.perf_counter()
    out = [value async for value in flow.many(values)]
    took_s = time.perf_counter() - began_at
    if out != list(values):
        raise ValueError("results are wrong, or in another order")
    return took_s


class Measure(NamedTuple):
    """One figure, and the stages that it is taken of."""

    kind: Kind
    take: Callable[[Flow, StreamSizes], Any]


MEASURES: Mapping[str, Measure] = {
    "items": Measure("plain", _rate),
    "one": Measure("plain", _one),
    "batches": Measure("batched", _rate),
    "large": Measure("large", _large),
    "key": Measure("keyed", _rate),
}
FIGURES = tuple(MEASURES)


async def measure(figure: str, opened: OpenFlow, sizes: StreamSizes) -> float:
    """Measure one figure with stages that are warm. Raises ValueError for a wrong result."""
    kind, take = MEASURES[figure]
    items, ones, arrays = (max(2, size // WARM_SHARE) for size in (sizes.items, sizes.ones, sizes.arrays))
    warm = StreamSizes(items, ones, arrays, sizes.array_nbytes)
    async with opened(kind) as flow:
        await take(flow, warm)
        found: float = await take(flow, sizes)
        return found
