"""The lines that tell an operator what happens on a node: its peers, their runs, failures, deaths of workers, spilling.

Each says one event, once, with its fields in `extra`. A service may begin hundreds of runs in a second: of lines that can
come that often few are written, and the next one says how many were left out.
"""

import logging
import signal
from typing import Final, assert_never

from msgspec import Struct

from handoff_actors.actors.driver import clock
from handoff_actors.core.node.events import LogDeath, LogEffect, LogRetirement, LogRunOpened, LogSpill
from handoff_actors.ids import PeerId, RunId
from handoff_actors.text import shortened
from handoff_actors.token_bucket import TokenBucket
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.members import Goodbye, ListMembers, ListRuns
from handoff_actors.wire.messages.runs import Completed, Failed

log = logging.getLogger(__name__)
# An app with a node of its own that has not set up logging gets errors and events instead of these lines on stderr,
log.addHandler(logging.NullHandler())
# but for what nothing else tells it.
_to_every_app = logging.getLogger("handoff_actors.actors.node.workers")

#: Lines of one kind that may come at once, and per second.
BURST: Final = 100
RATE: Final = 5.0
_MOST_OF_REASON: Final = 500
#: Whoever says nothing else only looks at the cluster.
_LOOKS: Final = (Goodbye, ListMembers, ListRuns)
#: Names that the commands of ours introduce themselves by begin so.
COMMAND: Final = "handoff "


class _Peer(Struct):
    name: str
    #: It is the app of this process, to which its own node is no news.
    is_own: bool = False
    #: The peer has come for more than a look.
    has_come: bool = False


class _LoggedRun(Struct):
    """A run that is open, and what this node has reported of it."""

    dag_name: str
    owner: str
    opened_at: float
    #: Its app has this node as its own.
    is_own: bool
    #: Of the lines about it: less if it is its app's own, or if there are many runs.
    level: int
    done: int = 0
    failed: int = 0


class SparingLog:
    """Lets some lines through, and counts the others."""

    def __init__(self) -> None:
        self._bucket = TokenBucket(BURST, RATE, clock())
        self._left_out = 0

    def admit(self) -> dict[str, int] | None:
        """Return the further fields of a line that is to be written; None for one that is left out."""
        if not self._bucket.take(1, clock()):
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        return {"left_out": left_out} if left_out else {}


