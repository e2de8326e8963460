"""Exceptions as bytes, with the exceptions that they are linked to, and with their tracebacks as text.

An exception, its causes, its contexts and the members of groups make up a table, each of them pickled by itself. So one
that can't be pickled or unpickled, or that exits or loops when it is, costs nothing but itself: a RemoteError stands for it.
Most are sent in parts, see `wire.exception_parts`; a class that has a way of its own to be pickled is sent in that way, once
that was seen to work. Code that is not known to be harmless is called under a time limit, here and where it arrives.
"""

import os
import pickle
import traceback
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import partial
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final, NamedTuple

import cloudpickle

from handoff_actors import errors as own_errors
from handoff_actors.attributes import own_attribute
from handoff_actors.errors import HandoffError, RemoteError, RemoteTraceback, SerializationError
from handoff_actors.text import (
    MOST_OF_REASON,
    MOST_OF_TRACEBACK,
    MOST_OF_VALUE,
    encodable,
    shortened,
    str_of,
    type_name_of,
)
from handoff_actors.wire.code.by_value_pickler import PROTOCOL
from handoff_actors.wire.exception_parts import (
    ExceptionParts,
    UnsentPart,
    add_note,
    cause_of,
    context_of,
    fields_of,
    group_made,
    made,
    members_of,
    message_of,
    parts_of,
    pickles_itself,
    restore,
    set_links,
    suppresses_context,
)
from handoff_actors.wire.payload import Payload, decode, encode
from handoff_actors.wire.time_limit import CallFailed, run_within_limit

#: Bytes of an exception, with all that it is linked to, that is sent as it is; of what goes beyond only the text is sent.
MOST_OF_EXCEPTION_NBYTES: Final = 4 * 2**20
#: Exceptions that are sent with one. Those that are linked most closely go first.
MOST_LINKED: Final = 1000
#: Values of these types run no user's code when they are pickled or unpickled; nor do a few of them in a container.
_SCALARS: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
_CONTAINERS: Final = frozenset({tuple, list, dict})
_MOST_MEMBERS: Final = 100
_MOST_DEPTH: Final = 5
_NONE: Final = -1
#: Directories of code whose frames say nothing of a user's program.
_OURS: Final = tuple(
    f"{PurePath(module.__file__).parent}{os.sep}" for module in (own_errors, cloudpickle) if module.__file__
)


class _Form(IntEnum):
    """The way in which an exception is sent."""

    #: Its text alone: a RemoteError stands for it.
    TEXT = 0
    #: In parts.
    PARTS = 1
    #: As its class pickles it.
    OWN = 2


class _Record(NamedTuple):
    """An exception of a table. Positions in the table are -1 for none."""

    type_name: str
    message: str
    #: Notes that are text.
    notes: list[str]
    form: int = _Form.TEXT
    #: Its class, encoded, if it is in parts.
    kind: bytes = b""
    #: Its parts, or all of it.
    state: bytes = b""
    #: True if loading it runs no code of a user, but for the import of its class.
    is_harmless: bool = True
    #: The message of a group, and the positions of its members; no members: it is none.
    title: str = ""
    members: Sequence[int] = ()
    cause: int = _NONE
    context: int = _NONE
    suppresses_context: bool = False


class _TooLarge(Exception):
    def __init__(self, nbytes: int) -> None:
        super().__init__(nbytes)
        self.nbytes = nbytes


# --- Encoding ---------------------------------------------------------------------------------------------------------


def encode_exception(error: BaseException, *, is_users: bool = True) -> bytes:
    """Encode an exception, with its traceback as text. One that does not survive pickling is sent as RemoteError.

    The text shows frames of this package only if the exception is not a user's, but a bug, and there are no others.
    Never raises, and the bytes are few, whatever the exception does and holds.
    """
    rows = [tuple(record) for record in _Table(error).records()]
    return pickle.dumps((_traceback_text(error, is_users=is_users), rows), PROTOCOL)


