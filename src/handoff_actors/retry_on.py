"""`retry_on`: which exceptions of a function earn it another try."""

from collections.abc import Callable
from typing import Final

from handoff_actors.text import str_of

#: Exceptions that a second try can't change.
NOT_RETRIED: Final = (
    TypeError,
    NameError,
    AttributeError,
    ImportError,
    SyntaxError,
    NotImplementedError,
    AssertionError,
)

#: Exception classes, as an `except` clause takes them; or a function that is given the exception. None: all exceptions but
#: those in `NOT_RETRIED`.
RetryOn = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], object] | None


def is_retry_on(rule: object) -> bool:
    """Tell whether a rule may be given as `retry_on`."""
    if isinstance(rule, tuple):
        return all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in rule)
    if isinstance(rule, type):
        return issubclass(rule, BaseException)
    return rule is None or callable(rule)


def reason_against_retry(rule: RetryOn, error: BaseException) -> str:
    """Return "" if the rule allows another try after this exception; else why it does not, for people.

    Never raises: a user's rule that does allows no other try.
    """
    kind = type(error).__name__
    if rule is None:
        return f"{kind} is not retried unless retry_on says so" if isinstance(error, NOT_RETRIED) else ""
    if isinstance(rule, type | tuple):
        return "" if isinstance(error, rule) else f"{kind} is not among its retry_on"
    try:
        return "" if rule(error) else "its retry_on is against it"
    except BaseException as raised:  # noqa: BLE001 - users' functions raise what they like, sys.exit() included
        return f"its retry_on raised {type(raised).__name__}: {str_of(raised)}"
