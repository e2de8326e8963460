"""Values that raise wherever they are asked, and functions that meet them: for tests of what users' objects can do."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

#: What no Python object prevents a method of its own from raising.
ERRORS: dict[str, Callable[[], BaseException]] = {
    "error": lambda: RuntimeError("no"),
    "exit": lambda: SystemExit(3),
    "cancel": asyncio.CancelledError,
    "close": GeneratorExit,
    "recursion": RecursionError,
    "surrogate": lambda: ValueError("data\udcff.csv"),
}


def fail(kind: str) -> NoReturn:
    """Raise an error of a kind."""
    error = ERRORS[kind]()
    raise error


class Large(str):
    """A text that is not shown when a test fails."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Large({len(self)})"


class Hostile:
    """An object of which some methods raise."""

    def __init__(self, methods: frozenset[str], kind: str) -> None:
        self.__dict__.update(methods=methods, kind=kind)

    def _meet(self, method: str) -> None:
        own = self.__dict__
        if method in own.get("methods", ()):
            fail(own["kind"])

    def __repr__(self) -> str:
        self._meet("repr")
        return "Hostile"

    def __str__(self) -> str:
        self._meet("str")
        return "Hostile"

    def __eq__(self, other: object) -> bool:
        self._meet("eq")
        return self is other

    def __hash__(self) -> int:
        self._meet("hash")
        return 5

    def __getattr__(self, name: str) -> Any:
        self._meet("getattr")
        raise AttributeError(name)

    def __reduce__(self) -> Any:
        self._meet("reduce")
        if "load" in self.__dict__["methods"]:
            return fail, (self.__dict__["kind"],)
        return Hostile, (self.__dict__["methods"], self.__dict__["kind"])


METHODS = ("repr", "str", "eq", "hash", "getattr", "reduce", "load")


class HostileError(Exception):
    """An exception that does what another object does."""

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        return repr(self.value)

    def __reduce__(self) -> Any:
        return HostileError, (self.value,)


class LoopsInApp(Exception):
    """An exception that loads in workers, and for ever in the app."""

    def __init__(self, app: int) -> None:
        super().__init__("loops in the app")
        self.app = app

    def __reduce__(self) -> Any:
        return _loop_in, (self.app,)


def _loop_in(app: int) -> LoopsInApp:
    while os.getpid() == app:
        pass
    return LoopsInApp(app)


def raise_looping(app: int) -> NoReturn:
    """Raise an exception that loops when the app loads it."""
    raise LoopsInApp(app)


def same(*values: Any, **_: Any) -> Any:
    """Return the first argument."""
    return values[0] if values else None


async def same_later(*values: Any, **_: Any) -> Any:
    """Return the first argument, as a coroutine."""
    await asyncio.sleep(0)
    return values[0] if values else None


def raise_text(value: Any, *_: Any, **__: Any) -> NoReturn:
    """Raise an exception of a text, or of anything else."""
    raise ValueError(value)


async def raise_text_later(value: Any, *_: Any, **__: Any) -> NoReturn:
    """Raise an exception of a text, as a coroutine."""
    raise ValueError(value)


def raise_hostile(value: Any, *_: Any, **__: Any) -> NoReturn:
    """Raise an exception that does what its argument does."""
    raise HostileError(value)


async def raise_hostile_later(value: Any, *_: Any, **__: Any) -> NoReturn:
    """Raise an exception that does what its argument does, as a coroutine."""
    raise HostileError(value)


def say(value: Any, *_: Any, **__: Any) -> int:
    """Print and log anything, as far as it has a text."""
    sys.stderr.write(str(value))
    print(value)
    logging.getLogger(str(value)[:100]).warning("%s", value)
    return 1


def log_hostile(value: Any, *_: Any, **__: Any) -> int:
    """Log anything, in right and in wrong ways."""
    logger = logging.getLogger("plain")
    logger.warning("%s", value)
    logger.warning(value)
    logger.warning("%d", value)
    logger.warning("%s %s", value)  # noqa: PLE1206 - that is what is tested
    return 1


def variables() -> dict[str, str]:
    """Return the environment."""
    return dict(os.environ)


def working_dir() -> bytes:
    """Return the working directory, as the operating system has it."""
    return os.getcwdb()  # noqa: PTH109 - a Path has no bytes
