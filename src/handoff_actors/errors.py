"""The errors of this library, which carry the facts as fields."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from handoff_actors.ended_run import EndedRun
from handoff_actors.escaping import escape_name, escape_text
from handoff_actors.failure_story import FailureStory
from handoff_actors.ids import FunctionId, Resources
from handoff_actors.text import exact, named, repr_of

#: Lines of a function's story that its error has as a note.
MOST_LINES_NOTED: Final = 12
NOTHING_HELD: Final[Mapping[str, Sequence[str]]] = MappingProxyType({})


class HandoffError(Exception):
    """The base class of every error of this library. All of them can be pickled, with their fields except for `run`.

    An error's text is harmless to a terminal that shows it, whatever functions and nodes have sent. Fields hold the
    original text.
    """

    #: The run that ended with this error, with its report, its trace, and the results of what was done; None for an error
    #: that ended no run, or came from another process. While it is referred to, nodes keep the results that were not fetched.
    run: EndedRun | None = None

    def __str__(self) -> str:
        return escape_text(super().__str__())

    def __reduce__(self) -> tuple[object, ...]:
        # A run belongs to its process.
        fields = {name: value for name, value in self.__dict__.items() if name != "run"}
        return _restore, (type(self), self.args, fields)


def _restore(kind: type[HandoffError], args: tuple[object, ...], fields: dict[str, object]) -> HandoffError:
    # Constructors make the message from the fields; here both exist already.
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


def reason_of(error: OSError) -> str:
    """Return an operating system error's text, with its path if it has one: "Permission denied: /run/x"."""
    said = error.strerror or str(error)
    return said if error.filename is None else f"{said}: {os.fsdecode(error.filename)}"


class DagError(HandoffError, ValueError):
    """The graph itself is wrong; nothing has run."""


class MissingFunctionError(DagError):
    """A function takes the result of, or is collocated with, an id that the DAG does not have."""

    def __init__(
        self,
        function_id: FunctionId,
        missing_id: FunctionId,
        role: str = "takes the result of",
        where: str = "which is not in the DAG; add it or correct the id",
    ) -> None:
        super().__init__(f"function {repr_of(function_id)} {role} {repr_of(missing_id)}, {where}")
        #: The function that refers to the missing id.
        self.function_id = function_id
        #: The id that the DAG does not have.
        self.missing_id = missing_id


class CycleError(DagError):
    """Functions wait for one another."""

    def __init__(self, cycle: Sequence[FunctionId]) -> None:
        super().__init__("functions wait for one another: " + " -> ".join(map(repr_of, cycle)))
        #: The functions' ids in order, the first one again at the end.
        self.cycle = list(cycle)


class DuplicateFunctionError(DagError):
    """The DAG already has a function of that id."""

    def __init__(self, function_id: FunctionId) -> None:
        super().__init__(
            f"the DAG already has a function {repr_of(function_id)}; ids are unique within a DAG"
        )
        #: The id that the DAG already has.
        self.function_id = function_id


class InvalidFunctionError(DagError):
    """A function has a field that is invalid or not allowed, or lacks one that it needs."""

    def __init__(self, function_id: FunctionId, reason: str) -> None:
        super().__init__(f"function {repr_of(function_id)}: {reason}")
        #: The function that is refused.
        self.function_id = function_id
        #: The reason for refusing it.
        self.reason = reason


