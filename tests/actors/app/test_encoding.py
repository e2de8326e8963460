"""Large parts that functions of a DAG have in common are encoded once."""

import pickle
import sys
from array import array
from collections import defaultdict, deque
from collections.abc import Iterable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handoff_actors as handoff
from handoff_actors import events
from handoff_actors.actors.app.encoding import Encoded, EncodedSoFar, EncodingOptions, encode_program
from handoff_actors.graph.plan import Plan
from handoff_actors.wire.messages.jobs import Assembled, Ref
from handoff_actors.wire.payload import decode, decode_call

LIMIT = 1000
OPTIONS = EncodingOptions(LIMIT)


class Counted:
    """Large, and counts how often it is encoded."""

    def __init__(self, times: int = 0, content: tuple[int, ...] = tuple(range(LIMIT))) -> None:
        self.times = times
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        self.times += 1
        return Counted, (self.times, self.content)


class Color(Enum):
    RED = 1


class Unencodable:
    def __reduce__(self) -> str:
        raise ValueError("not this one")


def take(*_: object, **__: object) -> None:
    """Do nothing."""


ORIGINAL = take


async def encoded(calls: Iterable[tuple[tuple[Any, ...], dict[str, Any]]]) -> Encoded:
    dag = handoff.DAG()
    for number, (extra_args, kwargs) in enumerate(calls):
        dag.add_function(handoff.Function(number, [], take, extra_args=extra_args, kwargs=kwargs))
    return await encode_program(Plan.compile(dag), OPTIONS)


