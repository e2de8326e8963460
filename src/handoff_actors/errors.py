"""Everything that can go wrong, by name; each error carries the facts as fields."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from handoff_actors.escaping import escape_name, escape_text
from handoff_actors.ids import FunctionId, Resources


class HandoffError(Exception):
    """What every error of this library derives from. All of them can be pickled, with their fields.

    As text, an error does nothing to a terminal that shows it, whatever a function or a node has said. Fields hold what
    was said as it was.
    """

    def __str__(self) -> str:
        return escape_text(super().__str__())

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[HandoffError], args: tuple[object, ...], fields: dict[str, object]) -> HandoffError:
    # Constructors take the fields and make the message of them; here both are there already.
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


def reason_of(error: OSError) -> str:
    """What an operating system error says, with the path that it is about: "Permission denied: /run/x"."""
    said = error.strerror or str(error)
    return said if error.filename is None else f"{said}: {os.fsdecode(error.filename)}"


class DagError(HandoffError, ValueError):
    """The graph itself is wrong; nothing has run."""


class MissingFunctionError(DagError):
    """A function takes from, or is collocated with, an id that the DAG does not have."""

    def __init__(
        self, function_id: FunctionId, missing_id: FunctionId, role: str = "takes the result of"
    ) -> None:
        super().__init__(
            f"function {function_id!r} {role} {missing_id!r}, which is not in the DAG; add it or correct the id"
        )
        #: The function that names it.
        self.function_id = function_id
        #: The id that the DAG does not have.
        self.missing_id = missing_id


class CycleError(DagError):
    """Functions wait for one another."""

    def __init__(self, cycle: Sequence[FunctionId]) -> None:
        super().__init__("functions wait for one another: " + " -> ".join(map(repr, cycle)))
        #: Their ids in order, the first one again at the end.
        self.cycle = list(cycle)


class DuplicateFunctionError(DagError):
    """The DAG already has a function of that id."""

    def __init__(self, function_id: FunctionId) -> None:
        super().__init__(f"the DAG already has a function {function_id!r}; ids are unique within a DAG")
        #: The id that is there already.
        self.function_id = function_id


class InvalidFunctionError(DagError):
    """A function has what it may not have, or lacks what it needs."""

    def __init__(self, function_id: FunctionId, reason: str) -> None:
        super().__init__(f"function {function_id!r}: {reason}")
        #: The function that is refused.
        self.function_id = function_id
        #: What is wrong with it.
        self.reason = reason


class AllocationError(HandoffError):
    """No node that is known could ever run the function, and none joined in time."""

    def __init__(
        self,
        function_id: FunctionId,
        need: Resources,
        offers: Mapping[str, Resources],
        reason: str,
    ) -> None:
        offered = "; ".join(
            f"{escape_name(name)} offers {dict(offer)}" for name, offer in sorted(offers.items())
        )
        super().__init__(f"function {function_id!r} {reason}. The nodes there are: {offered or 'none'}")
        #: The function that nothing can run.
        self.function_id = function_id
        #: What it claims: cpu in cores, memory in MB, gpu in devices, others in units of their own.
        self.need = dict(need)
        #: What each node offers, by name.
        self.offers = {name: dict(offer) for name, offer in offers.items()}
        #: Why that is not enough.
        self.reason = reason


class FunctionFailed(HandoffError):
    """A function raised, or its worker died, once more than it may. `__cause__` is the user's own exception.

    All of it is about the last attempt, whose number is `attempts`.
    """

    def __init__(
        self,
        function_id: FunctionId,
        node: str,
        attempts: int,
        reason: str,
        signal: int | None = None,
        exit_code: int | None = None,
        *,
        kind: str = "exception",
        peak_memory_mb: float | None = None,
        memory_was_short: bool = False,
        printed: str = "",
    ) -> None:
        peak = "" if peak_memory_mb is None else f"; its worker had {peak_memory_mb:.0f} MB of memory at most"
        short = "; the machine was short of memory" if memory_was_short else ""
        said = f"; the last that it printed:\n{printed}" if printed else ""
        super().__init__(
            f"function {function_id!r} failed on node {node!r} after {attempts} attempt(s): {reason}{peak}{short}{said}"
        )
        #: The function that failed.
        self.function_id = function_id
        #: The name of the node where it did.
        self.node = node
        #: How often it was sent out.
        self.attempts = attempts
        #: What happened, for people.
        self.reason = reason
        #: The number of the signal that ended its worker; None if none did.
        self.signal = signal
        #: The status with which its worker ended by itself; None if it did not.
        self.exit_code = exit_code
        #: "exception", "timeout", "worker" (it died), "store" (no room for the result) or "memory" (it used too much).
        self.kind = kind
        #: The most memory that its worker has ever had, in MB; None where that is not known.
        self.peak_memory_mb = peak_memory_mb
        #: Whether the machine had less than 5 % of its memory left, or the kernel has ended processes for want of it.
        self.memory_was_short = memory_was_short
        #: The last lines that it printed, on either stream.
        self.printed = printed


class WorkerDied(FunctionFailed):
    """The worker that ran the function died, again and again. `signal` or `exit_code` says how, the last time."""


class SerializationError(HandoffError):
    """A function, an argument or a result cannot be turned into bytes, or back."""

    def __init__(self, message: str, function_id: FunctionId = None) -> None:
        super().__init__(message)
        #: Whose code, argument or result it is; None where that is not known.
        self.function_id = function_id


class EnvironmentFailed(HandoffError):
    """A node can't give a function the environment that it asks for, as a rule because it lacks the directory."""

    def __init__(self, function_id: FunctionId, node: str, reason: str) -> None:
        super().__init__(f"function {function_id!r} on node {node!r}: {reason}")
        self.function_id = function_id
        self.node = node
        self.reason = reason


