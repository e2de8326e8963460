"""Values, code and exceptions survive the way through bytes, and what cannot says why."""

import asyncio
import copyreg
import functools
import itertools
import json.decoder
import math
import mmap
import pickle
import socket
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, strategies as st

from handoff_actors.errors import RemoteError, RemoteTraceback, SerializationError
from handoff_actors.wire import payload
from handoff_actors.wire.exceptions import decode_exception, describe_exception, encode_exception
from handoff_actors.wire.payload import (
    Sealed,
    decode,
    decode_call,
    encode,
    encode_call,
    encode_code,
    joined_code,
    load_code,
)
from handoff_actors.wire.pickling import pickled_small

_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
_shapes = st.lists(st.integers(0, 40), min_size=1, max_size=3).map(tuple)


@given(_values)
def test_nested_values_come_back_equal(value: Any) -> None:
    payload = encode(value)
    encoded = payload.to_bytes()

    assert decode(encoded) == decode(memoryview(encoded)) == value
    assert encoded[0] == 0x80
    assert payload.nbytes == len(encoded)


@given(
    st.lists(_shapes, min_size=1, max_size=5), st.sampled_from(["u1", "<i4", "<f8", "<c16"]), st.booleans()
)
def test_arrays_come_back_equal_aligned_and_read_only(
    shapes: list[tuple[int, ...]], dtype: str, fortran: bool
) -> None:
    arrays = [np.ones(shape, dtype, order="F" if fortran else "C") * 3 for shape in shapes]
    payload = encode({"arrays": arrays, "more": "text"})
    encoded = payload.to_bytes()
    # A map starts at a page, so offsets show as addresses.
    mapped = mmap.mmap(-1, len(encoded))
    mapped[:] = encoded

    copies = decode(mapped)["arrays"]

    assert payload.nbytes == len(encoded)
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert array.dtype == copy.dtype
        assert not copy.flags.writeable
        assert copy.ctypes.data % 64 == 0 or not copy.size


class Named(IntEnum):
    ONE = 1


@pytest.mark.parametrize("value", [0, -(2**80), 1.5, True, None, 2j, "text"])
def test_numbers_and_short_texts_are_encoded_in_a_short_way_as_all_values_are(value: object) -> None:
    assert pickled_small(value) == encode(value).to_bytes()


@pytest.mark.parametrize("value", ["text" * 500, b"", [], Named.ONE])
def test_other_values_take_the_long_way(value: object) -> None:
    assert pickled_small(value) is None


def test_arrays_are_views_of_a_mapped_file(tmp_path: Path) -> None:
    path = tmp_path / "value"
    path.write_bytes(encode(np.arange(100_000)).to_bytes())
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    value = decode(mapped)

    start = np.frombuffer(mapped, np.uint8).ctypes.data
    assert start < value.ctypes.data < start + len(mapped)


def test_encoding_does_not_copy_arrays() -> None:
    array = np.zeros(1000)

    payload = encode([array])
    array[0] = 7

    assert decode(payload.to_bytes())[0][0] == 7


def test_memoryview_arrives_as_bytes() -> None:
    assert decode(encode(memoryview(b"some")).to_bytes()) == b"some"


def _numbers() -> Iterator[int]:
    yield 1


class _Refuses:
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error("refused")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), "value of type lock"),
        ({"a": [1, threading.Lock()]}, r"value\['a'\]\[1\] of type lock"),
        (types.SimpleNamespace(door=threading.Lock()), r"value\.door of type lock"),
        ((_Refuses(ValueError),), r"value\[0\] of type _Refuses cannot be pickled: ValueError: refused"),
        ([[[[[[[[[[threading.Lock()]]]]]]]]]], r"value(\[0\]){7} of type list"),
        ([{1, 2}, frozenset([_numbers()])], r"value\[1\]\[0\] is a generator; use a list"),
    ],
    ids=["itself", "nested", "attribute", "reduce", "deep", "generator within"],
)
def test_refusal_names_the_part(value: Any, path: str) -> None:
    with pytest.raises(SerializationError, match=path):
        encode(value)


async def _async_numbers() -> Any:
    yield 1


async def _coroutine() -> None:
    await asyncio.sleep(0)


def test_generators_and_coroutines_say_what_to_return() -> None:
    coroutine = _coroutine()

    with pytest.raises(SerializationError, match="returned a generator; return a list"):
        encode(_numbers())
    with pytest.raises(SerializationError, match="returned an async generator; return a list"):
        encode(_async_numbers())
    with pytest.raises(SerializationError, match="returned a coroutine; return its result"):
        encode(coroutine)
    with pytest.raises(SerializationError, match="returned a future; return its result: await it"):
        encode(Future[int]())

    coroutine.close()


