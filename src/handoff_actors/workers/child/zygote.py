"""The zygote: a process that has imported what workers need, and forks them.

It is the parent of all workers of a node, so no pid that it signals can belong to another process. It ends with its
node, however that ends: it kills each worker with all that comes from it and removes the store's directories. It has one
thread and never makes a ZeroMQ context, so its forks are safe.
"""

import gc
import importlib
import io
import itertools
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from types import ModuleType
from typing import Final, assert_never

from handoff_actors.ids import WorkerId
from handoff_actors.process.open_files import allow_open_files
from handoff_actors.store.directories import remove
from handoff_actors.store.linux import adopt_orphans, signal_when_parent_ends
from handoff_actors.workers.child.main import run_worker
from handoff_actors.workers.child.outbox import peak_nbytes_of
from handoff_actors.workers.child.process.group_signals import count_group_signals
from handoff_actors.workers.child.store import WorkerStore
from handoff_actors.workers.child.surroundings import ask_over
from handoff_actors.workers.child.tail import Tail
from handoff_actors.workers.process_trees import (
    end_tree,
    end_worker_tree,
    is_zygote,
    own_children,
    set_tag,
    tag_of,
    tag_of_worker,
)
from handoff_actors.workers.zygote_protocol import (
    ForkWorker,
    ImportForNestedRuns,
    KillGroup,
    ProcessEnded,
    ZygoteSettings,
    to_zygote,
    zygote_packet,
)

_MESSAGE_NBYTES: Final = 4096
_CHANNELS_PER_WORKER: Final = 2
#: Seconds that nodes which functions have started may take to end.
_NESTED_S: Final = 3.0
_PAUSE_S: Final = 0.01
_PRELOADED_FOR_ASYNC: Final = "handoff_actors.workers.child.async_worker"
#: It takes 0.13 s and 20 MB, in each worker if it is not here. None of them starts a thread, or makes a ZeroMQ context.
_PRELOADED_FOR_NESTED_RUNS: Final = (
    "handoff_actors.client.api",
    "handoff_actors.transport.zeromq",
    "handoff_actors.transport.bus",
    "uvloop",
)


