"""Advice for functions that try to change an argument which they share with others, and which is read-only therefore."""

from typing import Final

from handoff_actors.wire.exception_parts import add_note, args_of, cause_of, context_of

#: In the errors of memoryviews, numpy, pandas, Cython and functions of C that want a buffer to write to.
_MARKS: Final = ("read-only", "read-write bytes-like object", "not writable", "WRITEABLE flag")
#: Not OSError, which tells of read-only files, nor AttributeError, of attributes.
_KINDS: Final = (ValueError, TypeError, BufferError, RuntimeError)
#: Errors that have led to one are looked at, too.
_MOST_LINKED: Final = 10
_ADVICE: Final = (
    "arrays, frames and memoryviews that a function is given are read-only, as others share their memory; to change one, copy it"
    " first: x = x.copy(), or x = bytearray(x) for a memoryview"
)


def advise_on_read_only(raised: BaseException) -> None:
    """Add a note to an error about something read-only, or to the error that has led to it."""
    error: BaseException | None = raised
    for _ in range(_MOST_LINKED):
        if error is None:
            return
        if issubclass(type(error), _KINDS) and _is_about_read_only(error):
            add_note(error, _ADVICE)
            return
        error = cause_of(error) or context_of(error)


def _is_about_read_only(error: BaseException) -> bool:
    # The text of an exception with large arguments would take seconds.
    args = args_of(error)
    return len(args) == 1 and type(args[0]) is str and any(mark in args[0] for mark in _MARKS)
