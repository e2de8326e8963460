"""Large parts of a value are not copied on their way into its pickle, and memoryviews have a way at all."""

import ctypes
import functools
import re
import sys
from typing import Any

import cloudpickle
import numpy as np
import pytest

from handoff_actors.errors import SerializationError
from handoff_actors.wire import pickling
from handoff_actors.wire.code import by_value_pickler
from handoff_actors.wire.payload import Sealed, decode, encode, encode_code, load_code
from handoff_actors.wire.pickling import BULKY_NBYTES, has_code, pickled

BULK = b"b" * BULKY_NBYTES
TEXT = "t" * BULKY_NBYTES


@pytest.mark.parametrize(
    "value", [BULK, [1, BULK], (BULK,), {"key": BULK}, [BULK, np.ones(9)], bytearray(BULK)]
)
def test_large_bytes_are_in_the_payload_themselves(value: Any) -> None:
    payload = encode(value)

    assert any(piece is BULK or piece is value for piece in payload.buffers)
    assert str(decode(payload.to_bytes())) == str(value)


@pytest.mark.parametrize("value", [TEXT, [TEXT], {1: TEXT}, ([BULK], 1), {"first": BULK, "again": BULK}])
def test_values_with_large_parts_come_back_equal(value: Any) -> None:
    assert decode(encode(value).to_bytes()) == value


def test_name_within_large_bytes_is_no_reason_to_pickle_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickling, "ByValuePickler", None)

    assert pickled(b"__main__" + BULK)[0]


def test_class_of_main_beside_large_bytes_travels_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine:
        pass

    Mine.__module__, Mine.__qualname__ = "__main__", "Mine"
    pieces, _ = pickled([BULK, Mine])

    assert cloudpickle.loads(b"".join(pieces))[1].__name__ == "Mine"


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"bytes"),
        memoryview(BULK),
        memoryview(bytearray(b"abcdefgh")).cast("i"),
        memoryview(b"abcdefgh").cast("B", (2, 4)),
        memoryview(b"abcdefgh")[::2],
        np.arange(6.0).reshape(2, 3).T.data,
        memoryview(b""),
    ],
    ids=["bytes", "large", "integers", "table", "every other", "transposed", "empty"],
)
def test_memoryview_comes_back_equal_and_read_only(view: memoryview) -> None:
    encoded = encode({"view": view}).to_bytes()

    arrived = decode(encoded)["view"]

    assert (arrived.tolist(), arrived.format, arrived.shape) == (view.tolist(), view.format, view.shape)
    assert arrived.readonly


#: By name: the format that a view of it has, and its shape.
_ARRAYS = {
    "empty": np.zeros(0),
    "no rows": np.zeros((0, 3)),
    "no columns": np.zeros((3, 0)),
    "no dimension": np.array(5.0),
    "big-endian": np.arange(5, dtype=">f8"),
    "records": np.ones(3, [("a", "i4"), ("b", "f4", (2, 2)), ("c", [("d", "U3")])]),
    "aligned records": np.ones(3, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "half": np.ones(3, "f2"),
    "long double": np.ones((2, 3), "longdouble"),
    "complex": np.ones(3, "c8"),
    "bool": np.ones(3, bool),
    "text": np.array(["abc", "d"]),
    "bytes": np.array([b"abc", b"d"]),
    "every other, big-endian": np.arange(12, dtype=">i2").reshape(3, 4)[::2, ::-2],
    "in the order of Fortran": np.asfortranarray(np.ones((2, 3), "f2")),
}


@pytest.mark.parametrize("kind", _ARRAYS)
def test_memoryview_of_any_array_comes_back_with_its_format(kind: str) -> None:
    array: Any = _ARRAYS[kind]
    view = memoryview(array)

    arrived = decode(encode(view).to_bytes())

    assert (arrived.tobytes(), arrived.format, arrived.shape) == (view.tobytes(), view.format, view.shape)
    assert np.array_equal(np.asarray(arrived), array)
    assert arrived.readonly


class _Record(ctypes.Structure):
    _fields_ = (("number", ctypes.c_int), ("pointer", ctypes.c_void_p))


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (memoryview(np.array([None, 1])), "Python objects has only their addresses: pass a list of them"),  # type: ignore[arg-type]
        (
            memoryview((_Record * 2)()),
            "can't be made elsewhere: pass the object",
        ),
    ],
    ids=["objects", "pointers"],
)
def test_memoryview_that_cannot_be_made_elsewhere_says_what_to_pass(view: memoryview, reason: str) -> None:
    with pytest.raises(SerializationError, match=rf"value\[0\] of type memoryview .*{re.escape(reason)}"):
        encode([view])


def test_memoryview_of_a_rare_format_needs_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    view = memoryview(np.ones(3, "f2"))  # type: ignore[arg-type]
    encoded = encode(view).to_bytes()
    monkeypatch.setitem(sys.modules, "numpy", None)

    with pytest.raises(SerializationError, match=r"format 'e' and shape \(3,\) can't be sent without numpy"):
        encode(view)
    with pytest.raises(SerializationError, match="numpy"):
        decode(encoded)
    assert decode(encode(memoryview(bytes(4)).cast("h")[:0]).to_bytes()).format == "h"


def test_memoryview_is_neither_copied_on_its_way_out_nor_in() -> None:
    view = memoryview(bytearray(BULK))
    payload = encode(view)
    encoded = payload.to_bytes()

    arrived = decode(encoded)

    assert np.shares_memory(np.asarray(payload.buffers[-1]), np.asarray(view))
    assert np.shares_memory(np.asarray(arrived), np.frombuffer(encoded, np.uint8))


@pytest.mark.parametrize("beside", ["", "__main__"], ids=["plain", "by value"])
def test_reducers_say_how_objects_of_their_type_are_pickled(beside: str) -> None:
    pieces, buffers = pickled(
        [np.ones(9), np.float64(2), beside], {np.ndarray: lambda array: (len, (array.tolist(),))}
    )

    assert cloudpickle.loads(b"".join(pieces)) == [9, 2, beside]
    assert buffers == []


def scaled(factor: int) -> Any:
    return lambda number: number * factor


@pytest.mark.parametrize(
    "value", [scaled(2), [{"f": scaled(2)}], Sealed.of(scaled(3))], ids=["code", "within", "sealed"]
)
def test_code_by_value_is_seen_in_a_pickle(value: Any) -> None:
    assert has_code(encode(value).to_bytes())


@pytest.mark.parametrize("value", [len, 1, [BULK], functools.partial(int, base=2), cloudpickle.dumps])
def test_pickles_without_code_are_for_any_python(value: Any) -> None:
    assert not has_code(encode(value).to_bytes())


def test_code_of_another_python_is_refused_and_both_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_value_pickler, "PYTHON", "3.99")
    _, by_reference, code = encode_code(scaled(2))
    value = encode([scaled(2)]).to_bytes()
    monkeypatch.undo()

    for load in (lambda: load_code(by_reference, code), lambda: decode(value)):
        with pytest.raises(SerializationError) as caught:
            load()
        assert "code that was pickled by value with Python 3.99, and this is Python 3." in str(caught.value)
        assert "VersionMismatch" not in str(caught.value)


def test_code_is_found_in_a_mapped_pickle_too() -> None:
    pieces, _ = pickled(lambda: None)
    encoded = b"".join(bytes(piece) for piece in pieces)

    assert has_code(encoded)
    assert has_code(memoryview(encoded))
    assert not has_code(memoryview(b"plain"))
