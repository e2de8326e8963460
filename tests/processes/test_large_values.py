"""Large values of every kind arrive equal, and where their type allows, as read-only views of the store's own memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import handoff_actors as handoff
from handoff_actors import events
from tests.faults.observing import until
from tests.processes.app import App

pytestmark = pytest.mark.processes

COUNT = 200_000


def numbers() -> Any:
    return np.arange(COUNT)


def table() -> Any:
    return pa.table({"numbers": np.arange(COUNT), "texts": [f"text {number}" for number in range(COUNT)]})


def frame() -> Any:
    return pd.DataFrame({"whole": np.arange(COUNT), "half": np.arange(COUNT) / 2})


def octets() -> bytes:
    return np.arange(COUNT).tobytes()


def mutable_octets() -> bytearray:
    return bytearray(octets())


def view() -> memoryview:
    return memoryview(mutable_octets()).cast("q")


def several() -> Any:
    return {"numbers": numbers(), "octets": octets(), "rest": [view(), "text"]}


def places_of_numbers(value: Any) -> list[int]:
    assert not value.flags.writeable
    return [value.ctypes.data]


def places_of_table(value: Any) -> list[int]:
    buffers = [
        part for column in value.columns for chunk in column.chunks for part in chunk.buffers() if part
    ]
    assert not any(buffer.is_mutable for buffer in buffers)
    return [buffer.address for buffer in buffers]


def places_of_frame(value: Any) -> list[int]:
    columns = [value[name].to_numpy() for name in value]
    assert not any(column.flags.writeable for column in columns)
    return [column.ctypes.data for column in columns]


def places_of_view(value: Any) -> list[int]:
    assert value.readonly
    return [np.asarray(value).ctypes.data]


def places_of_several(value: Any) -> list[int]:
    return [*places_of_numbers(value["numbers"]), *places_of_view(value["rest"][0])]


def is_equal(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray):
        return np.array_equal(left, right)
    if isinstance(left, dict):
        return all(is_equal(left[key], right[key]) for key in left)
    return bool(left.equals(right)) if hasattr(left, "equals") else left == right


def is_in_the_store(place: int) -> bool:
    """True if an address of this process is within a mapped file of the node's store."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(bound, 16) for bound in line.split()[0].split("-"))
        if start <= place < end:
            return "/handoff-" in line
    return False


def consume(make: Callable[[], Any], places: Callable[[Any], list[int]] | None, value: Any) -> list[bool]:
    expected = make()
    return [type(value) is type(expected), is_equal(value, expected)] + [
        is_in_the_store(place) for place in (places(value) if places is not None else ())
    ]


@pytest.mark.parametrize(
    ("make", "places"),
    [
        (numbers, places_of_numbers),
        (table, places_of_table),
        (frame, places_of_frame),
        (view, places_of_view),
        (several, places_of_several),
        # Python's own must have their bytes to themselves.
        (octets, None),
        (mutable_octets, None),
    ],
    ids=["numpy", "arrow", "pandas", "memoryview", "several", "bytes", "bytearray"],
)
async def test_value_arrives_equal_and_as_a_view_where_its_type_allows(
    app: App, make: Callable[[], Any], places: Callable[[Any], list[int]] | None
) -> None:
    dag = handoff.DAG().add_functions(
        [
            handoff.Function("value", [], make),
            handoff.Function("seen", ["value"], lambda value: consume(make, places, value)),
        ]
    )

    run = await app.run(dag, fetch=["value"])

    seen = run.results["seen"]
    assert len(seen) > (1 if places is None else 2)
    assert all(seen), seen
    assert is_equal(run.results["value"], make())


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (numbers, lambda value: value.__setitem__(0, 1)),
        (view, lambda value: value.__setitem__(0, 1)),
        (frame, lambda value: value["whole"].to_numpy().__setitem__(0, 1)),
    ],
    ids=["numpy", "memoryview", "pandas"],
)
async def test_consumer_cannot_change_what_others_see(
    app: App, make: Callable[[], Any], change: Callable[[Any], None]
) -> None:
    dag = handoff.DAG().add_functions(
        [handoff.Function("value", [], make), handoff.Function("changed", ["value"], change, max_retries=0)]
    )

    with pytest.raises(handoff.FunctionFailed, match=r"read-?only"):
        await app.run(dag)


