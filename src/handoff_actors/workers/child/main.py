"""Turn a fork of the zygote into a worker."""

import os
import signal
import socket
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from handoff_actors.store.linux import signal_when_parent_ends
from handoff_actors.wire.code.managers import adopt_keys
from handoff_actors.workers.child.process.group_signals import leave_group_signals_to_node
from handoff_actors.workers.child.process.interrupts import heed_ignored_signals
from handoff_actors.workers.child.process.pools import support_process_pools
from handoff_actors.workers.child.store import WorkerStore
from handoff_actors.workers.child.sync_worker import SyncWorker
from handoff_actors.workers.child.tail import Tail

_OOM_SCORE: Final = Path("/proc/self/oom_score_adj")
#: Half of the memory that the kernel compares with: a worker dies before a node that has less than that more than it.
_RAISED_BY: Final = 500
_MOST_OOM_SCORE: Final = 1000


def run_worker(
    channels: Sequence[socket.socket],
    store: WorkerStore,
    inline_limit: int,
    tail: Tail,
    pipe: int,
    zygote: int,
) -> NoReturn:
    """Run a worker until the channels close: a sync worker with (data, control), an async worker with (data,)."""
    try:
        _detach(zygote)
        _die_before_the_node()
        adopt_keys()
        support_process_pools()
        _serve(channels, store, inline_limit, tail, pipe)
    except BaseException:  # noqa: BLE001 - the zygote's own frames are below: nothing may get there
        traceback.print_exc()
    finally:
        os._exit(1)


def _detach(zygote: int) -> None:
    """Start a process group that ends with the zygote, and reset the signals that only the zygote handles."""
    os.setsid()
    signal_when_parent_ends(signal.SIGKILL)
    if os.getppid() != zygote:
        os._exit(1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    leave_group_signals_to_node()
    # The program that started the node may ignore some.
    heed_ignored_signals()


def _die_before_the_node() -> None:
    """Have the kernel choose this process, and those that it starts, rather than the node when memory is short: a node survives its workers."""
    # A container may have no /proc that it can write to.
    with suppress(OSError):
        score = int(_OOM_SCORE.read_text()) + _RAISED_BY
        _OOM_SCORE.write_text(str(min(score, _MOST_OOM_SCORE)))


def _serve(
    channels: Sequence[socket.socket], store: WorkerStore, inline_limit: int, tail: Tail, pipe: int
) -> None:
    if len(channels) > 1:
        data, control = channels
        SyncWorker(data, control, store, inline_limit, tail, pipe).serve()
    # The zygote has imported it by now; one that never spawns an async worker never does.
    from handoff_actors.workers.child.async_worker import AsyncWorker  # noqa: PLC0415

    AsyncWorker(channels[0], store, inline_limit, tail, pipe).serve()
