"""Inputs that come from apps, which hold some and relay others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from handoff_actors.actors.node.input_fetcher import InputFetcher
from handoff_actors.actors.node.metrics import NodeMetrics
from handoff_actors.actors.node.module_definitions import ModuleDefinitions
from handoff_actors.actors.node.store_watch import StoreWatch
from handoff_actors.core.cluster.transfers import CHUNK_NBYTES, MAX_TRANSFERS
from handoff_actors.core.node.events import FetchInput, InputFetched, InputMissing, NodeEvent
from handoff_actors.ids import Index, PeerId, RunId
from handoff_actors.store.files import ValueStore
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone

RUN, PEER = RunId(7), PeerId(b"peer")
OWN = "tcp://10.0.0.2:7070"
ELSEWHERE = "tcp://10.0.0.1:7070"


class Inputs:
    """The inputs of a node that has no connections to other nodes."""

    def __init__(self, store: ValueStore) -> None:
        self.asked: list[Fetch] = []
        self.events: list[NodeEvent] = []
        own, feed = ModuleDefinitions(list), self.events.append
        watch = StoreWatch("n2", store, feed)
        self.fetcher = InputFetcher("n2", watch, feed, self._ask, NodeMetrics(), own)

    def fetch(self, index: int, holder: str) -> None:
        self.fetcher.fetch(FetchInput(PEER, RUN, index, 3, (holder,)), OWN)

    def answer(self, fetch: Fetch, data: bytes) -> None:
        self.fetcher.heard(PEER, Chunk(fetch.request, 0, len(data), memoryview(data)))

    def _ask(self, peer: PeerId, fetch: Fetch) -> None:
        assert peer == PEER
        self.asked.append(fetch)


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inputs]:
    monkeypatch.setattr("handoff_actors.store.files.memory_directory", lambda: tmp_path)
    store = ValueStore("inputs", tmp_path)
    yield Inputs(store)
    store.close()


async def test_app_is_asked_for_what_is_on_nodes_that_can_not_be_reached(inputs: Inputs) -> None:
    inputs.fetch(3, ELSEWHERE)
    (asked,) = inputs.asked

    inputs.answer(asked, b"abc")

    assert (asked.run, asked.index, asked.offset) == (RUN, 3, 0)
    assert inputs.events == [InputFetched(RUN, 3, 3)]


async def test_constants_do_not_wait_for_values_that_the_app_has_to_get_first(inputs: Inputs) -> None:
    for index in range(MAX_TRANSFERS + 1):
        inputs.fetch(index, ELSEWHERE)

    inputs.fetch(100, "")
    constant = inputs.asked[-1]
    inputs.answer(constant, b"abc")

    assert [fetch.index for fetch in inputs.asked] == [*range(MAX_TRANSFERS), 100]
    assert inputs.events == [InputFetched(RUN, 100, 3)]


async def test_app_that_finds_a_value_nowhere_tells_it_from_one_that_can_not_get_it(inputs: Inputs) -> None:
    inputs.fetch(3, ELSEWHERE)
    inputs.fetch(4, ELSEWHERE)

    inputs.fetcher.heard(PEER, Gone(inputs.asked[0].request))
    inputs.fetcher.heard(PEER, Gone(inputs.asked[1].request, "nor does the app"))

    assert [(event.index, event.kind) for event in inputs.events if isinstance(event, InputMissing)] == [
        (3, "input"),
        (4, "unreachable"),
    ]


async def test_app_that_is_gone_relays_nothing_more(inputs: Inputs) -> None:
    inputs.fetch(3, ELSEWHERE)
    inputs.fetch(100, "")

    inputs.fetcher.lost(PEER, "its lease has ended")

    assert [(event.index, event.kind) for event in inputs.events if isinstance(event, InputMissing)] == [
        (100, "unreachable"),
        (3, "unreachable"),
    ]


def sizes_in(directory: Path) -> list[int]:
    return [path.stat().st_size for path in directory.rglob(f"{RUN:016x}*")]


async def test_value_that_is_given_up_never_comes_and_leaves_nothing(inputs: Inputs, tmp_path: Path) -> None:
    large = 2 * CHUNK_NBYTES
    inputs.fetcher.fetch(FetchInput(PEER, RUN, Index(3), large, ("",), version=2), OWN)
    first, *_ = inputs.asked
    inputs.fetcher.heard(PEER, Chunk(first.request, 0, large, memoryview(bytes(CHUNK_NBYTES))))

    inputs.fetcher.give_up(RUN, [Index(3), Index(4)])
    inputs.fetcher.heard(PEER, Chunk(first.request, CHUNK_NBYTES, large, memoryview(bytes(CHUNK_NBYTES))))
    inputs.fetch(3, "")
    inputs.answer(inputs.asked[-1], b"abc")

    assert inputs.events == [InputFetched(RUN, 3, 3)]
    assert sizes_in(tmp_path) == [3]