def test_too_deep_value_is_a_serialization_error() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(SerializationError, match="recursion"):
        encode(deep)

    while deep:
        deep = deep.pop()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk that is long enough for a header",
        b"HB",
        b"\x80\x05.",
        encode(np.ones(1000)).to_bytes()[:-1],
    ],
    ids=["empty", "junk", "header cut", "pickle broken", "buffer cut"],
)
def test_broken_bytes_are_a_serialization_error(data: bytes) -> None:
    with pytest.raises(SerializationError):
        decode(data)


def test_value_of_a_missing_module_names_the_module_and_the_remedy() -> None:
    with pytest.raises(SerializationError, match=r"needs module 'no_such_module'.*install it"):
        decode(b"\x80\x05cno_such_module\nthing\n.")


def test_calls_come_back() -> None:
    assert decode_call(encode_call((1, "two"), {"three": [3]}).to_bytes()) == ((1, "two"), {"three": [3]})


def test_refusal_of_a_call_names_the_argument() -> None:
    with pytest.raises(SerializationError, match=r"extra_args\[1\] of type lock"):
        encode_call((1, threading.Lock()), {})
    with pytest.raises(SerializationError, match=r"kwargs\['lock'\] of type lock"):
        encode_call((1,), {"lock": threading.Lock()})


# --- What lives in __main__ -------------------------------------------------------------------------------------


