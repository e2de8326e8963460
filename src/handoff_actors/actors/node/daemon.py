"""A node as a process of its own: serves until it is told to stop, then leaves in good order."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType

import uvloop
from msgspec import Struct

from handoff_actors.actors.handshake import NameInUse
from handoff_actors.actors.member import Member
from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.actors.node.host.containers import DRAIN_S
from handoff_actors.actors.node.host.service_manager import ServiceManager
from handoff_actors.actors.node.host.slurm import is_slurm_task
from handoff_actors.actors.node.hosting import host_node
from handoff_actors.actors.node.kept_handover import hand_over_kept_values
from handoff_actors.actors.node.limits import MemoryOptions
from handoff_actors.core.cluster.value_placement import by_room
from handoff_actors.core.node.lifetime import Lifetime
from handoff_actors.errors import HandoffError
from handoff_actors.ids import Resources
from handoff_actors.process.first_signals import ENDING, end_at_first_signal
from handoff_actors.process.open_files import allow_open_files
from handoff_actors.transport.credentials import Credentials

log = logging.getLogger(__name__)

#: A node that has not joined by then, although it need not wait for others, never will.
START_S = 60.0


class DaemonOptions(Struct, frozen=True):
    """The options of a daemon."""

    name: str | None
    capabilities: Resources
    workers: int | None
    #: None: with a join directory all addresses and any port, else as `host_node` has it.
    listen: str | None
    #: HOST or HOST:PORT under which others reach it, where that is not the one it listens at.
    advertise: str | None = None
    #: Port at which its bus listens. None: the one after that of `listen`.
    bus_port: int | None = None
    join: Sequence[str] = ()
    #: Wait this long for one of them to answer.
    join_wait_s: float = 0.0
    #: Serve even if none of them has answered by then.
    may_be_alone: bool = False
    #: Directory in which members find one another.
    join_file: str | None = None
    drain_s: float = DRAIN_S
    #: See `Lifetime.of`.
    idle_s: float | None = None
    lifetime_s: float | None = None
    memory: MemoryOptions | None = None
    credentials: Credentials = Credentials()
    #: The id of a process with whose end the daemon ends.
    lives_with: int | None = None


def serve(options: DaemonOptions, ready: Callable[[NodeActor], AbstractContextManager[object]]) -> None:
    """Run a daemon in this process, which is to end with it. Raises as `run_daemon` does.

    A signal that comes when it has nothing yet, or nothing any more, that is to be cleared away ends the process at once.
    """
    end_at_first_signal()
    uvloop.run(run_daemon(options, ready))


async def run_daemon(
    options: DaemonOptions, ready: Callable[[NodeActor], AbstractContextManager[object]]
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends it at once, as does the end of `lives_with`.

    `ready` is called once it serves; what it returns is left when the node has drained. A signal before that ends it, too.

    Raises InsecureAddressError, InvalidKeyError, ConnectionFailed, AuthenticationError, VersionMismatch, OSError, and
    HandoffError once a bug of its own has ended the node.
    """
    # A member has a few connections for each other one.
    allow_open_files()
    signals = _Signals()
    # One that lives with an app is no service.
    manager = ServiceManager(os.environ if options.lives_with is None else {})
    manager.starting(START_S + options.join_wait_s)
    if options.lives_with is not None:
        signals.end_with(options.lives_with)
    member = Member(options.name or "node", credentials=options.credentials)
    try:
        node = await _started(member, options, signals)
        if node is None:
            return
        with ready(node):
            manager.serving(node.address)
            await _told_to_leave(node, signals)
            within_s = _drain_s(options)
            manager.stopping(within_s)
            if not node.crashed.done():
                await _drain(member, node, within_s, signals)
        if node.crashed.done():
            reason = node.crashed.result()
            if isinstance(reason, NameInUse):
                raise reason
            raise HandoffError(
                f"node {node.name!r} has ended because of a bug of its own, which its log shows"
            )
    finally:
        await member.close()
        manager.close()
        signals.close()


async def _told_to_leave(node: NodeActor, signals: "_Signals") -> None:
    """Return once a signal has come, the node's time is over, or it has crashed."""
    async with asyncio.TaskGroup() as tasks:
        signalled = tasks.create_task(signals.next(), name="first signal")
        await asyncio.wait((signalled, node.crashed, node.leave_due), return_when=asyncio.FIRST_COMPLETED)
        signalled.cancel()