class NodeLog:
    """Writes the log of one node."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._peers: dict[PeerId, _Peer] = {}
        self._runs: dict[RunId, _LoggedRun] = {}
        self._run_lines = SparingLog()
        self._failure_lines = SparingLog()

    def told(self, effect: LogEffect) -> None:
        """The node's machine has something to log."""
        match effect:
            case LogRunOpened():
                self._run_opened(effect)
            case LogDeath():
                self._worker_died(effect)
            case LogRetirement(worker, reason):
                _to_every_app.warning(
                    "worker retired", extra={"node": self._node, "worker": worker, "reason": reason}
                )
            case LogSpill():
                self._spilled(effect)
            case _:
                assert_never(effect)

    # --- Peers

    def peer_connected(self, peer: PeerId, name: str, *, is_own: bool = False) -> None:
        """A peer has said Hello; `is_own`: it is in this process."""
        self._peers[peer] = _Peer(name, is_own)

    def peer_said(self, peer: PeerId, message: object) -> None:
        """A peer has said something else."""
        known = self._peers.get(peer)
        if known is not None and not known.has_come and not isinstance(message, _LOOKS):
            known.has_come = not (known.is_own or known.name.startswith(COMMAND))
            if known.has_come:
                log.info("peer came", extra={"node": self._node, "peer": known.name, "id": peer.hex()})

    def peer_gone(self, peer: PeerId, reason: str) -> None:
        """A peer has left, or is lost for a reason."""
        known = self._peers.pop(peer, _Peer(""))
        # Each look at the cluster is a peer that comes and leaves.
        level = logging.INFO if known.has_come else logging.DEBUG
        fields = {"node": self._node, "peer": known.name, "id": peer.hex()}
        if reason:
            log.log(level, "peer lost", extra=fields | {"reason": reason})
        else:
            log.log(level, "peer left", extra=fields)

    def name_of(self, peer: PeerId) -> str:
        """The name that a peer has introduced itself by; "" if it has not."""
        known = self._peers.get(peer)
        return "" if known is None else known.name

    def unsendable(self, peer: PeerId, reason: str) -> None:
        """A message to a peer is too large for a frame."""
        log.warning("unsendable", extra={"node": self._node, "peer": self.name_of(peer), "reason": reason})

    # --- Runs

    def _run_opened(self, opened: LogRunOpened) -> None:
        is_own = any(peer.is_own and peer.name == opened.owner for peer in self._peers.values())
        admitted = None if is_own else self._run_lines.admit()
        level = logging.DEBUG if admitted is None else logging.INFO
        self._runs[opened.run] = _LoggedRun(opened.dag_name, opened.owner, clock(), is_own, level)
        if log.isEnabledFor(level):
            log.log(level, "run opened", extra=self._of_run(opened.run) | (admitted or {}))

    def reported(self, message: FromNode) -> None:
        """The node reports attempts to their run."""
        if isinstance(message, Completed):
            run = self._runs.get(message.run)
            if run is not None:
                run.done += len(message.done)
        elif isinstance(message, Failed):
            self._failed(message)

    def _failed(self, failed: Failed) -> None:
        run = self._runs.get(failed.run)
        if run is not None:
            run.failed += 1
        is_own = run is not None and run.is_own
        admitted = {} if is_own else self._failure_lines.admit()
        if admitted is not None:
            fields = {
                "function": failed.index,
                "attempt": failed.attempt,
                "kind": failed.kind,
                "reason": shortened(failed.reason, _MOST_OF_REASON),
                "ran_s": round(failed.ran_s, 3),
            }
            level = logging.DEBUG if is_own else logging.INFO
            log.log(level, "attempt failed", extra=self._of_run(failed.run) | fields | admitted)

    def run_closed(self, run: RunId) -> None:
        """Nothing of a run is left here."""
        fields = self._of_run(run) if log.isEnabledFor(logging.INFO) else {}
        closed = self._runs.pop(run, None)
        if closed is None or not log.isEnabledFor(closed.level):
            return
        figures = {
            "done": closed.done,
            "failed": closed.failed,
            "seconds": round(clock() - closed.opened_at, 3),
        }
        log.log(closed.level, "run closed", extra=fields | figures)

    def _of_run(self, run: RunId) -> dict[str, object]:
        known = self._runs.get(run)
        named = {} if known is None else {"dag": known.dag_name, "app": known.owner}
        return {"node": self._node, "run": f"{run:016x}", **named}

    # --- Workers and values

    def _worker_died(self, death: LogDeath) -> None:
        end = death.end
        fields: dict[str, object] = {"node": self._node, "worker": end.worker}
        if end.signal is not None:
            fields["signal"] = _signal_name(end.signal)
        else:
            fields["exit_code"] = end.exit_code
        if end.traces.peak_nbytes:
            fields["peak_nbytes"] = end.traces.peak_nbytes
        if end.traces.memory_was_short:
            fields["out_of_memory"] = True
        if death.held:
            run, ticket = death.held[0]
            fields |= self._of_run(run) | {"function": ticket.index, "attempt": ticket.attempt}
            fields["held"] = len(death.held)
        if death.ran_s is not None:
            fields["ran_s"] = round(death.ran_s, 3)
        if death.reason:
            log.warning("worker killed", extra=fields | {"reason": death.reason})
        else:
            log.warning("worker died", extra=fields)

    def _spilled(self, spill: LogSpill) -> None:
        fields = {"node": self._node, "held_nbytes": spill.held_nbytes, "limit_nbytes": spill.limit_nbytes}
        match spill.change:
            case "begun":
                log.info("spill begun", extra=fields)
            case "ended":
                moved = {"values": spill.values, "nbytes": spill.nbytes, "seconds": round(spill.seconds, 1)}
                log.info("spill ended", extra=fields | moved)
            case "refused":
                log.error("disk takes no more values", extra=fields | {"reason": spill.reason})


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
