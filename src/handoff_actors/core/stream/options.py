"""The settings of a stream."""

from msgspec import Struct

MEGABYTE = 1_000_000


class StreamOptions(Struct, frozen=True):
    """The options of the app for the stream as a whole."""

    #: Items between `push` and whoever takes their results, at most.
    in_flight: int = 64
    #: Bytes of their values on all nodes and in the app together, beyond which only the oldest item goes on.
    in_flight_nbytes: int = 512 * MEGABYTE
    #: Results come in the order in which items were pushed.
    ordered: bool = True
    #: Seconds that a join waits for the rest once the first value of an item is there; None: for as long as it takes.
    join_timeout_s: float | None = None
    #: Further tries of an item whose code has raised, for stages that don't say themselves.
    max_retries: int = 0
    #: Tell of items that fail, and of workers that come and go.
    is_observed: bool = False