@pytest.fixture
def main_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A `__main__` as a script has it, with a class, an exception and functions."""
    main = types.ModuleType("__main__")
    exec(
        "class Point:\n"
        "    x = 1\n"
        "class Wrong(Exception):\n"
        "    pass\n"
        "def work(number):\n"
        "    return number + Point.x\n",
        vars(main),
    )
    monkeypatch.setitem(sys.modules, "__main__", main)
    return main


def test_main_classes_are_sent_by_value(main_module: types.ModuleType) -> None:
    encoded = encode([main_module.Point(), np.ones(2000)]).to_bytes()
    del sys.modules["__main__"].Point

    point, array = decode(encoded)

    assert type(point).__name__ == "Point"
    assert array.sum() == 2000


def test_main_functions_are_sent_by_value(main_module: types.ModuleType) -> None:
    digest, by_reference, encoded = encode_code(main_module.work)

    assert not by_reference
    assert len(digest) == 16
    assert load_code(by_reference, encoded)(1) == 2


def test_main_exceptions_come_back_as_themselves(main_module: types.ModuleType) -> None:
    error = decode_exception(encode_exception(main_module.Wrong("so")))

    assert isinstance(error, main_module.Wrong)


# --- Code -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reference"),
    [
        (math.sqrt, b"math:sqrt"),
        (len, b"builtins:len"),
        (Fraction, b"fractions:Fraction"),
        (np.linalg.norm, b"numpy.linalg:norm"),
    ],
)
def test_what_can_be_imported_goes_by_reference(code: Callable[..., Any], reference: bytes) -> None:
    _, by_reference, encoded = encode_code(code)

    assert (by_reference, encoded) == (True, reference)
    assert load_code(by_reference, encoded) is code


def _captured() -> Callable[[int], int]:
    captured = 3
    return lambda number: number * captured


class _Callable:
    def __call__(self, number: int) -> int:
        return number * 3

    def times(self, number: int) -> int:
        return number * 3


@pytest.mark.parametrize(
    "code",
    [_captured(), functools.partial(int.__mul__, 3), _Callable(), _Callable().times, [3, 6, 9].__getitem__],
    ids=["closure", "partial", "callable object", "bound method", "bound builtin"],
)
def test_everything_else_goes_by_value(code: Callable[[int], int]) -> None:
    _, by_reference, encoded = encode_code(code)

    assert not by_reference
    assert load_code(by_reference, encoded)(2) in (6, 9)


def test_made_up_modules_go_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, has_spec in (("made_up", False), ("made_up.inner", True)):
        module = types.ModuleType(name)
        if has_spec:
            module.__spec__ = math.__spec__
        exec("def work(): return 5", vars(module))
        monkeypatch.setitem(sys.modules, name, module)

        assert encode_code(module.work)[1] is False


def test_module_that_shadows_an_importable_one_goes_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("wave")
    module.__spec__ = math.__spec__
    exec("def work(): return 5", vars(module))
    monkeypatch.setitem(sys.modules, "wave", module)

    assert encode_code(module.work)[1] is False


def test_registered_modules_go_by_value() -> None:
    assert encode_code(json.decoder.JSONDecoder)[1]
    cloudpickle.register_pickle_by_value(json)
    try:
        assert not encode_code(json.decoder.JSONDecoder)[1]
    finally:
        cloudpickle.unregister_pickle_by_value(json)


def test_digest_tells_code_apart() -> None:
    assert encode_code(math.sqrt)[0] == encode_code(math.sqrt)[0] != encode_code(math.sin)[0]


def test_refusal_of_code_names_what_it_captures() -> None:
    door = socket.socket()

    with door, pytest.raises(SerializationError, match=r"function .*<lambda>: door of type socket"):
        encode_code(lambda: [door])


@pytest.mark.parametrize(
    ("by_reference", "code", "reason"),
    [
        (True, b"no_such_module:work", "function 'work' needs module 'no_such_module'.*install it"),
        (True, b"math:no_such", "module 'math' has no function 'no_such'"),
        (
            False,
            joined_code(b"\x80\x05cno_such_module\nwork\n.", ()),
            "needs module 'no_such_module'.*install it",
        ),
        (False, b"junk", "a function cannot be unpickled"),
        (False, joined_code(b"junk", ()), "a function cannot be unpickled"),
    ],
)
def test_code_that_cannot_be_loaded_says_why(by_reference: bool, code: bytes, reason: str) -> None:
    with pytest.raises(SerializationError, match=reason):
        load_code(by_reference, code)


# --- Exceptions -------------------------------------------------------------------------------------------------


class _HarmfulArgument:
    def __reduce__(self) -> Any:
        return sys.exit, (3,)


class _ExitsOnLoad(_HarmfulArgument, Exception):
    pass


class _OnlyOnce(Exception):
    left = 1

    def __reduce__(self) -> Any:
        return _once, ()


def _once() -> BaseException:
    if not _OnlyOnce.left:
        raise ValueError("not again")
    _OnlyOnce.left -= 1
    return _OnlyOnce()


def _raised(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_exception_keeps_type_arguments_notes_and_traceback() -> None:
    error = _raised(KeyError("some", 3))
    error.add_note("remember")

    copy = decode_exception(encode_exception(error))

    assert isinstance(copy, KeyError)
    assert copy.args == ("some", 3)
    assert copy.__notes__ == ["remember"]
    assert isinstance(copy.__cause__, RemoteTraceback)
    assert "raise error" in str(copy.__cause__)
    assert copy.__cause__.text.endswith("remember")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError(_HarmfulArgument()), "_HarmfulArgument"),
        (_ExitsOnLoad(), ""),
        (_OnlyOnce(), ""),
    ],
    ids=["argument exits on load", "exits on load", "cannot be unpickled twice"],
)
def test_exception_that_does_not_survive_becomes_a_remote_error(
    error: BaseException, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Dask has tblib teach pickle every exception that there is when it is imported, as another test may have done.
    monkeypatch.delitem(copyreg.dispatch_table, type(error), raising=False)

    copy = decode_exception(encode_exception(error))

    assert isinstance(copy, RemoteError)
    assert copy.type_name.endswith(type(error).__qualname__)
    assert message in copy.message
    assert isinstance(copy.__cause__, RemoteTraceback)


class _Wraps(Exception):
    """Its text is made of the argument, and unpickling makes it of the text."""

    def __init__(self, code: object) -> None:
        super().__init__(f"status={code}")
        self.code = code


class _Restless(Exception):
    """Says something else each time."""

    def __str__(self) -> str:
        return str(next(_counted))


_counted = itertools.count()


class _Hostile(Exception):
    """Raises wherever it can."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        _Hostile.error = error

    error: BaseException

    def __getattribute__(self, name: str) -> Any:
        raise _Hostile.error

    def __str__(self) -> str:
        raise _Hostile.error

    def __reduce__(self) -> Any:
        raise _Hostile.error


class _Nested(Exception):
    def __reduce__(self) -> Any:
        return type(self), (_Nested(),)


def test_exception_whose_constructor_makes_its_text_comes_back_as_it_was() -> None:
    copy = decode_exception(encode_exception(_Wraps(404)))

    assert isinstance(copy, _Wraps)
    assert (str(copy), copy.code) == ("status=404", 404)


def test_exception_whose_text_is_another_each_time_keeps_its_type() -> None:
    assert isinstance(decode_exception(encode_exception(_Restless())), _Restless)