def _drain_s(options: DaemonOptions) -> float:
    # See `Lifetime.of`.
    return options.drain_s if options.lifetime_s is None else min(options.drain_s, options.lifetime_s / 2)


async def _drain(member: Member, node: NodeActor, within_s: float, signals: "_Signals") -> None:
    reason = node.leave_due.result() if node.leave_due.done() else "told to stop"
    log.info("draining", extra={"node": node.name, "reason": reason})
    async with asyncio.TaskGroup() as tasks:
        # Apps that start now should find other members.
        withdrawing = tasks.create_task(member.withdraw(), name="withdraw")
        leaving = tasks.create_task(_leave(member, node, within_s), name="leave")
        hurry = tasks.create_task(signals.next(), name="second signal")
        await asyncio.wait((leaving, hurry), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        hurry.cancel()
        withdrawing.cancel()


async def _leave(member: Member, node: NodeActor, within_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s), asyncio.TaskGroup() as tasks:
            handing_over = hand_over_kept_values(node, member.network(), by_room(member.members()))
            tasks.create_task(handing_over, name="kept values")
            await node.leave(within_s)


async def _started(member: Member, options: DaemonOptions, signals: "_Signals") -> NodeActor | None:
    """Start the node. Returns None where a signal has ended the start. Raises as `run_daemon` does, and HandoffError after START_S."""
    limit_s = START_S + options.join_wait_s
    try:
        async with asyncio.timeout(limit_s) as limit:
            with signals.ending(limit):
                return await host_node(
                    member,
                    options.capabilities,
                    name=options.name,
                    workers=options.workers,
                    listen=options.listen,
                    advertise=options.advertise,
                    bus_port=options.bus_port,
                    seeds=options.join,
                    join_wait_s=options.join_wait_s,
                    may_be_alone=options.may_be_alone,
                    join_file=options.join_file,
                    options=options.memory,
                    lifetime=Lifetime.of(options.idle_s, options.lifetime_s, options.drain_s),
                )
    except TimeoutError as error:
        if not limit.expired():
            raise
        if signals.are_there:
            log.info("told to stop before it served")
            return None
        raise HandoffError(
            f"the node did not come to serve within {limit_s:g} s; is the machine overloaded, or the file system of its "
            "directories (--spill-dir, --store-dir) out of order?"
        ) from error


class _Signals:
    """SIGTERM and SIGINT, one at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._seen: asyncio.Queue[None] = asyncio.Queue()
        self._watched: int | None = None
        self._limit: asyncio.Timeout | None = None
        #: Slurm sends SIGTERM twice at once at the end of a job's time, and again after that of --signal.
        self._is_repeated_by_system = is_slurm_task()
        self._is_terminated = False
        # Not as handlers of the loop: when it takes those back, SIGINT raises KeyboardInterrupt wherever the process is.
        self._earlier = {number: signal.signal(number, self._caught) for number in ENDING}

    def end_with(self, pid: int) -> None:
        """Treat the end of a process as two signals. Raises ProcessLookupError if it has ended already."""
        self._watched = os.pidfd_open(pid)
        self._loop.add_reader(self._watched, self._bereaved)

    async def next(self) -> None:
        await self._seen.get()

    @property
    def are_there(self) -> bool:
        """True if a signal has come that `next` has not returned."""
        return not self._seen.empty()

    @contextmanager
    def ending(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Let the next signal reach this limit at once."""
        self._limit = limit
        if self.are_there:
            self._reach(limit)
        try:
            yield
        finally:
            self._limit = None

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            if self._is_terminated and self._is_repeated_by_system:
                return
            self._is_terminated = True
        self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._seen.put_nowait(None)
        if self._limit is not None:
            self._reach(self._limit)

    def _reach(self, limit: asyncio.Timeout) -> None:
        if not limit.expired():
            limit.reschedule(self._loop.time())

    def close(self) -> None:
        self._look_away()
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _bereaved(self) -> None:
        self._look_away()
        self._take()
        self._take()

    def _look_away(self) -> None:
        if self._watched is not None:
            self._loop.remove_reader(self._watched)
            os.close(self._watched)
            self._watched = None
