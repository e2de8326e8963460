"""Exceptions as bytes: with their tracebacks as text, and their text alone where they can't be pickled, or are large."""

import pickle
import traceback
from types import TracebackType
from typing import Any, Final

from handoff_actors.attributes import own_attribute
from handoff_actors.errors import RemoteError, RemoteTraceback, SerializationError
from handoff_actors.text import (
    MOST_OF_REASON,
    MOST_OF_TRACEBACK,
    encodable,
    shortened,
    str_of,
    type_name_of,
)
from handoff_actors.wire.code.by_value_pickler import PROTOCOL
from handoff_actors.wire.payload import decode, encode

#: Bytes of an exception that is sent as it is; of a larger one only the text is sent.
MOST_OF_EXCEPTION_NBYTES: Final = 4 * 2**20


def encode_exception(error: BaseException) -> bytes:
    """Encode an exception with its traceback as text. One that does not survive pickling is sent as RemoteError.

    Never raises, and the bytes are few, whatever the exception does and holds.
    """
    message = _text_of(error)
    survivor, nbytes = _survivor(error, message)
    if nbytes:
        message = f"{message} (only this text is sent: the exception itself has {nbytes:,} bytes)"
    return pickle.dumps((type_name_of(error), message, _traceback_text(error), survivor), PROTOCOL)


def describe_exception(error: BaseException) -> str:
    """Return the type and the text of an exception as Python prints them, shortened, to be sent. Never raises."""
    try:
        text = "".join(traceback.format_exception_only(error)).strip()
    except BaseException:  # noqa: BLE001 - users' exceptions raise what they like, also when they are asked for notes
        text = f"{type_name_of(error)}: {_text_of(error)}"
    return encodable(shortened(text, MOST_OF_REASON))


def decode_exception(data: bytes) -> BaseException:
    """Decode an exception, its `__cause__` a RemoteTraceback; give a RemoteError where it cannot be unpickled here."""
    type_name, message, text, survivor = decode(data)
    error: BaseException
    try:
        error = RemoteError(type_name, message) if survivor is None else decode(survivor)
    except SerializationError:
        error = RemoteError(type_name, message)
    # A frozen exception lets nobody set its fields; `raise ... from` does not ask it either.
    BaseException.__setattr__(error, "__cause__", RemoteTraceback(text.rstrip()))
    return error


def _survivor(error: BaseException, message: str) -> tuple[bytes | None, int]:
    """Return the pickled exception if an exception can be unpickled from it, else None; and its size if that is too large."""
    survivor, loaded, nbytes = _round_trip(error)
    if loaded is not None and _text_of(loaded) != message:
        # The constructor makes the text of its argument, and has been given the text.
        other, loaded, _ = _round_trip(_InParts(error))
        if loaded is not None and _text_of(loaded) == message:
            return other, 0
    return survivor, nbytes


def _round_trip(value: object) -> tuple[bytes | None, BaseException | None, int]:
    """Pickle and unpickle an exception: the bytes and the copy, or None if either fails; and the size if it is too large."""
    try:
        payload = encode(value)
        if payload.nbytes > MOST_OF_EXCEPTION_NBYTES:
            return None, None, payload.nbytes
        survivor = payload.to_bytes()
        loaded = decode(survivor)
        is_exception = isinstance(loaded, BaseException)
    except BaseException:  # noqa: BLE001 - users' exceptions raise what they like
        return None, None, 0
    return (survivor, loaded, 0) if is_exception else (None, None, 0)


class _InParts:
    """An exception that is pickled as its parts, and unpickled without its constructor."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        error = self._error
        return rebuild_exception, (type(error), error.args, error.__dict__)


def rebuild_exception(
    kind: type[BaseException], args: tuple[Any, ...], fields: dict[str, Any]
) -> BaseException:
    """Make an exception of its parts."""
    error = kind.__new__(kind, *args)
    BaseException.__setattr__(error, "args", args)
    error.__dict__.update(fields)
    return error


def _text_of(error: BaseException) -> str:
    try:
        return str_of(error, MOST_OF_TRACEBACK)
    except KeyboardInterrupt:
        return "(its text is unavailable: str raises KeyboardInterrupt)"


def _traceback_text(error: BaseException) -> str:
    try:
        parts = traceback.format_exception(type(error), error, user_part(error.__traceback__))
        return shortened("".join(shortened(part, MOST_OF_TRACEBACK) for part in parts), MOST_OF_TRACEBACK)
    except BaseException:  # noqa: BLE001 - users' exceptions raise what they like, also when they are asked for notes
        frames = "".join(traceback.format_tb(user_part(own_attribute(error, "__traceback__"))))
        text = f"Traceback (most recent call last):\n{frames}{describe_exception(error)}"
        return shortened(text, MOST_OF_TRACEBACK)


def user_part(trace: TracebackType | None) -> TracebackType | None:
    """Drop the frames that lead to the user's own, unless there are no others."""
    step = trace
    while step is not None and step.tb_frame.f_globals.get("__name__", "").startswith(
        ("handoff_actors.", "asyncio.")
    ):
        step = step.tb_next
    return step or trace
