"""Names of code, for people."""

from functools import partial

from handoff_actors.attributes import own_attribute
from handoff_actors.text import str_of


class CodeName:
    """Stands for code that is elsewhere, and of which only the name is known."""

    def __init__(self, name: str) -> None:
        self.__qualname__ = name

    def __call__(self, *_: object) -> object:
        """Raise RuntimeError: the code is not here."""
        raise RuntimeError(f"the code of {self.__qualname__} is where functions run, not here")


def code_name(code: object) -> str:
    """Return the name of a callable, as its author knows it."""
    code = _unwrapped(code)
    return str_of(own_attribute(code, "__qualname__", type(code).__qualname__))


def short_code_name(code: object) -> str:
    """Return the name of a callable without that of the function in which it is defined."""
    return code_name(code).rpartition("<locals>.")[2]


def definition_of(code: object) -> int:
    """Return a number that tells definitions of functions apart while they exist; all closures of one have the same."""
    return id(own_attribute(_unwrapped(code), "__code__"))


def _unwrapped(code: object) -> object:
    code = _unbound(code)
    # Whatever wraps a function may say so, as functools does. A property of that name could run, and raise.
    return _unbound(own_attribute(code, "__dict__", {}).get("__wrapped__", code))


def _unbound(code: object) -> object:
    while isinstance(code, partial):
        code = code.func
    return code