class Zygote:
    """Serve one node over `channel`, a SOCK_SEQPACKET socket."""

    def __init__(self, channel: socket.socket, settings: ZygoteSettings) -> None:
        self._channel = channel
        self._settings = settings
        self._node = os.getppid()
        #: Workers that have not been reaped, their tags and the tails of their output, by pid.
        self._workers: dict[int, tuple[WorkerId, int, Tail]] = {}
        self._numbers = itertools.count(1)
        self._wakeup, self._waker = socket.socketpair()

    def serve(self) -> None:
        """Fork, kill and reap until the node is gone; then end its workers and remove its store."""
        self._catch_signals()
        adopt_orphans()
        # Neither the zygote nor its forks ever look for garbage in what has been imported.
        gc.freeze()
        gc.enable()
        try:
            with suppress(ConnectionError):
                self._serve()
        finally:
            self._end_workers()
            for directory in filter(None, (self._settings.store, self._settings.disk)):
                remove(directory)
            # The last child's signal may come when the interpreter has closed what it would write to.
            signal.set_wakeup_fd(-1)

    def _catch_signals(self) -> None:
        count_group_signals()
        self._wakeup.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        # The channel may outlive the node in a fork that the app made. This wakes the loop, which then looks.
        signal_when_parent_ends(signal.SIGCHLD)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while os.getppid() == self._node:
            for descriptor, _ in poll.poll():
                if descriptor == self._wakeup.fileno():
                    self._wakeup.recv(_MESSAGE_NBYTES)
                    self._reap()
                elif not self._handle_request():
                    return

    # --- Requests

    def _handle_request(self) -> bool:
        """Serve one request of the node; False when the node is gone."""
        request, descriptors, _, _ = socket.recv_fds(
            self._channel, _MESSAGE_NBYTES, _CHANNELS_PER_WORKER, socket.MSG_CMSG_CLOEXEC
        )
        channels = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        if not request:
            return False
        match to_zygote(request):
            case ForkWorker(worker):
                self._spawn(worker, channels)
            case KillGroup(worker):
                self._kill(worker)
            case ImportForNestedRuns():
                _import_for_nested_runs()
            case _ as never:
                assert_never(never)
        for channel in channels:
            channel.close()
        return True

    def _spawn(self, worker: WorkerId, channels: list[socket.socket]) -> None:
        if len(channels) < _CHANNELS_PER_WORKER:
            importlib.import_module(_PRELOADED_FOR_ASYNC)
        zygote, tail = os.getpid(), Tail()
        tag = tag_of_worker(self._settings.tree, next(self._numbers))
        try:
            pid = os.fork()
        except OSError as error:
            sys.stderr.write(f"handoff: worker {worker} cannot be started: {error}\n")
            self._report(ProcessEnded(worker, None, os.EX_OSERR, 0, tail.text()))
            tail.close()
            return
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for ours in (self._channel, self._wakeup, self._waker):
                ours.close()
            set_tag(os.getpid(), tag)
            store = WorkerStore(self._settings.store, self._settings.disk)
            run_worker(channels, store, self._settings.inline_limit, tail, self._settings.pipe, zygote)
        self._workers[pid] = worker, tag, tail

    def _kill(self, worker: WorkerId) -> None:
        for pid, (known, _, _) in self._workers.items():
            if known == worker:
                _kill_group(pid)

    # --- Ends

    def _reap(self) -> None:
        """Report the workers that have ended, and kill the processes that they leave behind."""
        while (ended := _next_ended()) is not None:
            known = self._workers.pop(ended.si_pid, None)
            if known is not None:
                # Before it is reaped: until then its pid names its group and nothing else.
                _kill_group(ended.si_pid)
            _, _, usage = os.wait4(ended.si_pid, 0)
            if known is None:
                continue
            worker, tag, tail = known
            if self._has_adopted(tag):
                end_worker_tree(tag)
            has_exited = ended.si_code == os.CLD_EXITED
            signal_number = None if has_exited else ended.si_status
            exit_code = ended.si_status if has_exited else None
            peak_nbytes = peak_nbytes_of(usage)
            self._report(ProcessEnded(worker, signal_number, exit_code, peak_nbytes, tail.text()))
            tail.close()

    def _has_adopted(self, tag: int) -> bool:
        """Tell whether anything that comes from a worker that has ended has not: its next descendants are children of this process."""
        return any(tag_of(pid) == tag for pid in own_children())

    def _end_workers(self) -> None:
        for pid in self._workers:
            _kill_group(pid)
        end_tree(self._settings.tree)
        gives_up_at = time.monotonic() + _NESTED_S
        # What is left has become a child of this process, and its children do as it ends.
        while self._reap_all():
            is_late = time.monotonic() > gives_up_at
            for pid in own_children():
                # The zygote of a node that a function has started removes the store of that.
                if is_late or not is_zygote(tag_of(pid)):
                    with suppress(PermissionError):
                        os.kill(pid, signal.SIGKILL)
            if time.monotonic() > gives_up_at + _NESTED_S:
                return
            select.select([self._wakeup], [], [], _PAUSE_S)

    def _reap_all(self) -> bool:
        """Reap all children that have ended; False if there is none any more."""
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                """The next one."""
            return True
        return False

    def _report(self, ended: ProcessEnded) -> None:
        self._channel.send(zygote_packet(ended))


def _import_for_nested_runs() -> None:
    for name in _PRELOADED_FOR_NESTED_RUNS:
        # Whatever is wrong with one of them, a function that needs it will say.
        with suppress(Exception):
            importlib.import_module(name)
    gc.freeze()


def _next_ended() -> os.waitid_result | None:
    """Find a child that has ended, without reaping it."""
    with suppress(ChildProcessError):
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None


def _kill_group(pid: int) -> None:
    # A worker that has just been forked has no group yet; one that has ended may have left one.
    os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def main() -> None:
    """Serve the node that started this process. `sys.argv` has the `ZygoteSettings`, after its first entry."""
    allow_open_files()
    settings = ZygoteSettings.parse(sys.argv[1:])
    sys.argv[:] = [""]
    # User code and multiprocessing look at it; it must be empty.
    sys.modules["__main__"] = ModuleType("__main__")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Workers end without notice: what they print must not stay behind in a buffer.
        sys.stdout.reconfigure(line_buffering=True)
    channel = socket.socket(fileno=settings.channel)
    # Workers inherit it by being forked; processes that users' functions start must not.
    os.set_inheritable(settings.pipe, False)
    ask_over(settings.questions, settings.node)
    Zygote(channel, settings).serve()
    # The node waits for this end, and to take all modules apart first would take as long as all before.
    os._exit(0)
