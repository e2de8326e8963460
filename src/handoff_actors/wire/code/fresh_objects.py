"""Objects that code makes anew in each process and that can't be pickled: locks, and what is tied to a thread or a context.

Where a module travels by value, each process gets its own of those among the globals, as it would by an import. Those that
code captures, as a decorator's, are new with what else it captures.
"""

import threading
import weakref
from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar
from typing import Any, Final


def _reduce_lock(_: Any) -> tuple[Any, ...]:
    return threading.Lock, ()


def _reduce_rlock(_: Any) -> tuple[Any, ...]:
    return threading.RLock, ()


def _reduce_context_variable(variable: "ContextVar[Any]") -> tuple[Any, ...]:
    try:
        # In a context where nobody has set it.
        return _context_variable, (variable.name, Context().run(variable.get))
    except LookupError:
        return ContextVar, (variable.name,)


def _context_variable(name: str, default: object) -> "ContextVar[object]":
    return ContextVar(name, default=default)


def _reduce_to_empty(value: Any) -> tuple[Any, ...]:
    return type(value), ()


#: By type: a function that stands in for `__reduce__` of such an object.
FRESH_REDUCERS: Final[Mapping[type, Callable[[Any], Any]]] = {
    type(threading.Lock()): _reduce_lock,
    type(threading.RLock()): _reduce_rlock,
    ContextVar: _reduce_context_variable,
    threading.local: _reduce_to_empty,
    weakref.WeakKeyDictionary: _reduce_to_empty,
    weakref.WeakValueDictionary: _reduce_to_empty,
}
