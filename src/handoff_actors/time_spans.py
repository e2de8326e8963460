"""Spans of time as users write them."""

import math
from contextlib import suppress
from typing import Final

_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_in(option: str, span: object) -> float:
    """Return the seconds in a span of time: a number of seconds, or text such as "30s", "12h" or "7d".

    `option` is the name of what it was given for. Raises ValueError for anything else, and unless it is more than nothing.
    """
    seconds = math.nan
    if isinstance(span, str):
        number, unit = span[:-1], span[-1:]
        with suppress(ValueError):
            seconds = float(number) * _UNITS_S.get(unit, math.nan)
    elif isinstance(span, int | float) and not isinstance(span, bool):
        seconds = float(span)
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(
            f'{option}={span!r}: it is a number of seconds, or text such as "30s", "15m", "12h" or "7d"'
        )
    return seconds


def is_time_span(value: object) -> bool:
    """True if `seconds_in` takes this."""
    try:
        seconds_in("", value)
    except ValueError:
        return False
    return True
