"""Objects of `multiprocessing` within values: proxies of a manager travel with their key, all others are refused.

A proxy, such as `Manager().Queue()`, pickles as the address of its manager, without the key that the manager asks for: a
process pool's children have inherited that. Workers have not, so the key goes along. Pickles travel only where they may be
trusted, within this machine or encrypted, and each of them could as well bring code.

Nothing here imports `multiprocessing`: a program that has not done so has no such objects.
"""

import sys
from typing import Any, Final

#: Pickles with one of these names are made again, object by object.
MARKS: Final = (b"RebuildProxy", b"multiprocessing.connection")
#: In the errors of locks, queues and shared values.
_INHERITED: Final = "through inheritance"
WAYS: Final = "pass what a multiprocessing.Manager() makes in its place, such as Manager().Queue(), or have the function return values"


class _Adoption:
    """True in workers: the key of a proxy becomes the process's own."""

    is_on = False


def adopt_keys() -> None:
    """Take the keys of proxies that come in for the process's own, as if it had inherited them.

    Proxies within what a manager says come without a key.
    """
    _Adoption.is_on = True


def may_be_there() -> bool:
    """True if values may have such objects at all."""
    return "multiprocessing.connection" in sys.modules


def reduce_object(value: object) -> Any:
    """Reduce an object of multiprocessing; NotImplemented for any other. Raises TypeError for what can't travel."""
    kind = type(value)
    managers: Any = sys.modules.get("multiprocessing.managers")
    if managers is not None and issubclass(kind, managers.BaseProxy):
        proxy: Any = value
        rebuild, arguments, *rest = proxy.__reduce__()
        if rebuild is not managers.RebuildProxy:
            return rebuild, arguments, *rest
        return rebuilt_proxy, (*arguments, bytes(proxy._authkey))  # noqa: SLF001 - multiprocessing has no public way
    if managers is not None and issubclass(kind, managers.BaseManager):
        raise TypeError(
            f"a manager serves one process; pass what it makes, such as {kind.__name__}().Queue(), in its place"
        )
    connection: Any = sys.modules["multiprocessing.connection"]
    if issubclass(kind, connection._ConnectionBase):  # noqa: SLF001 - as above
        # It would be the number of a descriptor of this process, and close whatever has that number elsewhere.
        raise TypeError(f"a Connection is good in its own process and in forks of it; {WAYS}")
    return NotImplemented


def rebuilt_proxy(kind: Any, token: Any, serializer: str, options: dict[str, Any], key: bytes) -> Any:
    """Make a proxy that has been sent. Raises ConnectionError, LookupError if its manager, or the object there, is gone."""
    from multiprocessing import AuthenticationError, managers, process  # noqa: PLC0415 - few programs need it

    if _Adoption.is_on:
        process.current_process().authkey = key
    try:
        return managers.RebuildProxy(kind, token, serializer, {**options, "authkey": key})  # type: ignore[attr-defined]
    except managers.RemoteError as error:
        raise LookupError(
            "a multiprocessing manager has dropped an object whose proxy was sent: keep a proxy of it until functions that take"
            " it have ended"
        ) from error
    except (OSError, EOFError, AuthenticationError) as error:
        where = (
            "it listens in a directory of the machine where it was started: run the function there, or give the manager an"
            " address that nodes reach, SyncManager(address=(host, port), authkey=...)"
            if isinstance(token.address, str | bytes)
            else "is it running, and does it listen at an address of its machine that nodes reach?"
        )
        raise ConnectionError(
            f"the multiprocessing manager at {token.address!r} can't be reached from here ({type(error).__name__}: {error});"
            f" {where}"
        ) from error


def advice_on(error: BaseException) -> str:
    """Say what to do about an object that can't be pickled, where it is one of multiprocessing's; else ""."""
    return f"; {WAYS}" if type(error) is RuntimeError and _INHERITED in str(error) else ""