class _Table:
    """An exception and those that it is linked to, by their positions."""

    def __init__(self, error: BaseException) -> None:
        self._errors = [error]
        self._positions = {id(error): 0}
        # The list grows meanwhile.
        for known in self._errors:
            if issubclass(type(known), SerializationError):
                # Its text says what has led to it.
                continue
            self._add(cause_of(known))
            self._add(context_of(known))
            for member in members_of(known):
                self._add(member)
        self._kinds: dict[type, bytes] = {}
        self._spare_nbytes = MOST_OF_EXCEPTION_NBYTES

    def _add(self, error: BaseException | None) -> None:
        # The text of a traceback is within the text of the traceback that is sent.
        if error is None or type(error) is RemoteTraceback or id(error) in self._positions:
            return
        if len(self._errors) < MOST_LINKED:
            self._positions[id(error)] = len(self._errors)
            self._errors.append(error)

    def records(self) -> list[_Record]:
        """Encode all of them."""
        records = list(map(self._record, self._errors))
        return records[:1] + [
            record._replace(message=shortened(record.message, MOST_OF_VALUE)) for record in records[1:]
        ]

    def _record(self, error: BaseException) -> _Record:
        record = _Record(type_name_of(error), _text_of(error), _notes_of(error))
        try:
            record = self._surviving(error, record)
        except _TooLarge as large:
            hint = f"(only this text is sent: the exception itself has {large.nbytes:,} bytes)"
            record = record._replace(message=f"{record.message} {hint}")
        except BaseException:  # noqa: BLE001, S110 - users' exceptions raise what they like: the text is left
            pass
        self._spare_nbytes -= len(record.state)
        return record._replace(
            cause=self._position(cause_of(error)),
            context=self._position(context_of(error)),
            suppresses_context=suppresses_context(error),
        )

    def _surviving(self, error: BaseException, record: _Record) -> _Record:
        """Give the record with what the exception can be made of again. Raises what users' code raises."""
        if not pickles_itself(type(error)):
            return self._in_parts(error, record)
        state = self._bounded(encode(error, None))
        own = record._replace(form=_Form.OWN, state=state, is_harmless=False)
        text = self._text_of_copy(own)
        if text == record.message:
            return own
        # The class calls a constructor that has to have something else, or that makes the text once more.
        in_parts = self._in_parts(error, record)
        return own if text is not None and self._text_of_copy(in_parts) != record.message else in_parts

    def _in_parts(self, error: BaseException, record: _Record) -> _Record:
        kind, parts = type(error), parts_of(error)
        if isinstance(error, BaseExceptionGroup):
            positions = [self._position(member) for member in members_of(error)]
            known = [position for position in positions if position != _NONE]
            record = record._replace(title=message_of(error), members=known)
            if len(known) < len(positions):
                _note(parts, f"{len(positions) - len(known):,} more of its exceptions were left out")
        record = record._replace(
            form=_Form.PARTS,
            kind=self._kind(kind),
            state=self._bounded(self._parts_encoded(parts)),
            is_harmless=type(kind) is type and self._is_harmless(parts),
        )
        if not record.is_harmless and self._text_of_copy(record) is None:
            raise ValueError("it can't be loaded")
        return record

    def _kind(self, kind: type) -> bytes:
        # The same bytes for all of a class, which are pickled once then.
        if kind not in self._kinds:
            self._kinds[kind] = self._bounded(encode(kind, None))
            self._spare_nbytes -= len(self._kinds[kind])
        return self._kinds[kind]

    def _parts_encoded(self, parts: ExceptionParts) -> Payload:
        try:
            return encode(parts, None, self._reference)
        except SerializationError:
            args, *fields = parts
            sent = [{name: self._sent(part) for name, part in by_name.items()} for by_name in fields]
            return encode((tuple(map(self._sent, args)), *sent), None, self._reference)

    def _sent(self, part: object) -> object:
        try:
            encode(part, None, self._reference)
        except SerializationError:
            return UnsentPart.of(part)
        return part

    def _reference(self, part: object) -> int | None:
        """Give the position of an exception that is there before its parts are."""
        position = self._positions.get(id(part))
        if (
            position is None
            or issubclass(type(part), BaseExceptionGroup)
            or pickles_itself(type(self._errors[position]))
        ):
            return None
        return position

    def _position(self, error: BaseException | None) -> int:
        return self._positions.get(id(error), _NONE)

    def _bounded(self, state: Payload) -> bytes:
        if state.nbytes > self._spare_nbytes:
            raise _TooLarge(state.nbytes)
        return state.to_bytes()

    def _text_of_copy(self, record: _Record) -> str | None:
        """Give the text of what is made of a record; None if that raises. Raises CallFailed if it does worse."""
        try:
            return run_within_limit(partial(self._loaded_text, record))
        except CallFailed as failed:
            error = failed.__cause__
            reason = error.__cause__ if isinstance(error, SerializationError) else error
            if isinstance(reason, Exception) and not isinstance(reason, RecursionError | MemoryError):
                return None
            raise

    def _loaded_text(self, record: _Record) -> str:
        return _text_of(_completed(_begun(record, self._errors), record, self._errors))

    def _is_harmless(self, value: Any, depth: int = 0) -> bool:
        """True if no code of a user is called when a value is pickled or unpickled."""
        kind = type(value)
        if kind in _SCALARS or self._reference(value) is not None:
            return True
        if kind not in _CONTAINERS or depth == _MOST_DEPTH or len(value) > _MOST_MEMBERS:
            return False
        members = (*value, *value.values()) if kind is dict else value
        return all(self._is_harmless(member, depth + 1) for member in members)


