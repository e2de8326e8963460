"""Stand-ins for a node's messages that can't be encoded, so that each function's run hears of it and nobody waits for ever.

Text and sizes are made fit to be sent where they are made. This is for what has been overlooked there.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from handoff_actors.text import MOST_OF_REASON, encodable, shortened
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.jobs import NO_TRACES, Dropped
from handoff_actors.wire.messages.runs import Completed, Crashed, Failed, Output, Rejected, WorkerRetired


def instead_of(message: FromNode, error: str) -> Sequence[FromNode]:
    """Return messages that say the same as far as possible: fewer functions each, or less about one. Empty if none can."""
    match message:
        case Completed(run, done, others, fetched):
            if len(done) + len(fetched) > 1 or (done and others):
                alone = [Completed(run, [entry], {}) for entry in done]
                return [*alone, *(Completed(run, [], {}, [entry]) for entry in fetched)]
            return [
                Failed(run, one.index, one.attempt, "serialization", b"", error, None, None, None, one.ran_s)
                for one in done
            ]
        case Output(run, said):
            if len(said) > 1:
                return [Output(run, [part]) for part in said]
            return [
                Output(run, [Dropped(part.index, part.attempt, 1)])
                for part in said
                if not isinstance(part, Dropped)
            ]
        case Failed():
            plain = replace(message, error=b"", reason=_sendable(message.reason), traces=NO_TRACES)
            return [] if plain == message else [plain]
        case Rejected() | Crashed() | WorkerRetired():
            plain_reason = _sendable(message.reason)
            return [] if plain_reason == message.reason else [replace(message, reason=plain_reason)]
        case _:
            return []


def _sendable(text: str) -> str:
    return shortened(encodable(text), MOST_OF_REASON)
