"""The words of running functions that an app wants to have. Workers send nothing else."""

from msgspec import Struct


class Listening(Struct, frozen=True):
    """The kinds of words that nodes are to send; each template says so."""

    #: Printed output, and log records from this level on; None: neither.
    log_level: int | None = None
    #: Values that functions emit.
    values: bool = False
    #: The progress of functions.
    progress: bool = False
    #: Digests of what graphs are made of that functions return.
    digests: bool = False


SILENT = Listening()