class NodeLost(HandoffError):
    """A node that is needed, and that nothing can stand in for, has gone."""

    def __init__(self, node: str, message: str) -> None:
        super().__init__(f"node {node!r}: {message}")
        #: Its name.
        self.node = node


class RunTimeout(HandoffError, TimeoutError):
    """The run did not end within its `timeout`, in seconds; it has been cancelled everywhere."""

    def __init__(self, timeout: float, unfinished: int) -> None:
        super().__init__(
            f"the run did not end within {timeout:g} s: {unfinished} function(s) were unfinished"
        )
        #: What it was allowed, in seconds.
        self.timeout = timeout
        #: How many functions were not done.
        self.unfinished = unfinished


class JournalError(HandoffError):
    """A journal can't be read or written. A run whose journal can't be written ends with this."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"journal {str(path)!r}: {reason}")
        #: Its file.
        self.path = path
        #: What is wrong with it.
        self.reason = reason


class VersionMismatch(HandoffError):
    """Two members cannot work together. Both sides' versions are in the message."""


class AuthenticationError(HandoffError):
    """The other side does not hold the same cluster key as this one, or only one of them holds a key."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"the node at {escape_name(address)} and this process don't hold the same cluster key: {reason}. "
            "Give all members of a cluster the same --key-file, HANDOFF_KEY or Session(key=...)"
        )
        #: Where the other side is.
        self.address = address
        #: How that showed.
        self.reason = reason


class InvalidKeyError(HandoffError, ValueError):
    """A cluster key is none, others can read or change its file, or a user has no place for a key of its own. None is quoted."""


class ConnectionFailed(HandoffError, ConnectionError):
    """Nobody answered at an address."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"no node answered at {escape_name(address)}: {reason}")
        #: Where one was looked for.
        self.address = address
        #: What was found instead.
        self.reason = reason


class RemoteProtocolError(HandoffError):
    """A peer said something that is not in the protocol."""


class RemoteTraceback(Exception):
    """The traceback of an exception that was raised in another process, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        #: As Python prints it.
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{escape_text(self.text)}"""'


class RemoteError(HandoffError):
    """Stands for an exception of a user's that could not be pickled."""

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(f"{type_name}: {message}")
        #: The name of its type.
        self.type_name = type_name
        #: What it said.
        self.message = message


class InsecureAddressError(HandoffError):
    """A node was to listen where other machines can reach it, with nothing to tell friend from foe."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"refusing to listen at {escape_name(address)}: whoever can reach that port could run any code as this user. "
            "Give all members a cluster key, which `handoff keygen` makes (--key-file, HANDOFF_KEY, Session(key=...)). "
            "Without one listen on 127.0.0.1, or insist with --insecure where everybody on the network is trusted"
        )
        #: Where it was to listen.
        self.address = address