def decoded(program: Encoded, number: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    constants = program.program.constants[number]
    parts: list[Any] = []
    if isinstance(constants, Assembled):
        parts = [decode(program.large[ref.index]) for ref in constants.parts]
        constants = constants.rest
    data = program.large[constants.index] if isinstance(constants, Ref) else constants
    return decode_call(bytes(data), parts)


def sizes(program: Encoded) -> list[int]:
    return sorted(map(len, program.large.values()))


@pytest.mark.parametrize("name", ["extra_args", "kwargs"])
async def test_an_object_that_a_hundred_functions_take_is_encoded_once(name: str) -> None:
    value = Counted()
    calls = [((value, i), {}) if name == "extra_args" else ((i,), {"value": value}) for i in range(100)]

    program = await encoded(calls)

    assert value.times == 1
    assert len(program.large) == 1
    for number in range(100):
        extra_args, kwargs = decoded(program, number)
        made = kwargs["value"] if kwargs else extra_args[0]
        assert (made.content, extra_args[-1]) == (value.content, number)


async def test_an_array_within_other_objects_is_kept_once() -> None:
    array = np.arange(LIMIT)

    program = await encoded([(({"data": [array]}, i), {}) for i in range(10)])

    assert len(program.large) == 1
    assert sizes(program)[0] < array.nbytes + 300
    for number in range(10):
        (holder, last), _ = decoded(program, number)
        assert (holder["data"][0] == array).all()
        assert not holder["data"][0].flags.writeable
        assert last == number


class Buffered:
    def __init__(self, memory: object) -> None:
        self.memory = memory

    def __reduce__(self) -> tuple[Any, ...]:
        return Buffered, (pickle.PickleBuffer(self.memory),)  # type: ignore[arg-type]


async def test_buffers_are_recognized_without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy")
    memory = bytes(2 * LIMIT)

    program = await encoded([((Buffered(memory), i), {}) for i in range(10)])

    assert len(program.large) == 1
    assert decoded(program, 3)[0][0].memory == memory


async def test_an_array_is_found_within_another_function_s_constants() -> None:
    array = np.arange(LIMIT)

    program = await encoded([((array,), {}), ((), {"data": array}), (([array],), {})])

    assert len(program.large) == 1
    assert (decoded(program, 2)[0][0][0] == array).all()


async def test_an_object_that_one_function_takes_twice_stays_one_object() -> None:
    value = list(range(LIMIT))

    program = await encoded([((value, {"again": value}), {"more": value}) for _ in range(2)])

    (first, holder), kwargs = decoded(program, 1)
    assert first == value
    assert holder["again"] is first
    assert kwargs["more"] is first
    assert len(program.large) == 1


async def test_objects_that_have_something_in_common_are_not_torn_apart() -> None:
    inner = [1]
    one, other, third = [inner, "x" * LIMIT], [inner, "y" * LIMIT], {"inner": inner}

    program = await encoded(
        [((one, other), {}), ((one, other), {}), ((one, {"in": third}), {}), ((other, 1), {})]
    )

    for number in (0, 1):
        (first, second), _ = decoded(program, number)
        assert first[0] is second[0]
    (first, holder), _ = decoded(program, 2)
    assert first[0] is holder["in"]["inner"]
    assert isinstance(program.program.constants[3], Assembled)


class Slotted:
    __slots__ = ("value",)


@pytest.mark.parametrize(
    "inner",
    [
        Slotted(),
        deque([1]),
        defaultdict(int),
        array("i", [1]),
        np.arange(20)[::2],
        np.array([[], 1], dtype=object),
        memoryview(bytearray(5)),
    ],
    ids=lambda inner: type(inner).__name__,
)
async def test_whatever_can_be_changed_stays_one_object(inner: object) -> None:
    holder = [inner, "x" * LIMIT]

    program = await encoded([((holder, {"in": inner}, i), {}) for i in range(3)])

    (first, second, _), _ = decoded(program, 1)
    assert first[0] is second["in"]


@pytest.mark.parametrize(
    "inner",
    [np.dtype("f8"), np.float64(2.5), events.Sent, take, ("a", 1), slice(1), Color.RED],
    ids=lambda inner: type(inner).__name__,
)
async def test_whatever_nobody_can_change_keeps_nothing_from_being_shared(inner: object) -> None:
    holder = [inner, "x" * LIMIT]

    program = await encoded([((holder, {"in": inner}, i), {}) for i in range(3)])

    assert len(program.large) == 1
    (first, second, _), _ = decoded(program, 1)
    assert first[0] == second["in"] == inner


async def test_large_constants_that_differ_are_kept_beside_the_shared_ones() -> None:
    shared, own = np.arange(LIMIT), [np.full(LIMIT, i) for i in range(3)]

    program = await encoded([((shared, own[i]), {}) for i in range(3)])

    assert len(program.large) == 4
    for number in range(3):
        extra_args, _ = decoded(program, number)
        assert (extra_args[0] == shared).all()
        assert (extra_args[1] == number).all()


async def test_equal_objects_and_small_ones_are_not_shared() -> None:
    small = {"some": "thing"}
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((small, np.arange(LIMIT)), {}) for _ in range(3)
    ] + [((small, "x" * 3, [1]), {})] * 2

    program = await encoded(calls)

    assert not any(isinstance(constants, Assembled) for constants in program.program.constants)
    assert len(program.large) == 3


async def test_views_of_one_array_that_differ_are_not_mistaken() -> None:
    array = np.arange(4 * LIMIT)
    views = [array[start : start + LIMIT] for start in (0, LIMIT, 0, 5)]

    program = await encoded([(([view],), {}) for view in views])

    assert len(program.large) == 3
    for number, view in enumerate(views):
        assert (decoded(program, number)[0][0][0] == view).all()


async def test_temporary_buffers_are_not_mistaken_for_one_another() -> None:
    class Temporary:
        def __init__(self, number: int) -> None:
            self.number = number

        def __reduce__(self) -> tuple[Any, ...]:
            return bytes, (pickle.PickleBuffer(bytes([self.number]) * LIMIT * 2),)

    program = await encoded([((Temporary(i),), {}) for i in range(20)])

    assert [decoded(program, i)[0][0] for i in range(20)] == [bytes([i]) * LIMIT * 2 for i in range(20)]


async def test_arrays_that_are_not_contiguous_are_kept_as_they_are() -> None:
    array = np.arange(4 * LIMIT).reshape(2, -1)[:, ::2]
    contiguous = np.arange(LIMIT)

    program = await encoded([(([array], [contiguous]), {})] * 2)

    extra_args, _ = decoded(program, 1)
    assert (extra_args[0][0] == array).all()
    assert (extra_args[1][0] == contiguous).all()