async def test_changeable_bytes_are_each_consumer_s_own(app: App) -> None:
    def change(value: bytearray) -> bool:
        was_whole = value == bytearray(octets())
        value[:8] = b"changed!"
        return was_whole

    dag = handoff.DAG().add_function(handoff.Function("value", [], mutable_octets))
    dag.add_functions(handoff.Function(number, ["value"], change) for number in range(4))

    run = await app.run(dag)

    assert [run.results[number] for number in range(4)] == [True] * 4


async def test_next_run_gets_the_pages_of_the_last(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handoff_actors.store.recycling.KEPT_S", 0.5)

    def values() -> set[Path]:
        return {path for path in store.iterdir() if not path.name.startswith(("spare-", "."))}

    async def place_of_value(number: int) -> int:
        # A thread of the node may not have set the last one aside.
        earlier = values()
        dag = handoff.new()
        made = dag.call(np.full, COUNT, number)
        total = dag.call(np.sum, made)
        run = await app.run(dag)
        assert run.results[total.id] == COUNT * number
        [value] = values() - earlier
        inode = value.stat().st_ino
        await run.release()
        return inode

    store = app.node._store.directory
    places = [await place_of_value(number) for number in range(10)]

    # A worker may still have had a file mapped when the next run wanted one.
    assert len(set(places)) < len(places)
    await until(app.session, lambda: app.stored_files() == [])


async def test_value_that_a_function_has_kept_stays_as_it_is(app: App) -> None:
    def keep(value: Any) -> int:
        import builtins  # noqa: PLC0415 - it outlives the function

        builtins.kept = [*getattr(builtins, "kept", []), value]  # type: ignore[attr-defined]
        return int(value.sum())

    def look() -> list[int]:
        import builtins  # noqa: PLC0415

        return [int(value.sum()) for value in getattr(builtins, "kept", [])]

    for number in range(1, 4):
        dag = handoff.new()
        made = dag.call(np.full, COUNT, number, cost={"cpu": 2})
        kept = dag.call(keep, made, cost={"cpu": 2})
        run = await app.run(dag)
        assert run.results[kept.id] == COUNT * number
        await run.release()
    looks = handoff.new()
    seen = [looks.call(look) for _ in range(20)]
    run = await app.run(looks)

    sums = [run.results[each.id] for each in seen]
    assert {total for each in sums for total in each} == {COUNT * number for number in (1, 2, 3)}


def element(values: "np.ndarray[Any, Any]", at: int, more: "np.ndarray[Any, Any] | None" = None) -> float:
    return float(values[at]) + (0.0 if more is None else float(more[at]))


async def test_an_array_that_a_hundred_functions_take_is_stored_once(app: App) -> None:
    array = np.arange(COUNT, dtype=float)
    dag = handoff.DAG()
    for at in range(50):
        dag.add_function(handoff.Function(("extra", at), [], element, extra_args=[array, at]))
        dag.add_function(
            handoff.Function(("kwargs", at), [], element, extra_args=[[0.0] * 50, at], kwargs={"more": array})
        )

    moved: list[int] = []
    run = await app.run(
        dag, on_event=lambda event: moved.append(event.nbytes) if isinstance(event, events.Moved) else None
    )

    assert [run.results["extra", at] for at in range(50)] == list(range(50))
    assert [run.results["kwargs", at] for at in range(50)] == list(range(50))
    [nbytes] = map(len, vars(run._holdings.runner)["values"].values())
    assert array.nbytes < nbytes < array.nbytes + 1000
    assert moved == [nbytes]


async def test_each_function_gets_its_own_copy_of_a_shared_list(app: App) -> None:
    def grow(values: list[int]) -> int:
        values.append(len(values))
        return len(values)

    values = list(range(50_000))
    dag = handoff.DAG()
    for number in range(20):
        dag.add_function(handoff.Function(number, [], grow, kwargs={"values": values}))

    run = await app.run(dag)

    assert [run.results[number] for number in range(20)] == [50_001] * 20