class AllocationError(HandoffError):
    """No known node could ever run the function, and no such node joined in time.

    Or the function belongs to a nested run, and needs what functions hold that wait for nested runs, that one included.
    """

    def __init__(
        self,
        function_id: FunctionId,
        need: Resources,
        offers: Mapping[str, Resources],
        reason: str,
        held_by: Mapping[str, Sequence[str]] = NOTHING_HELD,
        leaving: Sequence[str] = (),
        facts: str = "",
    ) -> None:
        offered = "; ".join(
            f"{escape_name(name)}{' leaves, and until then' if name in leaving else ''} offers {dict(offer)}"
            for name, offer in sorted(offers.items())
        )
        super().__init__(
            f"function {named(function_id, facts)} {reason}. The nodes there are: {offered or 'none'}"
        )
        #: The function that no node can run. The text has more about it if another function has added it.
        self.function_id = function_id
        #: The function's claim: cpu in cores, memory in MB, gpu in devices, others in units of their own.
        self.need = dict(need)
        #: Each node's capabilities, by its name.
        self.offers = {name: dict(offer) for name, offer in offers.items()}
        #: Names of the nodes among them that leave the cluster, and start no functions any more.
        self.leaving = list(leaving)
        #: Why these are not enough.
        self.reason = reason
        #: By node: the functions, as `repr` shows their ids, that hold what it needs and wait for runs of their own. They are
        #: ancestors of the function, and others that wait for one another with them. Empty if no nested runs are concerned.
        self.held_by = {name: list(functions) for name, functions in held_by.items()}


class FunctionFailed(HandoffError):
    """A function raised, or its worker died, and no retry was left. `__cause__` is the user's own exception.

    All fields are about the last attempt, whose number is `attempts`, except for `story`, which covers all attempts.
    """

    #: Everything that happened to the function; None if its failure was the first thing to go wrong. The last lines are a
    #: note of the error.
    story: FailureStory | None = None

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
        not_retried: str = "",
        facts: str = "",
    ) -> None:
        tries = f"{attempts} attempt(s)" + (f" ({not_retried})" if not_retried else "")
        circumstances = _circumstances(peak_memory_mb, printed, memory_was_short=memory_was_short)
        what = f"function {named(function_id, facts)} failed on node {node!r}"
        super().__init__(f"{what} after {tries}: {reason}{circumstances}")
        #: The function that failed. The text has more about it if another function has added it.
        self.function_id = function_id
        #: The name of the node where it failed.
        self.node = node
        #: The number of times the function was sent to a node.
        self.attempts = attempts
        #: The reason, for people.
        self.reason = reason
        #: The number of the signal that ended its worker, or the status with which that ended by itself; None for what it was not.
        self.signal, self.exit_code = signal, exit_code
        #: "exception", "timeout", "worker" (died), "store" (no room for it), "memory" (used too much), "deadlock" (nested runs).
        self.kind = kind
        #: The peak memory of its worker, over the worker's life, in MB; None where that is not known.
        self.peak_memory_mb = peak_memory_mb
        #: True if the machine or container had less than 5 % of its memory left, or the kernel has ended processes for want of it.
        self.memory_was_short = memory_was_short
        #: The last lines that the function printed, on either stream.
        self.printed = printed
        #: Why it was not tried again although retries were left, for people; "" where none were.
        self.not_retried = not_retried

    def set_story(self, story: FailureStory) -> None:
        """Set the story, and add its last lines as a note."""
        self.story = story
        latest = str(story).splitlines()[-MOST_LINES_NOTED:]
        self.add_note(
            "\n".join([f"What happened to function {escape_name(repr_of(self.function_id))}:", *latest])
        )


def _circumstances(peak_memory_mb: float | None, printed: str, *, memory_was_short: bool) -> str:
    peak = "" if peak_memory_mb is None else f"; its worker had {peak_memory_mb:.0f} MB of memory at most"
    short = "; the machine or container was short of memory" if memory_was_short else ""
    said = f"; the last that it printed:\n{printed}" if printed else ""
    return f"{peak}{short}{said}"


class WorkerDied(FunctionFailed):
    """The worker that ran the function died, again and again. `signal` or `exit_code` says how, the last time."""


class FunctionCancelled(HandoffError):
    """A function was cancelled before it had a result: through its handle, or because another one's failure ends its run."""

    def __init__(self, function_id: FunctionId) -> None:
        super().__init__(f"function {repr_of(function_id)} was cancelled")
        #: Id of the function.
        self.function_id = function_id


