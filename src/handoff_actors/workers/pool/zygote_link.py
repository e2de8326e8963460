"""The node's end of a zygote: starts the process, asks it for workers, receives reports of their ends."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from handoff_actors.ids import WorkerId
from handoff_actors.process.standard_descriptors import hold_standard_descriptors, is_inherited
from handoff_actors.workers import nesting
from handoff_actors.workers.pool.forks import keep_from_forks
from handoff_actors.workers.process_trees import end_tree, new_tree, set_tag, tag_of_worker
from handoff_actors.workers.zygote_protocol import (
    ForkWorker,
    ImportForNestedRuns,
    KillGroup,
    ProcessEnded,
    ToZygote,
    ZygoteSettings,
    from_zygote,
    zygote_packet,
)

#: The last lines that a worker printed are most of a report.
_MESSAGE_NBYTES: Final = 16 * 1024
#: How long a zygote may take to kill its workers and to remove the store before it is killed itself.
_GRACE_S: Final = 10.0
#: The zygote can import nothing before it has the node's path. With -c it has an empty `__main__`. The modules
#: that it imports stay for good: a search for garbage in them would take milliseconds that the first function waits for.
_BOOT: Final = (
    f"import gc, sys; gc.disable(); sys.path[:] = sys.argv[{1 + len(ZygoteSettings._fields)}:]; "
    f"del sys.argv[{1 + len(ZygoteSettings._fields)}:]; "
    "from handoff_actors.workers.child.zygote import main; main()"
)


class ZygoteLink:
    """A running zygote. `reported` gets its reports; `lost` is called once if it ends without `close`."""

    def __init__(
        self,
        store: Path,
        disk: Path | None,
        node: str,
        inline_limit: int,
        pipe: int,
        questions: int,
        reported: Callable[[ProcessEnded], None],
        lost: Callable[["ZygoteLink"], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._reported = reported
        self._lost = lost
        #: The number of all that comes from this zygote, see `process_trees`.
        self.tree = new_tree()
        #: The directories from which its workers import.
        self.import_path = list(filter(_is_text, sys.path))
        hold_standard_descriptors()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                settings = ZygoteSettings(
                    theirs.fileno(), store, disk, node, inline_limit, pipe, self.tree, questions
                )
                self._process = _start(settings, self.import_path)
                # Where a function has started this node, what ends the function leaves the zygote to end by itself.
                set_tag(self._process.pid, tag_of_worker(self.tree, 0))
        except OSError:
            self._channel.close()
            raise
        self._channel.setblocking(False)
        keep_from_forks(self._channel)
        self._loop.add_reader(self._channel, self._read)
        #: Requests that the channel had no room for, with the sockets that go with them.
        self._unsent: deque[tuple[bytes, Sequence[socket.socket]]] = deque()
        self.is_running = True
        self._is_prepared_for_nested_runs = False

    def spawn(self, worker: WorkerId, channels: Sequence[socket.socket]) -> None:
        """Ask for a worker; `channels`, its ends of them, are closed here once they are sent."""
        self._request(ForkWorker(worker), channels)

    def kill(self, worker: WorkerId) -> None:
        """Ask for the end of a worker; it may have ended already."""
        self._request(KillGroup(worker), ())

    def prepare_for_nested_runs(self) -> None:
        """Ask for workers that have imported what functions need to begin runs, as those that wait may begin many."""
        if not self._is_prepared_for_nested_runs:
            self._is_prepared_for_nested_runs = True
            self._request(ImportForNestedRuns(), ())

    async def close(self) -> None:
        """Have the zygote kill its workers, remove the store and end; returns when it has."""
        if not self.is_running:
            return
        descriptor = os.pidfd_open(self._process.pid)
        ended = asyncio.Event()
        self._loop.add_reader(descriptor, ended.set)
        # Not only a close: a fork that the app has made may hold the channel too.
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._close_channel()
        try:
            async with asyncio.timeout(_GRACE_S):
                await ended.wait()
        except TimeoutError:
            self._process.kill()
            await asyncio.to_thread(end_tree, self.tree)
        finally:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
            self._process.kill()
            self._process.wait()

    def _request(self, message: ToZygote, channels: Sequence[socket.socket]) -> None:
        self._unsent.append((zygote_packet(message), channels))
        if len(self._unsent) == 1:
            self._send()

    def _send(self) -> None:
        while self._unsent:
            message, channels = self._unsent[0]
            try:
                socket.send_fds(self._channel, [message], [channel.fileno() for channel in channels])
            except BlockingIOError:
                self._loop.add_writer(self._channel, self._send)
                return
            except ConnectionError:
                # The reader will see the end of the channel, and the pool the end of this worker.
                pass
            self._unsent.popleft()
            for channel in channels:
                channel.close()
        self._loop.remove_writer(self._channel)

    def _read(self) -> None:
        """Read every report that has arrived: the last reports of a dead zygote come before its end."""
        while self.is_running:
            try:
                report = self._channel.recv(_MESSAGE_NBYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                report = b""
            if report:
                self._reported(from_zygote(report))
            else:
                self._close_channel()
                self._process.kill()
                self._process.wait()
                self._lost(self)

    def _close_channel(self) -> None:
        self.is_running = False
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._channel.close()
        for _, channels in self._unsent:
            for channel in channels:
                channel.close()
        self._unsent.clear()


def _start(settings: ZygoteSettings, import_path: Sequence[str]) -> subprocess.Popen[bytes]:
    arguments = [*settings.arguments(), *import_path]
    # Signals to all of the node's processes wait for the zygote's handlers, which unblocks them.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGHUP, signal.SIGINT))
    try:
        return _popen(arguments, settings)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _popen(arguments: Sequence[str], settings: ZygoteSettings) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own interpreter with our own arguments
        [sys.executable, "-c", _BOOT, *arguments],
        env=os.environ | {nesting.VARIABLE: str(nesting.depth() + 1)},
        stdin=subprocess.DEVNULL,
        # The app may have been started without them.
        stdout=None if is_inherited(1) else subprocess.DEVNULL,
        stderr=None if is_inherited(2) else subprocess.DEVNULL,
        pass_fds=[settings.channel, settings.pipe, settings.questions],
        # Ctrl-C in the app's terminal is the app's business.
        start_new_session=True,
    )


def _is_text(entry: object) -> bool:
    return isinstance(entry, str)
