"""The cost of the wire alone: ZeroMQ to two workers and back, without any scheduling.

The app has one DEALER, each worker a ROUTER, and libzmq sends frames to the workers by turns. Ready functions leave in
batches of 64 per frame. No claims, no flow control, no retries, no report: a worker that dies is not missed.
"""

import asyncio
import pickle
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import zmq

from benchmarks.contender import WORKERS, Contender, Execute
from benchmarks.workloads import Workload

BATCH = 64
PICKLE_PROTOCOL = 5


def serve(address: str, report: Connection) -> None:
    """Run all functions that arrive, for ever: a worker's whole life."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(address)
        report.send(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        while True:
            app, frame = socket.recv_multipart()
            done = [(number, code(*values)) for number, code, values in pickle.loads(frame)]
            socket.send_multipart([app, pickle.dumps(done, PICKLE_PROTOCOL)])


@contextmanager
def worker(address: str) -> Iterator[str]:
    """Start a worker process; yields its address."""
    processes = get_context("spawn")
    reading, writing = processes.Pipe(duplex=False)
    process = processes.Process(target=serve, args=(address, writing), daemon=True)
    process.start()
    try:
        yield reading.recv()
    finally:
        process.terminate()
        process.join()


class Run:
    """One workload, its functions numbered; `BareCluster` carries its frames."""

    def __init__(self, workload: Workload, send: Callable[[bytes], None]) -> None:
        numbers = {step.key: number for number, step in enumerate(workload.steps)}
        self._send = send
        self._wanted = {key: numbers[key] for key in workload.expected}
        self._codes = [step.code for step in workload.steps]
        self._takes = [[numbers[key] for key in step.takes] for step in workload.steps]
        self._missing = [len(takes) for takes in self._takes]
        self._takers: list[list[int]] = [[] for _ in numbers]
        for number, takes in enumerate(self._takes):
            for taken in takes:
                self._takers[taken].append(number)
        self._results: dict[int, object] = {}
        self._done = asyncio.get_running_loop().create_future()

    async def execute(self) -> Mapping[str, object]:
        """Send the functions without inputs, and wait for all results."""
        self._submit([number for number, missing in enumerate(self._missing) if missing == 0])
        await self._done
        return {key: self._results[number] for key, number in self._wanted.items()}

    def receive(self, frame: bytes) -> None:
        """Take in a batch of results, and send the functions that they make ready."""
        done = pickle.loads(frame)
        self._results.update(done)
        ready = []
        for number, _result in done:
            for taker in self._takers[number]:
                self._missing[taker] -= 1
                if self._missing[taker] == 0:
                    ready.append(taker)
        self._submit(ready)
        if len(self._results) == len(self._codes):
            self._done.set_result(None)

    def _submit(self, ready: Sequence[int]) -> None:
        for start in range(0, len(ready), BATCH):
            batch = [
                (number, self._codes[number], [self._results[taken] for taken in self._takes[number]])
                for number in ready[start : start + BATCH]
            ]
            self._send(pickle.dumps(batch, PICKLE_PROTOCOL))


class BareCluster:
    """The app's socket, read from the event loop."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket = socket
        self._run: Run | None = None

    async def prepare(self, workload: Workload) -> Execute:
        """Number the functions."""
        self._run = Run(workload, self._send)
        return self._run.execute

    def drain(self) -> None:
        """Read all frames that have arrived: the socket's file descriptor signals only later ones."""
        assert self._run is not None
        while self._has_input():
            self._run.receive(self._socket.recv())

    def _send(self, frame: bytes) -> None:
        self._socket.send(frame)
        # Sending uses up the signal of the file descriptor.
        if self._has_input():
            asyncio.get_running_loop().call_soon(self.drain)

    def _has_input(self) -> bool:
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


@asynccontextmanager
async def connected(addresses: Sequence[str]) -> AsyncIterator[BareCluster]:
    """Connect an app to the workers that listen at these addresses."""
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        listening = [stack.enter_context(worker(address)) for address in addresses]
        context = stack.enter_context(zmq.Context())
        socket = stack.enter_context(context.socket(zmq.DEALER))
        socket.linger = 0
        for address in listening:
            socket.connect(address)
        cluster = BareCluster(socket)
        loop.add_reader(socket.FD, cluster.drain)
        try:
            yield cluster
        finally:
            loop.remove_reader(socket.FD)


@asynccontextmanager
async def embedded() -> AsyncIterator[BareCluster]:
    with tempfile.TemporaryDirectory() as folder:
        addresses = [f"ipc://{Path(folder, str(number))}" for number in range(WORKERS)]
        async with connected(addresses) as cluster:
            yield cluster


@asynccontextmanager
async def daemons() -> AsyncIterator[BareCluster]:
    async with connected(["tcp://127.0.0.1:*"] * WORKERS) as cluster:
        yield cluster


CONTENDER = Contender(embedded, daemons)