class ValueLost(HandoffError):
    """A value is lost with its node and can't be made again.

    The run has forgotten what it was made from, or it is a value of another run, or one that was put or kept on nodes.
    """

    def __init__(self, function_id: FunctionId, reason: str = "", subject: str = "") -> None:
        why = reason or (
            "no node has it any more, and the run has forgotten what it was made from; values that a long chain of functions"
            " depends on can be kept on nodes by name: await run.keep(handle, name, ttl)"
        )
        super().__init__(f"{subject or f'the value of function {repr_of(function_id)}'} is lost: {why}")
        #: Id of the function that made it; the name of a value that was kept, "" of one that was put.
        self.function_id = function_id


class TooManyFunctions(HandoffError):
    """A function has returned a graph beyond the number of functions that functions may add to a run."""

    def __init__(self, function_id: FunctionId, code: str, limit: int) -> None:
        super().__init__(
            f"function {repr_of(function_id)} ({code}) has returned a Subgraph with which functions would have added more than"
            f" max_functions={limit:,} functions to the run: if it does not go on for ever, run it with a higher max_functions,"
            " an option of execute_distributed and open_run"
        )
        #: Id of the function that grows.
        self.function_id = function_id
        #: Name of its code.
        self.code = code
        #: The bound.
        self.limit = limit


class DependencyFailed(HandoffError):
    """A function did not run, since one that it depends on has failed. `__cause__` is the error of that one."""

    def __init__(self, function_id: FunctionId, failed_id: FunctionId, reason: str) -> None:
        super().__init__(
            f"function {repr_of(function_id)} has no result, since it depends on function {repr_of(failed_id)}, which failed: "
            f"{reason}"
        )
        #: The function that did not run.
        self.function_id = function_id
        #: The function that failed, from which this one's inputs come, perhaps by way of others.
        self.failed_id = failed_id
        #: The type and the first line of that function's error.
        self.reason = reason


class ItemError(HandoffError):
    """An item of a stream has no result. `__cause__` is the user's own exception, where there was one.

    With `errors="yield"` it stands in the place of the result; `call` raises it, and with `errors="raise"` so does iteration.
    """

    def __init__(
        self,
        number: int,
        function_id: FunctionId,
        reason: str,
        kind: str = "exception",
        attempts: int = 1,
        not_retried: str = "",
        node: str = "",
    ) -> None:
        stage = ""
        if function_id is not None:
            rule = f" ({not_retried})" if not_retried else ""
            place = f" on node {node!r}" if node else ""
            stage = f" at function {repr_of(function_id)}{place} after {attempts} attempt(s){rule}"
        remedy = _TO_SEE_IT_DIE if kind == "worker" else ""
        super().__init__(f"item {number} of the stream failed{stage}: {reason}{remedy}")
        #: The number that `push` has returned for it.
        self.number = number
        #: The function that failed; None if the stream itself has given the item up.
        self.function_id = function_id
        #: The name of the node where it failed, the last time; "" if it is not known, or was on none.
        self.node = node
        #: The number of times the function was called for it.
        self.attempts = attempts
        #: As of `FunctionFailed`: "exception", "timeout", "worker" (it died each time), "store" (no room for its result); or
        #: "join_timeout" (not all parts of it came in time), "lost" (with a node), "serialization" (it can't be loaded here).
        self.kind = kind
        #: The reason, for people.
        self.reason = reason
        #: Why it was not tried again although retries were left, for people; "" where none were.
        self.not_retried = not_retried


_TO_SEE_IT_DIE: Final = (
    "; the stream goes on without it: to see the worker die by itself, await handoff.call(code, value)"
)


class SerializationError(HandoffError):
    """A function, an argument or a result cannot be turned into bytes, or back."""

    def __init__(self, message: str, function_id: FunctionId = None) -> None:
        super().__init__(message)
        #: The function that the code, argument or result belongs to; None where that is not known.
        self.function_id = function_id


class UnguardedStart(SerializationError):
    """Code would start a node, a session or a run while it is only being loaded: imported, or unpickled.

    Or a node would be nested too deeply: within a worker of a node that is within a worker, and so on.
    """

    def __init__(self, what: str, reason: str, module: str = "") -> None:
        super().__init__(
            f'{reason}. Put what starts it under `if __name__ == "__main__":`, or into a function: a program that starts itself'
            " in workers does so without end"
        )
        #: The thing that would be started, for people.
        self.what = what
        #: The module, with its file and line; "" if it is not known.
        self.module = module


