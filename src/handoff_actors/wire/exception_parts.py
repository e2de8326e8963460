"""Exceptions in parts: taken apart and put together again without a call of their constructor.

Python pickles an exception as its class and the arguments to call that with: its `args`, which are what was given to
`BaseException.__init__`, mostly a text. A class whose constructor takes anything else can't be made of that, or makes its
text of the text. So what is here goes by the state alone: `args`, fields of C and of `__slots__`, and the `__dict__`.
"""

import copyreg
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import BuiltinFunctionType, GetSetDescriptorType, MemberDescriptorType, WrapperDescriptorType
from typing import Any, Final, Never

from handoff_actors.errors import HandoffError
from handoff_actors.text import repr_of

_BASE: Final = vars(BaseException)
_GROUP: Final = vars(BaseExceptionGroup)
#: Classes whose fields are links to other exceptions, or are taken along by themselves.
_LINKING: Final = frozenset({BaseException, BaseExceptionGroup, object})
#: CPython's own pickles are without the `obj` of an AttributeError, too: it may be anything.
_NOT_TAKEN: Final = vars(AttributeError)["obj"]
#: Types of fields of C, and of `__slots__`.
_DESCRIPTORS: Final = frozenset({MemberDescriptorType, GetSetDescriptorType})
#: Methods that say how objects of a class are pickled.
_PICKLING: Final = (
    "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__", "__getattribute__",
)  # fmt: skip
#: Whose classes are known to be made of their state.
_KNOWN: Final = ("builtins", "handoff_actors.", "tblib.")

#: args, fields by the names of their descriptors, `__dict__`.
ExceptionParts = tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]


class UnsentPart:
    """Stands for a part of an exception that can't be pickled. It looks as that did."""

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def of(cls, value: object) -> "UnsentPart":
        """Make one of what can't be pickled."""
        return cls(repr_of(value))

    def __repr__(self) -> str:
        return self._text

    def __getattr__(self, name: str) -> Never:
        # Unpickling asks before there is a text.
        raise AttributeError(
            f"no {name!r}: {vars(self).get('_text')} could not be pickled, and has stayed in its worker"
        )


# --- Taking apart -----------------------------------------------------------------------------------------------------


def pickles_itself(kind: type[BaseException]) -> bool:
    """True if a class has a way of its own to be pickled, or is made by the C code of a library."""
    reducer = copyreg.dispatch_table.get(kind)
    if reducer is not None and not _is_known(getattr(reducer, "func", reducer)):
        return True
    for base in kind.__mro__:
        own = vars(base)
        if type(own.get("__new__")) is BuiltinFunctionType and not _is_known(base):
            return True
        if not _is_known(base) and any(name in own for name in _PICKLING):
            return True
    return False


def parts_of(error: BaseException) -> ExceptionParts:
    """Take an exception apart. None of its own methods is called."""
    fields: dict[str, Any] = {}
    for name, descriptor in _descriptors(type(error)):
        # A slot may be empty.
        with suppress(AttributeError):
            value = descriptor.__get__(error)
            # Fields of C begin as None.
            if value is not None or not _is_known(descriptor.__objclass__):
                fields.setdefault(name, value)
    own = dict(fields_of(error))
    if issubclass(type(error), HandoffError):
        # A run belongs to its process.
        own.pop("run", None)
    return args_of(error), fields, own


def args_of(error: BaseException) -> tuple[Any, ...]:
    """Give an exception's `args`; () for a group's if they are its message and its members."""
    args: tuple[Any, ...] = _BASE["args"].__get__(error)
    if not issubclass(type(error), BaseExceptionGroup) or len(args) != len(("message", "members")):
        return args
    message, members = _GROUP["message"].__get__(error), members_of(error)
    is_usual = args[0] is message and type(args[1]) in {list, tuple} and tuple(args[1]) == members
    return () if is_usual else args