async def test_an_object_that_cannot_be_encoded_is_blamed_on_its_function() -> None:
    broken = Unencodable()

    with pytest.raises(handoff.SerializationError, match=r"function 0: .*extra_args\[1\]"):
        await encoded([((1, broken), {}), ((2, broken), {})])


async def test_code_within_a_shared_object_binds_all_that_take_it() -> None:
    text = "x" * 2 * LIMIT

    def by_value() -> str:
        return text

    holder = [by_value, text]

    program = await encoded([((holder, i), {}) for i in range(3)] + [((1,), {})])

    assert program.program.affinity.constants == {0, 1, 2}
    assert decoded(program, 1)[0][0][0]() == text


class Mine:
    pass


@pytest.mark.parametrize("argument", ["constant", "value", "large", "shared", "code"])
async def test_modules_of_the_app_are_named_wherever_a_run_refers_to_them(argument: str) -> None:
    dag = handoff.DAG()
    large = bytes(2 * LIMIT)
    match argument:
        case "constant":
            dag.add_function(handoff.Function(0, [], str, extra_args=[Mine()]))
        case "value":
            dag.add_function(handoff.Function(0, [handoff.Constant(Mine())], str))
        case "large":
            dag.add_function(handoff.Function(0, [], str, extra_args=[Mine(), large]))
        case "shared":
            for number in range(2):
                dag.add_function(handoff.Function(number, [], str, extra_args=[Mine(), large, number]))
        case _:
            dag.add_function(handoff.Function(0, [], partial(take, 1)))

    program = await encode_program(Plan.compile(dag), OPTIONS)

    modules = program.program.templates[0].modules
    assert modules is not None
    assert __name__ in modules.sources
    assert program.definitions.keys() == {modules.definitions.index}


async def test_run_without_modules_of_the_app_names_none() -> None:
    dag = handoff.DAG()
    dag.add_function(handoff.Function(0, [], str, extra_args=[[1], "text"]))

    program = await encode_program(Plan.compile(dag), OPTIONS)

    assert program.program.templates[0].modules is None
    assert program.definitions == {}


async def test_directory_that_has_the_modules_is_where_they_are_imported_from(tmp_path: Path) -> None:
    has_them, has_none = tmp_path / "one", tmp_path / "two"
    (has_them / "tests").mkdir(parents=True)
    has_none.mkdir()
    found = []
    for directory in (has_them, has_none, tmp_path / "on some node"):
        dag = handoff.DAG()
        dag.add_function(handoff.Function(0, [], take, working_dir=directory))
        program = await encode_program(Plan.compile(dag), OPTIONS)
        found.append(program.program.templates[0].modules is None)

    assert found == [True, False, True]


def call_of(code: Any, *args: object) -> Plan:
    dag = handoff.DAG()
    dag.add_function(handoff.Function(0, [], code, extra_args=args))
    return Plan.compile(dag)


async def test_definitions_come_with_the_first_part_of_a_run_that_refers_to_them() -> None:
    so_far = EncodedSoFar()
    first = await encode_program(call_of(take), OPTIONS, so_far)
    assert first.modules is not None
    so_far.next_index = first.next_index
    so_far.modules = dict([first.modules])

    second = await encode_program(call_of(take, 1), OPTIONS, so_far)
    so_far.modules = {}
    after_it_was_forgotten = await encode_program(call_of(take, 2), OPTIONS, so_far)

    assert [len(first.definitions), len(second.definitions)] == [1, 0]
    assert second.modules == first.modules
    assert second.next_index == first.next_index
    assert after_it_was_forgotten.definitions.keys() == {first.next_index}


async def test_function_is_referred_to_only_as_long_as_it_has_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for place in (take, decoded, take):
        monkeypatch.setattr(sys.modules[__name__], "take", place)
        program = await encode_program(call_of(ORIGINAL), OPTIONS)
        found.append(program.program.templates[0].by_reference)

    assert found == [True, False, True]