class UnsupportedPlatform(HandoffError):
    """The operating system lacks what the call needs: nodes and workers need Linux, sessions Linux or macOS."""

    def __init__(self, platform: str, reason: str) -> None:
        super().__init__(f"this is {platform}: {reason}")
        #: The operating system of this process, such as "macOS".
        self.platform = platform
        #: The parts that don't run on it, and what can be done instead.
        self.reason = reason


class EnvironmentFailed(HandoffError):
    """A node can't provide the environment that a function asks for, usually because it lacks the directory."""

    def __init__(self, function_id: FunctionId, node: str, reason: str, facts: str = "") -> None:
        super().__init__(f"function {named(function_id, facts)} on node {node!r}: {reason}")
        self.function_id = function_id
        self.node = node
        self.reason = reason


class NodeLost(HandoffError):
    """A node is gone that the run needs and that no other node can replace."""

    def __init__(self, node: str, message: str) -> None:
        super().__init__(f"node {node!r}: {message}")
        #: The node's name.
        self.node = node


class RunTimeout(HandoffError, TimeoutError):
    """The run did not end within its `timeout`, in seconds; it has been cancelled everywhere."""

    def __init__(self, timeout: float, unfinished: int) -> None:
        super().__init__(
            f"the run did not end within {exact(timeout)} s: {unfinished} function(s) were unfinished"
        )
        #: The run's `timeout`, in seconds.
        self.timeout = timeout
        #: The number of functions that were not done.
        self.unfinished = unfinished


class JournalError(HandoffError):
    """A journal can't be read or written. A run whose journal can't be written ends with this."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"journal {str(path)!r}: {reason}")
        #: The journal's file.
        self.path = path
        #: The reason why it can't be read or written.
        self.reason = reason


class VersionMismatch(HandoffError):
    """Two members cannot work together. Both sides' versions are in the message."""


class AuthenticationError(HandoffError):
    """The other side does not hold the same cluster key as this process, or only one of them holds a key."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"the node at {escape_name(address)} and this process don't hold the same cluster key: {reason}. "
            "Give all members of a cluster the same --key-file, HANDOFF_KEY or Session(key=...)"
        )
        #: The address of the other side.
        self.address = address
        #: The evidence for it.
        self.reason = reason


class InvalidKeyError(HandoffError, ValueError):
    """A cluster key is invalid, others can read or change its file, or there is no place for the user's own key.

    The message never quotes a key.
    """


class InvalidAddressError(HandoffError, ValueError):
    """An address is not one that a node can listen at, or that others can connect to."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"'{escape_name(address)}' is no address: {escape_name(reason)}")
        #: The address as it was given.
        self.address = address
        #: The rule that it breaks.
        self.reason = reason


class ConnectionFailed(HandoffError, ConnectionError):
    """No node answered at an address."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"no node answered at {escape_name(address)}: {reason}")
        #: The address that was tried.
        self.address = address
        #: The reason why no node answered.
        self.reason = reason


class RemoteProtocolError(HandoffError):
    """A peer sent bytes or messages that break the protocol."""


class RemoteTraceback(Exception):
    """The traceback of an exception that was raised in another process, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        #: The traceback, as Python prints it.
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{escape_text(self.text)}"""'


class RemoteError(HandoffError):
    """The stand-in for a user's exception that could not be pickled."""

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(f"{type_name}: {message}")
        #: The name of the exception's type.
        self.type_name = type_name
        #: The exception's message.
        self.message = message


class InsecureAddressError(HandoffError):
    """A node was to listen at an address that other machines can reach, without a key to authenticate them."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"refusing to listen at {escape_name(address)}: whoever can reach that port could run any code as this user. "
            "Give all members a cluster key, which `handoff keygen` makes (--key-file, HANDOFF_KEY, Session(key=...)). "
            "Without one listen on 127.0.0.1, or insist with --insecure where everybody on the network is trusted"
        )
        #: The address at which it was to listen.
        self.address = address