def fields_of(error: BaseException) -> dict[str, Any]:
    """Give an exception's `__dict__`."""
    fields: dict[str, Any] = _BASE["__dict__"].__get__(error)
    return fields


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception. A class's own ways are not asked; where it has no list of notes, there is no room."""
    notes = fields_of(error).setdefault("__notes__", [])
    if type(notes) is list and note not in notes:
        notes.append(note)


def message_of(group: BaseExceptionGroup[BaseException]) -> str:
    """Give a group's own message."""
    message: str = _GROUP["message"].__get__(group)
    return message


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """Give the exceptions of a group; of any other exception none."""
    if not issubclass(type(error), BaseExceptionGroup):
        return ()
    members: tuple[BaseException, ...] = _GROUP["exceptions"].__get__(error)
    return members


def cause_of(error: BaseException) -> BaseException | None:
    """Give an exception's `__cause__`."""
    cause: BaseException | None = _BASE["__cause__"].__get__(error)
    return cause


def context_of(error: BaseException) -> BaseException | None:
    """Give an exception's `__context__`."""
    context: BaseException | None = _BASE["__context__"].__get__(error)
    return context


def suppresses_context(error: BaseException) -> bool:
    """True if an exception is shown without its `__context__`."""
    suppresses: bool = _BASE["__suppress_context__"].__get__(error)
    return suppresses


def _descriptors(kind: type[BaseException]) -> Iterator[tuple[str, Any]]:
    for base in kind.__mro__:
        if base in _LINKING:
            continue
        for name, descriptor in vars(base).items():
            if type(descriptor) in _DESCRIPTORS and name != "__weakref__" and descriptor is not _NOT_TAKEN:
                yield name, descriptor


def _is_known(definition: Any) -> bool:
    return str(definition.__module__).startswith(_KNOWN)


# --- Putting together -------------------------------------------------------------------------------------------------


def made(kind: type[BaseException]) -> BaseException:
    """Make an exception without state, and without its class's own `__new__` and `__init__`."""
    error: BaseException = _builtin(kind, "__new__", BuiltinFunctionType)(kind)
    return error


def group_made(
    kind: type[BaseExceptionGroup[BaseException]], message: str, members: Sequence[BaseException]
) -> BaseExceptionGroup[BaseException]:
    """Make a group, likewise, which has its members from the beginning."""
    group: BaseExceptionGroup[BaseException] = BaseExceptionGroup.__new__(kind, message, members)
    return group


def restore(error: BaseException, parts: ExceptionParts) -> None:
    """Give an exception its state. None of its own methods is called."""
    args, fields, own = parts
    kind = type(error)
    if args:
        # Arguments may have been changed, to such as a C constructor would not take.
        with suppress(TypeError, ValueError):
            _builtin(kind, "__init__", WrapperDescriptorType)(error, *args)
        _BASE["args"].__set__(error, args)
    for name, descriptor in _descriptors(kind) if fields else ():
        # Some are for C code alone to change.
        with suppress(AttributeError, TypeError, KeyError):
            descriptor.__set__(error, fields.pop(name))
    fields_of(error).update(own)


def set_links(
    error: BaseException,
    cause: BaseException | None,
    context: BaseException | None,
    *,
    suppresses_context: bool,
) -> None:
    """Link an exception to others. A frozen one, which lets nobody set its fields, is not asked."""
    _BASE["__cause__"].__set__(error, cause)
    _BASE["__context__"].__set__(error, context)
    _BASE["__suppress_context__"].__set__(error, suppresses_context)


def _builtin(kind: type, name: str, wanted: type) -> Any:
    """Find the method of a class that is Python's own."""
    return next(vars(base)[name] for base in kind.__mro__ if type(vars(base).get(name)) is wanted)


# --- Within values ----------------------------------------------------------------------------------------------------


def reduce_exception(error: BaseException) -> tuple[Any, ...]:
    """Reduce an exception to its parts, for pickle."""
    kind = type(error)
    if isinstance(error, BaseExceptionGroup):
        making: tuple[Any, ...] = (group_made, (kind, message_of(error), list(members_of(error))))
    else:
        making = (made, (kind,))
    return *making, parts_of(error), None, None, restore
