"""Reports of workers about attempts that ended well, as parts of messages of the wire."""

from typing import Final

import msgspec

from handoff_actors.wire.messages.jobs import Additions, Done
from handoff_actors.workers.protocol import FromWorker, JobsDone

_decode_additions: Final = msgspec.msgpack.Decoder(Additions).decode


def entries_of(message: JobsDone) -> list[Done]:
    """Make the entries of a report."""
    return [
        Done(index, attempt, value, pid, ran_s, _decode_additions(growth) if growth else None)
        for index, attempt, value, pid, ran_s, growth in message.rows
    ]


def merge_done(messages: list[FromWorker]) -> list[FromWorker]:
    """Join reports of one run that follow one another."""
    if len(messages) == 1:
        return messages
    merged: list[FromWorker] = []
    for message in messages:
        last = merged[-1] if merged else None
        if isinstance(message, JobsDone) and isinstance(last, JobsDone) and message.run == last.run:
            merged[-1] = JobsDone(message.run, [*last.rows, *message.rows])
        else:
            merged.append(message)
    return merged
