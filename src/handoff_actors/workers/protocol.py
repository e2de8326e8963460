"""What node, zygote and workers say to one another: MessagePack lists that start with one of these numbers.

On a worker's data channel messages follow one another without a frame; the zygote's channel keeps packets apart.
"""

from enum import IntEnum
from typing import Final

#: Bytes asked for in one read. A buffer of 256 KiB is beyond malloc's threshold for mapping, and cost 20 µs a read.
READ_NBYTES: Final = 64 * 1024
#: The unit of ru_maxrss.
KIBIBYTE: Final = 1024
#: How many pieces of code a worker keeps for runs to come; the pool counts along, so that it knows which.
CODES_KEPT: Final = 256
#: And so many bytes of it: what a function captures is part of its code.
CODES_KEPT_NBYTES: Final = 64 * 1024 * 1024


class ToWorker(IntEnum):
    """Said to a worker."""

    #: run, number, digest, by_reference, code (None: the worker has it), as_list, whether memory is claimed, log level (None:
    #: no output goes home), environment (None: the process's own) as (variables, directory or "", index of the stored
    #: archive or None)
    DEFINE = 1
    #: run, jobs as in `wire.messages`
    RUN = 2
    #: run: its templates are not needed any more
    FORGET = 3
    #: devices, as CUDA_VISIBLE_DEVICES shows them to the jobs that follow, or None
    EXPOSE = 4
    #: give back what has not started; a sync worker hears it as a byte on its control channel instead
    RECALL = 5
    #: run, index, attempt; async workers only
    CANCEL = 6


class FromWorker(IntEnum):
    """Said by a worker."""

    #: pid; before anything else
    UP = 0
    #: run, rows of (index, attempt, encoded value or bytes stored, seconds)
    DONE = 1
    #: run, index, attempt, kind, encoded exception, reason, seconds, peak of the worker's memory, what was printed
    FAILED = 2
    #: rows of (run, index, attempt)
    RECALLED = 3
    #: rows of (run, index, attempt, dropped lines) of functions that have printed; what they have is on the node's pipe
    PRINTED = 4


class ToZygote(IntEnum):
    """Said to the zygote."""

    #: worker; with its ends of its channels: data and control, or data alone for an async worker
    SPAWN = 1
    #: worker
    KILL = 2


class FromZygote(IntEnum):
    """Said by the zygote."""

    #: worker, signal, exit code, peak of its memory in bytes, what it printed last
    EXITED = 1


class SaidTag(IntEnum):
    """How a part of what a function says starts; see `wire.messages`. On the pipe: run, part."""

    #: index, attempt, whether to stderr, text
    PRINTED = 5
    #: index, attempt, and the fields of a log record
    LOGGED = 6
    #: index, attempt, lines
    DROPPED = 7


class ArgumentTag(IntEnum):
    """How an argument of a job starts that is not an encoded value; see `wire.messages`."""

    REF = 1
    CALL = 2
    TEXT = 3
    EARLIER = 4