def _note(parts: ExceptionParts, note: str) -> None:
    _, _, own = parts
    notes = own.get("__notes__", [])
    own["__notes__"] = [*notes, note] if type(notes) is list else [note]


# --- Decoding ---------------------------------------------------------------------------------------------------------


def decode_exception(data: bytes) -> BaseException:
    """Decode an exception with those that it is linked to; at the end of its causes is a RemoteTraceback.

    A RemoteError stands for each that cannot be unpickled here, or not within two seconds.
    """
    text, rows = decode(data)
    return _TableLoading([_Record(*row) for row in rows]).linked(text)


def loads_at_once(data: bytes) -> bool:
    """True if decoding an exception calls no code that might take long."""
    _, rows = decode(data)
    return all(_Record(*row).is_harmless for row in rows)


class _TableLoading:
    """Makes the exceptions of a table."""

    def __init__(self, records: Sequence[_Record]) -> None:
        self._records = records
        self._is_late = False
        #: Each of them is a stand-in unless it can be made.
        self._errors: list[BaseException] = [
            RemoteError(record.type_name, record.message) for record in records
        ]

    def linked(self, text: str) -> BaseException:
        """Make all of them, and give the first one; `text` is its traceback."""
        singles = [position for position, record in enumerate(self._records) if not record.members]
        # Each is there before the parts of any, which may refer to it.
        for position in [position for position in singles if self._make(position, self._begin)]:
            self._make(position, self._complete)
        self._make_groups()
        for error, record in zip(self._errors, self._records, strict=True):
            self._link(error, record)
        return self._rooted(RemoteTraceback(text.rstrip()))

    def _make_groups(self) -> None:
        """Make groups after their members, of which some may be groups."""
        waiting = {position for position, record in enumerate(self._records) if record.members}
        before = -1
        while len(waiting) != before:
            before = len(waiting)
            # Mostly members come later than their group.
            for position in sorted(waiting, reverse=True):
                if waiting.isdisjoint(self._records[position].members):
                    waiting.remove(position)
                    if self._make(position, self._begin):
                        self._make(position, self._complete)

    def _begin(self, position: int) -> BaseException:
        return _begun(self._records[position], self._errors)

    def _complete(self, position: int) -> BaseException:
        return _completed(self._errors[position], self._records[position], self._errors)

    def _make(self, position: int, step: Callable[[int], BaseException]) -> bool:
        """Take a step in making an exception. False if there is only a stand-in for it."""
        record = self._records[position]
        if record.form == _Form.TEXT or (self._is_late and not record.is_harmless):
            return False
        work = partial(step, position)
        try:
            self._errors[position] = work() if record.is_harmless else run_within_limit(work)
        except Exception as failed:  # noqa: BLE001 - a user's class raises what it likes
            self._is_late |= isinstance(failed, CallFailed) and failed.__cause__ is None
            self._errors[position] = RemoteError(record.type_name, record.message)
            return False
        return True

    def _link(self, error: BaseException, record: _Record) -> None:
        cause, context = (
            None if position == _NONE else self._errors[position]
            for position in (record.cause, record.context)
        )
        set_links(error, cause, context, suppresses_context=record.suppresses_context)
        for note in record.notes:
            add_note(error, note)

    def _rooted(self, trace: RemoteTraceback) -> BaseException:
        """Give the first exception, the traceback at the end of its causes, which may go in a circle."""
        last, seen = self._errors[0], {id(self._errors[0])}
        while (cause := cause_of(last)) is not None and id(cause) not in seen:
            last = cause
            seen.add(id(last))
        set_links(last, trace, context_of(last), suppresses_context=True)
        return self._errors[0]


