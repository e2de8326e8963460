"""Calls that take results of other calls: arguments that are futures, each replaced by its result in the app."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from types import FunctionType
from typing import Any, Final

from handoff_actors.integrations.call_queue import Item
from handoff_actors.report.naming import code_name

_FUTURES: Final = (Future, asyncio.Future)
_ADVICE: Final = "pass a concurrent.futures.Future as an argument by itself, pass future.result(), or make both calls functions of a DAG"


class _Chained:
    """A call that waits for its arguments. Futures keep it; the call itself is let go as soon as it waits no more."""

    __slots__ = ("item", "missing")

    def __init__(self, item: Item, missing: int) -> None:
        self.item: Item | None = item
        self.missing = missing


class ChainedCalls:
    """Calls whose arguments are futures that are not done. Its methods may be called in any thread."""

    def __init__(self, ready: Callable[[Item], None], changed: Callable[[], None]) -> None:
        """`ready` gets each call that has all of its arguments; `changed` is called when there are fewer."""
        self._ready = ready
        self._changed = changed
        self._lock = threading.Lock()
        self._waiting: dict[_Chained, Item] = {}
        #: Calls of which an argument has no result, each with the future that was to give it.
        self._refused: list[tuple[Item, Future[Any]]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting or self._refused)

    def add(self, item: Item, inputs: Iterable[Future[Any]]) -> None:
        """Take a call, with the futures among its arguments."""
        distinct = set(inputs)
        chained = _Chained(item, len(distinct))
        with self._lock:
            self._waiting[chained] = item
        item.future.add_done_callback(partial(self._cancelled, chained))
        for future in distinct:
            future.add_done_callback(partial(self._input_done, chained))

    def end_refused(self) -> None:
        """End the calls of which an argument has failed, or was cancelled, in the same way."""
        # Not within the end of the argument: a long chain of calls would end within one another.
        while refused := self._take_refused():
            for item, future in refused:
                if future.cancelled():
                    item.future.cancel()
                if item.future.set_running_or_notify_cancel():
                    item.fail(future.exception() or AssertionError("the argument has a result"))

    def take(self) -> list[Item]:
        """Take all calls, which are to be ended."""
        with self._lock:
            items = [*self._waiting.values(), *(item for item, _ in self._refused)]
            for chained in self._waiting:
                chained.item = None
            self._waiting.clear()
            self._refused.clear()
        return items

    def _take_refused(self) -> list[tuple[Item, Future[Any]]]:
        with self._lock:
            refused, self._refused = self._refused, []
        return refused

    def _input_done(self, chained: _Chained, future: Future[Any]) -> None:
        has_result = not future.cancelled() and future.exception() is None
        with self._lock:
            chained.missing -= 1
            item = chained.item
            if item is None or (has_result and chained.missing):
                return
            self._leave(chained)
            if not has_result:
                self._refused.append((item, future))
        if has_result:
            item.args = tuple(map(_result_of, item.args))
            item.kwargs = {name: _result_of(value) for name, value in item.kwargs.items()}
            self._ready(item)
        else:
            self._changed()

    def _cancelled(self, chained: _Chained, future: Future[Any]) -> None:
        with self._lock:
            if chained.item is None:
                return
            self._leave(chained)
        # concurrent.futures.wait learns of a cancelled future only in this way.
        future.set_running_or_notify_cancel()
        self._changed()

    def _leave(self, chained: _Chained) -> None:
        del self._waiting[chained]
        chained.item = None


def futures_among(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Future[Any]]:
    """Return the arguments that are futures."""
    found = [value for value in args if _is_future(value)]
    if kwargs:
        found += [value for value in kwargs.values() if _is_future(value)]
    return found


def _is_future(value: Any) -> bool:
    # Not `isinstance`, which asks the user's object for its class.
    return issubclass(type(value), Future)


def _result_of(value: Any) -> Any:
    return value.result() if _is_future(value) else value


def explained(error: BaseException, item: Item) -> BaseException:
    """Return the error of a call that can't be sent, or a clearer one where an argument holds a future."""
    if not _holds_future((item.args, item.kwargs)):
        return error
    told = TypeError(f"an argument of {code_name(item.fn)} holds a future: {_ADVICE}")
    told.__cause__ = error
    return told


def check_captures(fn: Callable[..., object]) -> None:
    """Raise TypeError if a function captures a future: its copy in a worker would never be done."""
    if _holds_future(_captured(fn)):
        raise TypeError(f"{code_name(fn)} captures a future: {_ADVICE}")


def _captured(fn: Callable[..., object]) -> list[object]:
    if isinstance(fn, partial):
        return [fn.args, fn.keywords, *_captured(fn.func)]
    cells = (fn.__closure__ or ()) if isinstance(fn, FunctionType) else ()
    return [cell.cell_contents for cell in cells if hasattr(cell, "cell_contents")]


def _holds_future(value: object) -> bool:
    pending, entered = [value], set[int]()
    while pending:
        member = pending.pop()
        if issubclass(type(member), _FUTURES):
            return True
        if isinstance(member, list | tuple | set | frozenset | dict) and id(member) not in entered:
            entered.add(id(member))
            pending += [*member.keys(), *member.values()] if isinstance(member, dict) else member
    return False
