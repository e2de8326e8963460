"""Values that are fetched land whole, or leave nothing and say why."""

from functools import partial
from pathlib import Path

import pytest

from handoff_actors.actors.fetcher import Fetcher, FetchFailure
from handoff_actors.core.cluster.transfers import CHUNK_NBYTES
from handoff_actors.ids import RunId
from handoff_actors.store.files import Landing, ValueStore
from handoff_actors.wire.messages.values import Chunk, Fetch
from tests.small_file_system import small_file_system
from tests.stored import values_in

RUN = RunId(7)
INDEX = 3


@pytest.fixture(autouse=True)
def _memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handoff_actors.store.files.memory_directory", lambda: tmp_path)


class Fetched:
    """One value on its way into a store, from holder "a"."""

    def __init__(self, store: ValueStore, nbytes: int) -> None:
        self.asked: list[Fetch] = []
        #: None for a value that has come.
        self.ends: list[FetchFailure | None] = []
        self._nbytes = nbytes
        self._fetcher = Fetcher(lambda _, fetch: self.asked.append(fetch))
        self._fetcher.fetch(RUN, INDEX, nbytes, ["a"], partial(store.land, RUN, INDEX), self._done)

    def arrive(self, offset: int) -> None:
        """A chunk comes."""
        data = memoryview(bytes([7]) * min(CHUNK_NBYTES, self._nbytes - offset))
        self._fetcher.chunk_received("a", Chunk(self.asked[0].request, offset, self._nbytes, data))

    def _done(self, landed: Landing | FetchFailure) -> None:
        self.ends.append(landed if isinstance(landed, FetchFailure) else None)


def test_value_has_its_name_once_all_of_it_is_there(tmp_path: Path) -> None:
    store = ValueStore("whole", tmp_path)
    fetched = Fetched(store, CHUNK_NBYTES + 10)
    try:
        fetched.arrive(0)
        before = store.view(RUN, INDEX)
        fetched.arrive(CHUNK_NBYTES)
        after = store.view(RUN, INDEX)
    finally:
        store.close()

    assert before is None
    assert after is not None
    assert bytes(after) == bytes([7]) * (CHUNK_NBYTES + 10)
    assert fetched.ends == [None]


@pytest.mark.parametrize("fill", [0, 2 * CHUNK_NBYTES], ids=["from the start", "on the way"])
def test_lack_of_room_is_said_and_leaves_nothing(tmp_path: Path, fill: int) -> None:
    with small_file_system(tmp_path, "4m"):
        store = ValueStore("small", tmp_path)
        fetched = Fetched(store, 3 * CHUNK_NBYTES if fill else 5 * CHUNK_NBYTES)
        fetched.arrive(0)
        if fill:
            (tmp_path / "another's").write_bytes(bytes(fill))
            fetched.arrive(CHUNK_NBYTES)
            fetched.arrive(2 * CHUNK_NBYTES)
        left = [*values_in(store.directory), *values_in(store.disk)]
        store.close()

    (end,) = fetched.ends
    assert end is not None
    assert end.kind == "store"
    assert end.reason.startswith("there is no room for its ")
    assert left == []