def _begun(record: _Record, errors: Sequence[BaseException]) -> BaseException:
    """Make an exception without state; one of its class's own making has it already. Raises what users' code raises."""
    if record.form == _Form.OWN:
        loaded = decode(record.state)
        if not isinstance(loaded, BaseException):
            raise TypeError("it is no exception any more")
        return loaded
    kind = decode(record.kind)
    if record.members:
        return group_made(kind, record.title, [errors[member] for member in record.members])
    return made(kind)


def _completed(error: BaseException, record: _Record, errors: Sequence[BaseException]) -> BaseException:
    """Give an exception its state. Raises what users' code raises."""
    if record.form == _Form.PARTS:
        restore(error, decode(record.state, errors))
    return error


# --- Text -------------------------------------------------------------------------------------------------------------


def describe_exception(error: BaseException) -> str:
    """Return the type and the text of an exception as Python prints them, shortened, to be sent. Never raises."""
    try:
        text = "".join(traceback.format_exception_only(error)).strip()
    except BaseException:  # noqa: BLE001 - users' exceptions raise what they like, also when they are asked for notes
        text = f"{type_name_of(error)}: {_text_of(error)}"
    return encodable(shortened(text, MOST_OF_REASON))


def _text_of(error: BaseException) -> str:
    try:
        return str_of(error, MOST_OF_TRACEBACK)
    except KeyboardInterrupt:
        return "(its text is unavailable: str raises KeyboardInterrupt)"


def _notes_of(error: BaseException) -> list[str]:
    notes = fields_of(error).get("__notes__")
    if type(notes) is not list:
        return []
    return [shortened(note, MOST_OF_VALUE) for note in notes[:_MOST_MEMBERS] if type(note) is str]


def _traceback_text(error: BaseException, *, is_users: bool) -> str:
    try:
        told = traceback.TracebackException(type(error), error, user_part(error.__traceback__), compact=True)
        _leave_out_our_frames(told, all_of_them=is_users or issubclass(type(error), HandoffError))
        parts = (shortened(part, MOST_OF_TRACEBACK) for part in told.format())
        return shortened("".join(parts), MOST_OF_TRACEBACK)
    except BaseException:  # noqa: BLE001 - users' exceptions raise what they like, also when they are asked for notes
        frames = "".join(traceback.format_tb(user_part(own_attribute(error, "__traceback__"))))
        text = f"Traceback (most recent call last):\n{frames}{describe_exception(error)}"
        return shortened(text, MOST_OF_TRACEBACK)


def _leave_out_our_frames(told: traceback.TracebackException, *, all_of_them: bool) -> None:
    """Leave out the frames of this package in all tracebacks that will be printed; those without any other, on demand."""
    # It has no circles.
    pending = [told]
    while pending:
        found = pending.pop()
        users = [frame for frame in found.stack if not frame.filename.startswith(_OURS)]
        if users:
            found.stack[:] = users
        elif all_of_them:
            # With an empty stack a headline would be printed.
            found.stack = None  # type: ignore[assignment]
        linked = (found.__cause__, found.__context__, *(found.exceptions or ()))
        pending += [other for other in linked if other is not None]


def user_part(trace: TracebackType | None) -> TracebackType | None:
    """Drop the frames that lead to the user's own, unless there are no others."""
    step = trace
    while step is not None and step.tb_frame.f_globals.get("__name__", "").startswith(
        ("handoff_actors.", "asyncio.")
    ):
        step = step.tb_next
    return step or trace
