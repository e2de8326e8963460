"""A slice of an Arrow table is stored as that slice, and not with all the bytes that it is a slice of."""

import copyreg
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from handoff_actors.wire import arrow
from handoff_actors.wire.payload import Sealed, decode, encode

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pd = pytest.importorskip("pandas", reason="pandas is not installed")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Other tests are to find pickle as it was."""
    before = dict(copyreg.dispatch_table)
    yield
    copyreg.dispatch_table.clear()
    copyreg.dispatch_table.update(before)
    arrow._Taught.is_done = False


@pytest.fixture(scope="module")
def table() -> Any:
    rows = 50_000
    return pa.table(
        {
            "number": range(rows),
            "maybe": [None, 1.5] * (rows // 2),
            "text": [f"row {row}" for row in range(rows)],
            "list": [[row] for row in range(rows)],
            "record": [{"a": row, "b": "x"} for row in range(rows)],
            "kind": pa.array(["a", "b"] * (rows // 2)).dictionary_encode(),
        }
    )


@pytest.mark.parametrize(
    "part",
    [
        lambda table: table.slice(20_003, 10),
        lambda table: table.slice(20_003, 10).to_batches()[0],
        lambda table: table.column("text").slice(3, 2),
        lambda table: table.column("list").chunk(0).slice(3, 2),
        lambda table: {"deep": [table.slice(49_999)]},
        lambda table: pa.concat_tables([table.slice(5, 2), table.slice(9, 1)]),
        lambda table: table.slice(7, 0),
        lambda table: [table.slice(3, 2), lambda: None][:1],
    ],
    ids=["table", "batch", "column", "array", "within a value", "chunks", "nothing", "list"],
)
def test_a_slice_is_stored_without_what_it_is_a_slice_of(table: Any, part: Any) -> None:
    value = part(table)

    payload = encode(value)
    arrived = decode(payload.to_bytes())

    assert payload.nbytes < 10_000
    assert arrived == value
    assert len(Sealed.of(value).open()) == len(value)


def test_a_slice_beside_code_is_stored_alone(table: Any) -> None:
    payload = encode([table.slice(20_003, 10), lambda: None])

    assert payload.nbytes < 20_000
    assert decode(payload.to_bytes())[0] == table.slice(20_003, 10)


def test_slices_of_an_argument_are_stored_alone(table: Any) -> None:
    payload = encode(table.slice(20_003, 10), position_of=lambda _: None)

    assert payload.nbytes < 20_000


def test_a_frame_on_arrow_is_stored_without_what_it_is_a_slice_of(table: Any) -> None:
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)[20_003:20_013]

    payload = encode(frame)

    assert payload.nbytes < 20_000
    assert decode(payload.to_bytes()).equals(frame)


def test_a_whole_table_is_not_copied(table: Any) -> None:
    numbers = table.select(["number"])

    payload = encode(numbers)

    own = numbers.column(0).chunk(0).buffers()[1]
    assert own.address in {pa.py_buffer(piece).address for piece in payload.buffers}
    assert decode(payload.to_bytes()) == numbers


def test_most_of_a_table_is_not_copied(table: Any) -> None:
    numbers = table.select(["number"]).slice(5_000)

    payload = encode(numbers)

    own = numbers.column(0).chunk(0).buffers()[1]
    assert own.address in {pa.py_buffer(piece).address for piece in payload.buffers}


class Kilometers(pa.ExtensionType):  # type: ignore[misc, name-defined]
    """A type that is not registered."""

    def __init__(self) -> None:
        super().__init__(pa.int64(), "kilometers")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: Any, serialized: Any) -> "Kilometers":
        return cls()


def test_a_slice_of_a_type_that_streams_do_not_know_keeps_its_type() -> None:
    array = pa.ExtensionArray.from_storage(Kilometers(), pa.array(range(10_000))).slice(3, 4)

    arrived = decode(encode(array).to_bytes())

    assert arrived == array
    assert arrived.type == Kilometers()


def test_pickles_of_slices_are_arrows_own(table: Any) -> None:
    encode(table)

    pickled = pickle.dumps(table.slice(3, 2))

    assert b"handoff" not in pickled
    assert len(pickled) < 10_000


def test_a_program_without_arrow_is_taught_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pyarrow.ipc")
    # Tests of other files encode values with Arrow loaded, too.
    monkeypatch.setattr(arrow._Taught, "is_done", False)

    encode([1])

    assert not arrow._Taught.is_done