@pytest.mark.parametrize(
    "make",
    [
        lambda: _Hostile(ValueError("no")),
        lambda: _Hostile(SystemExit(3)),
        lambda: _Hostile(KeyboardInterrupt()),
        _ExitsOnLoad,
        _Nested,
    ],
    ids=["raises", "exits", "interrupts", "exits on load", "pickles for ever"],
)
def test_no_exception_is_too_hostile_to_be_sent(make: Callable[[], BaseException]) -> None:
    error = make()

    copy = decode_exception(encode_exception(error))

    assert isinstance(copy, RemoteError)
    assert copy.type_name.endswith(type(error).__qualname__)
    assert type(error).__qualname__ in describe_exception(error)


def test_exception_of_code_with_an_odd_module_name_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        exec("1 / 0", {"__name__": 5})

    assert "ZeroDivisionError" in str(decode_exception(encode_exception(caught.value)).__cause__)


def test_huge_message_is_cut_in_the_middle_and_says_so() -> None:
    error = _raised(ValueError(f"begins {'x' * 20_000_000} ends"))

    encoded = encode_exception(error)
    copy = decode_exception(encoded)

    assert len(encoded) < 2_000_000
    assert isinstance(copy, RemoteError)
    for text in (copy.message, str(copy.__cause__), describe_exception(error)):
        assert len(text) < 300_000
        assert "begins x" in text
        assert "characters left out" in text
    assert "only this text is sent: the exception itself has 20,0" in copy.message
    assert describe_exception(error).endswith("x ends")


def test_exception_with_a_huge_array_is_sent_as_its_text() -> None:
    copy = decode_exception(encode_exception(ValueError("bad batch", bytearray(20_000_000))))

    assert isinstance(copy, RemoteError)
    assert "bad batch" in copy.message


def test_exception_of_a_megabyte_is_sent_as_it_is() -> None:
    copy = decode_exception(encode_exception(ValueError("x" * 1_000_000)))

    assert copy.args == ("x" * 1_000_000,)


def test_description_of_an_exception_can_be_encoded() -> None:
    assert describe_exception(ValueError("data\udcff.csv")) == "ValueError: data\\udcff.csv"


# --- Hostile values ---------------------------------------------------------------------------------------------


class _Exits:
    """A value that exits, or worse, when it is pickled or unpickled."""

    def __init__(self, error: BaseException, *, when_loaded: bool = False) -> None:
        self.error = error
        self.when_loaded = when_loaded

    def __reduce__(self) -> Any:
        if self.when_loaded:
            return _raise, (self.error,)
        raise self.error


def _raise(error: BaseException) -> None:
    raise error


