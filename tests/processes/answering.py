"""Objects that answer to every attribute, as attribute dicts, stubs for remote calls and frozen exceptions do."""

from typing import Any


class AttributeDict(dict[str, Any]):
    """An attribute that is missing is None."""

    __getattr__ = dict.get
    __setattr__ = dict.__setitem__

    def __call__(self, number: int) -> int:
        return number + 1


class Bunch(dict[str, Any]):
    """A missing attribute is a KeyError."""

    __getattr__ = dict.__getitem__

    def __call__(self, number: int) -> int:
        return number + 1


class Stub:
    """Each attribute is a remote method."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args: (name, args)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Stub, ()

    def __call__(self, number: int) -> int:
        return number + 1


class Broken(Stub):
    """Each attribute is a remote call that fails."""

    def __getattr__(self, name: str) -> Any:
        raise ConnectionError(name)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Broken, ()


OBJECTS: list[Any] = [AttributeDict(rate=0.1), Bunch(rate=0.1), Stub(), Broken()]


class Awaitable:
    """A class is not awaited, even if its instances may be."""

    def __await__(self) -> Any:
        yield


class AnsweringError(Exception):
    """An exception that looks unknown attributes up in what it holds, as clients of HTTP APIs have them."""

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["body"][name]


class FrozenError(Exception):
    """An exception of which nothing can be set."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} can't be set")


def same(value: Any) -> Any:
    return value


async def same_later(value: Any) -> Any:
    return value


def rates() -> list[object]:
    """Use objects that are globals."""
    return [OBJECTS[0].rate, OBJECTS[1].rate, OBJECTS[2].rate()]


def fail(kind: type[Exception], argument: object) -> None:
    raise kind(argument)
