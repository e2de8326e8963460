"""Finds the large parts that constants of a plan have in common, so that each is encoded, sent and stored once.

A part is an object among the extra_args or kwargs themselves, or a buffer anywhere within them, such as an array's memory.
Parts are the same by identity, which holds while they are alive, and within one encoding of one plan: values may change
afterwards.
"""

import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from itertools import combinations
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from handoff_actors.errors import SerializationError
from handoff_actors.graph.placing import Placeholder
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.payload import Payload, encode
from handoff_actors.wire.placeholders import position_of_placeholder

if TYPE_CHECKING:
    from handoff_actors.ids import Index

#: Objects of these types are never large.
_SMALL: Final = frozenset({int, float, complex, bool, type(None), type})
#: Objects of these types are as large as they are long.
_FLAT: Final = frozenset({bytes, bytearray, str})

#: Objects of these types, and of subclasses of `_FIXED`, can't be changed, or are the same for all.
_UNCHANGEABLE: Final = _SMALL | {bytes, str, tuple, frozenset, range, slice, pickle.PickleBuffer}
_FIXED: Final = (type, FunctionType, BuiltinFunctionType, ModuleType, Enum)

ConstantsSpec = tuple[tuple[object, ...], dict[str, object]]
#: Keeps an encoded part in the app, and gives a reference to it.
KeepPart = Callable[[bytes], Ref]


class SharedParts:
    """The parts of a plan's constants that are kept for themselves."""

    def __init__(self, constants: Sequence[ConstantsSpec], limit_nbytes: int, keep: KeepPart) -> None:
        """Look among `constants` for objects that several have; parts of `limit_nbytes` or less are not shared."""
        self._limit_nbytes = limit_nbytes
        self._keep = keep
        #: Objects that several constants have, and that may be large: for `keep_object`, before all else.
        self.candidates = _repeated(constants, limit_nbytes) if len(constants) > 1 else []
        #: By id of the object.
        self._objects: dict[int, Ref] = {}
        #: By index of the part: objects within it, by id. They are kept alive, so that no other object gets their id.
        self._members: dict[Index, dict[int, object]] = {}
        #: By place in memory. The views keep the memory alive, so that no other buffer gets its place.
        self._views: dict[tuple[int, int], memoryview] = {}
        self._occurrences: Counter[tuple[int, int]] = Counter()
        self._buffers: dict[tuple[int, int], Ref] = {}

    def keep_object(self, part: object) -> None:
        """Keep one of the candidates for itself, if it is large and can be encoded."""
        members: dict[int, object] = {}

        def note(inner: object) -> None:
            if may_change(inner):
                members[id(inner)] = inner

        try:
            payload = encode(part, position_of=note)
        except SerializationError:
            # The constants will say so, and name the function.
            return
        if payload.nbytes > self._limit_nbytes:
            ref = self._objects[id(part)] = self._keep(payload.to_bytes())
            self._members[ref.index] = members

    @property
    def keeps_objects(self) -> bool:
        """True if any object is kept for itself."""
        return bool(self._objects)

    def has_objects(self, constants: ConstantsSpec) -> bool:
        """True if an object among these is kept for itself."""
        extra_args, kwargs = constants
        return any(id(part) in self._objects for part in (*extra_args, *kwargs.values()))

    def note_buffers(self, payload: Payload) -> bool:
        """Take note of the large buffers of encoded constants. False if there are none."""
        views = [buffer for buffer in payload.buffers if isinstance(buffer, memoryview)]
        places = {_place(view): view for view in views if view.nbytes > self._limit_nbytes}
        for place, view in places.items():
            self._views.setdefault(place, view)
            self._occurrences[place] += 1
        return bool(places)

    def may_have_parts(self, payload: Payload) -> bool:
        """True if a part of encoded constants may be kept for itself. To be asked once all are noted."""
        return bool(self._objects) or any(
            self._occurrences[_place(buffer)] > 1
            for buffer in payload.buffers
            if isinstance(buffer, memoryview)
        )

    def ref(self, part: object) -> Ref | None:
        """Return a reference to an object, or a buffer, that is kept for itself; None for all others."""
        if isinstance(part, pickle.PickleBuffer):
            return self._buffer(part)
        return self._objects.get(id(part))

    def are_entangled(self, refs: Sequence[Ref], others: Iterable[int]) -> bool:
        """True if one of these parts has an object in common with another one, or with `others`, by their ids."""
        members = [self._members[ref.index] for ref in refs if ref.index in self._members]
        return any(other in inner for other in others for inner in members) or any(
            not one.keys().isdisjoint(other) for one, other in combinations(members, 2)
        )

    def _buffer(self, buffer: pickle.PickleBuffer) -> Ref | None:
        try:
            view = buffer.raw()
        except BufferError:
            # It is not contiguous: the pickler says so, too.
            return None
        place = _place(view)
        if self._occurrences[place] < 2:  # noqa: PLR2004 - shared means two
            return None
        if place not in self._buffers:
            self._buffers[place] = self._keep(encode(view).to_bytes())
        return self._buffers[place]


class TakenOut:
    """The parts that are left out of the constants of one function."""

    def __init__(self, shared: SharedParts) -> None:
        self._shared = shared
        self._positions: dict[Index, int] = {}
        #: The objects that are not left out, by id.
        self._left: dict[int, object] = {}
        self.parts: list[Ref] = []

    def position_of(self, part: object) -> int | None:
        """Leave a part out, if it is kept for itself or a placeholder; see `wire.pickling.PositionOf`."""
        if type(part) is Placeholder:
            return position_of_placeholder(part)
        ref = self._shared.ref(part)
        if ref is None:
            if may_change(part):
                self._left[id(part)] = part
            return None
        position = self._positions.setdefault(ref.index, len(self.parts))
        if position == len(self.parts):
            self.parts.append(ref)
        return position

    @property
    def are_entangled(self) -> bool:
        """True if something is in several parts, or in one and in the rest: the function has to get it as one object."""
        return self._shared.are_entangled(self.parts, self._left)


def may_change(part: object) -> bool:
    """True if a function could change an object, and so notice whether it has it once or twice."""
    kind = type(part)
    # Types that nobody has thought of are taken to be changeable: their objects are sent with what refers to them.
    if kind in _UNCHANGEABLE or issubclass(kind, _FIXED):
        return False
    numpy: Any = sys.modules.get("numpy")
    return numpy is None or not issubclass(kind, (numpy.dtype, numpy.generic))


def _repeated(constants: Sequence[ConstantsSpec], limit_nbytes: int) -> list[object]:
    """Objects that several constants have and that may be large."""
    seen: set[int] = set()
    repeated: dict[int, object] = {}
    for extra_args, kwargs in constants:
        for part in (*extra_args, *kwargs.values()) if kwargs else extra_args:
            kind = type(part)
            if kind in _SMALL or (kind in _FLAT and len(part) <= limit_nbytes):  # type: ignore[arg-type]
                continue
            if id(part) in seen:
                repeated[id(part)] = part
            seen.add(id(part))
    return list(repeated.values())


def _place(view: memoryview) -> tuple[int, int]:
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return id(view.obj), view.nbytes
    return numpy.frombuffer(view, numpy.uint8).__array_interface__["data"][0], view.nbytes