class _Walled:
    """A value that can't be looked into."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("no attribute")


class _Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "error", [SystemExit(1), GeneratorExit(), asyncio.CancelledError(), ValueError("no")]
)
def test_value_that_raises_anything_is_a_serialization_error(error: BaseException) -> None:
    data = encode(_Exits(error, when_loaded=True)).to_bytes()

    with pytest.raises(SerializationError, match=r"value\[0\] of type _Exits cannot be pickled"):
        encode([_Exits(error)])
    with pytest.raises(SerializationError, match=r"function .* cannot be pickled"):
        encode_code(functools.partial(print, _Exits(error)))
    with pytest.raises(SerializationError, match="cannot be unpickled"):
        decode(data)
    with pytest.raises(SerializationError, match="cannot be unpickled"):
        Sealed.of(_Exits(error, when_loaded=True)).open()


def test_ctrl_c_within_a_value_is_passed_on() -> None:
    data = encode(_Exits(KeyboardInterrupt(), when_loaded=True)).to_bytes()

    with pytest.raises(KeyboardInterrupt):
        encode(_Exits(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        encode_code(functools.partial(print, _Exits(KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        decode(data)
    with pytest.raises(KeyboardInterrupt):
        Sealed.of(_Exits(KeyboardInterrupt(), when_loaded=True)).open()


class _Interrupted:
    """Raises an error twice, for pickle and for cloudpickle, and is interrupted then."""

    times = 0

    def __reduce__(self) -> Any:
        self.times += 1
        raise KeyboardInterrupt if self.times > 2 else ValueError


def test_ctrl_c_while_a_culprit_is_looked_for_is_passed_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        encode(_Interrupted())


def test_value_that_cannot_be_looked_into_is_named_by_its_type() -> None:
    with pytest.raises(SerializationError, match="_Walled cannot be pickled"):
        encode(_Walled())


def test_key_without_text_is_no_reason_to_raise_another_error() -> None:
    with pytest.raises(SerializationError, match="_Unspeakable whose repr raises RuntimeError"):
        encode({_Unspeakable(): threading.Lock()})


def test_generator_among_arguments_is_called_an_argument() -> None:
    with pytest.raises(SerializationError, match="argument is a generator; use a list"):
        encode((number for number in range(3)), "argument")


def test_future_among_arguments_is_named_and_not_its_locks() -> None:
    with pytest.raises(
        SerializationError,
        match=r"argument\['of'\]\[0\] is a future; use its result: await it, or call its result",
    ):
        encode({"of": [Future[int]()]}, "argument")


def test_code_that_captures_too_much_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "MOST_OF_CODE_NBYTES", 1_000_000)
    captured = bytes(1_000_001)

    with pytest.raises(
        SerializationError, match=r"1,00.* bytes .* 1,000,000 can be sent; pass large values as arguments"
    ):
        encode_code(lambda: captured)


def test_traceback_starts_at_the_users_own_frame() -> None:
    namespace = {"__name__": "handoff_actors.workers.imagined"}
    exec("def call(code):\n    return code()", namespace)
    call: Any = namespace["call"]

    def users_own() -> None:
        raise ValueError("here")

    with pytest.raises(ValueError, match="here") as caught:
        call(users_own)
    error = caught.value
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next

    cause = decode_exception(encode_exception(error)).__cause__

    assert isinstance(cause, RemoteTraceback)
    assert "users_own" in cause.text
    assert "in call" not in cause.text


def test_traceback_of_a_bug_shows_our_own_frames_where_there_are_no_others() -> None:
    with pytest.raises(TypeError) as caught:
        encode_exception(None)  # type: ignore[arg-type]
    error = caught.value
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next

    of_bug = decode_exception(encode_exception(error, is_users=False)).__cause__
    of_user = decode_exception(encode_exception(error)).__cause__

    assert isinstance(of_bug, RemoteTraceback)
    assert isinstance(of_user, RemoteTraceback)
    assert "in encode_exception" in of_bug.text
    assert of_user.text.startswith("TypeError")


@pytest.mark.parametrize("value", [1, "text", [1, {2: None}]])
def test_a_sealed_value_is_there_when_it_is_opened(value: object) -> None:
    assert decode(encode(Sealed.of(value)).to_bytes()).open() == value


def test_a_sealed_array_can_be_written_to_and_leaves_its_origin_alone() -> None:
    array = np.ones(1000)
    opened = decode(encode(Sealed.of(array)).to_bytes()).open()

    opened += 1

    assert array.sum() == 1000
    assert opened.sum() == 2000


def test_what_cannot_be_sealed_says_so() -> None:
    with pytest.raises(SerializationError, match="lock"):
        Sealed.of(threading.Lock())


def test_a_sealed_value_that_cannot_be_read_harms_only_who_opens_it() -> None:
    passed_on = decode(encode(Sealed(b"garbage", ())).to_bytes())

    with pytest.raises(SerializationError, match="cannot be unpickled"):
        passed_on.open()


@pytest.mark.parametrize("has_buffers", [False, True])
def test_parts_that_are_left_out_are_put_in_again(*, has_buffers: bool) -> None:
    part, own = ["large"], np.arange(10_000) if has_buffers else 7
    holder = {"part": part}

    encoded = encode_call((part, holder), {"own": own}, lambda it: 0 if it is part else None)
    (first, second), kwargs = decode_call(encoded.to_bytes(), [part])

    assert first is part
    assert second["part"] is part
    assert np.array_equal(kwargs["own"], own)
    with pytest.raises(SerializationError, match="cannot be unpickled"):
        decode_call(encoded.to_bytes())


def test_a_buffer_that_is_left_out_is_put_in_again() -> None:
    array = np.arange(10_000)

    def position_of(part: object) -> int | None:
        return 0 if isinstance(part, pickle.PickleBuffer) else None

    encoded = encode_call((array,), {}, position_of)
    (again,), _ = decode_call(encoded.to_bytes(), [array.tobytes()])

    assert encoded.nbytes < 1000
    assert (again == array).all()
    assert not again.flags.writeable


def test_size_of_a_sealed_value_counts_each_buffer_once() -> None:
    array = np.arange(10_000)
    counted: set[int] = set()
    sealed = [Sealed.of((array, number)) for number in range(2)]

    first, second = (one.count_nbytes(counted) for one in sealed)

    assert array.nbytes < first < array.nbytes + 200
    assert second < 200
    assert sealed[1].open()[1] == 1
