"""The pauses before something is tried again that has failed."""

from typing import Final, TypeAlias

#: The first pause in seconds, the factor from one to the next, and the longest in seconds.
Backoff: TypeAlias = tuple[float, float, float]
NO_BACKOFF: Final[Backoff] = (0.0, 1.0, 0.0)


def pause_s(backoff: Backoff, failures: int, number: int) -> float:
    """The pause in seconds after so many failures: exponential, with jitter between half and all of that.

    Source of the jitter: "Exponential Backoff And Jitter" (AWS, 2015), the equal variant; the random part is made from the
    number of what has failed and the count of its failures, so that the same run does the same thing.
    """
    first, factor, longest = backoff
    try:
        pause = min(longest, first * factor ** (failures - 1))
    except OverflowError:
        pause = longest
    jitter = (number * 2654435761 + failures * 40503) % 65536 / 65536
    return pause * (1 + jitter) / 2
