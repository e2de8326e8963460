"""Exponentially weighted moving averages, as functions: they are called for every function of a run.

An object with a method would cost one more call each time, or one more attribute on the way to the number.
"""

from typing import Final

#: The peak average of nothing: before the first, anything may take as long as can be.
UNKNOWN: Final = float("inf")


def smoothed(average: float | None, latest: float, weight: float) -> float:
    """Move an average towards the latest number, by this share of the distance. None: there is no average yet."""
    return latest if average is None else average + weight * (latest - average)


def peak_smoothed(average: float, latest: float, weight: float) -> float:
    """Follow the latest number at once upwards, and by this share of the distance downwards. UNKNOWN: no average yet.

    Source: peak EWMA, as Finagle's load balancer keeps of latencies.
    """
    return latest if latest > average or average == UNKNOWN else average + weight * (latest - average)
