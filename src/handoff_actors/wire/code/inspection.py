"""The code that functions and classes are made of, and the names in it."""

import re
from collections.abc import Iterator
from contextlib import suppress
from types import CodeType, FunctionType
from typing import Any, Final

from handoff_actors.wire.code.functools_objects import LruCacheWrapper

#: Wrappers around wrappers; a circle of them ends here.
_MOST_WRAPPED: Final = 64
_NAME: Final = re.compile(r"[^\W\d]\w*")
_WRAPPERS: Final = frozenset({FunctionType, LruCacheWrapper})


def codes_of(value: Any) -> Iterator[CodeType]:
    """The code of a function, with all that it wraps, or of a class's methods."""
    if issubclass(type(value), type):
        for member in vars(value).values():
            if not issubclass(type(member), type):
                yield from codes_of(member)
        return
    accessors: tuple[Any, ...] = (value.fget, value.fset) if type(value) is property else (value,)
    for accessor in accessors:
        wrapped: Any = accessor.__func__ if type(accessor) in {staticmethod, classmethod} else accessor
        for _ in range(_MOST_WRAPPED):
            if type(wrapped) is FunctionType:
                yield wrapped.__code__
            if type(wrapped) not in _WRAPPERS:
                break
            wrapped = vars(wrapped).get("__wrapped__")


def names_in_annotations(definition: Any) -> set[str]:
    """Give the names in those annotations of a function or class that are text."""
    annotations = vars(definition).get("__annotations__")
    if type(definition) is FunctionType:
        # From Python 3.14 on those that are no text are evaluated here, and may name what was never there.
        with suppress(NameError):
            annotations = definition.__annotations__
    texts = annotations.values() if isinstance(annotations, dict) else ()
    return {name for text in texts if type(text) is str for name in _NAME.findall(text)}


def names_in(code: CodeType) -> Iterator[str]:
    """Yield the names that code uses, with those of functions within it: globals, attributes, and modules that it imports."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)
