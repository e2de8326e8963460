"""The least that a stream can take: ZeroMQ and pickle from process to process; and, for arrays, copies within the app.

Items leave in frames of 64, and stages send on what they get as it comes. No flow control but a window, no retries.
"""

import pickle
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import islice, pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import zmq

from benchmarks.stream_shapes import STAGES, Flow, Kind, code_of, of_kind, window_of

FRAME = 64
PICKLE_PROTOCOL = 5


def serve(code: Callable[[Any], Any], listens_at: str, sends_to: str) -> None:
    """Run the code for all items of each frame, for ever."""
    with zmq.Context() as context, context.socket(zmq.PULL) as items, context.socket(zmq.PUSH) as taker:
        items.bind(listens_at)
        taker.connect(sends_to)
        while True:
            values = pickle.loads(items.recv())
            taker.send(pickle.dumps([code(value) for value in values], PICKLE_PROTOCOL))


class BareFlow:
    """The app's two sockets."""

    def __init__(self, first: "zmq.Socket[bytes]", last: "zmq.Socket[bytes]", kind: Kind) -> None:
        self._first = first
        self._last = last
        self._window = window_of(kind)
        self._frame = 1 if kind in ("large", "batched") else FRAME

    async def one(self, value: Any) -> Any:
        """See Flow."""
        self._push([value])
        [result] = self._take()
        return result

    async def many(self, values: Iterable[Any]) -> AsyncIterator[Any]:
        """See Flow."""
        items, frames = iter(values), deque[int]()
        while frame := list(islice(items, self._frame)):
            while sum(frames) + len(frame) > self._window:
                frames.popleft()
                for value in self._take():
                    yield value
            self._push(frame)
            frames.append(len(frame))
        for _ in frames:
            for value in self._take():
                yield value

    def _push(self, values: list[Any]) -> None:
        self._first.send(pickle.dumps(values, PICKLE_PROTOCOL))

    def _take(self) -> list[Any]:
        values: list[Any] = pickle.loads(self._last.recv())
        return values


@contextmanager
def _stage(kind: Kind, listens_at: str, sends_to: str) -> Any:
    process = get_context("spawn").Process(
        target=serve, args=(code_of(kind), listens_at, sends_to), daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


@asynccontextmanager
async def embedded(kind: Kind) -> AsyncIterator[Flow]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        addresses = [f"ipc://{Path(folder, str(number))}" for number in range(STAGES + 1)]
        for listens_at, sends_to in pairwise(addresses):
            stack.enter_context(_stage(kind, listens_at, sends_to))
        context = stack.enter_context(zmq.Context())
        first, last = (
            stack.enter_context(context.socket(zmq.PUSH)),
            stack.enter_context(context.socket(zmq.PULL)),
        )
        first.linger = 0
        last.bind(addresses[-1])
        first.connect(addresses[0])
        yield of_kind(kind, BareFlow(first, last, kind))


class LocalFlow:
    """The stages' code, called by the app itself."""

    def __init__(self, kind: Kind) -> None:
        self._code = code_of(kind)

    async def one(self, value: Any) -> Any:
        """See Flow."""
        for _ in range(STAGES):
            value = self._code(value)
        return value

    async def many(self, values: Iterable[Any]) -> AsyncIterator[Any]:
        """See Flow."""
        for value in values:
            yield await self.one(value)


@asynccontextmanager
async def local(kind: Kind) -> AsyncIterator[Flow]:
    yield of_kind(kind, LocalFlow(kind))
