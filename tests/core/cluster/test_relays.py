from random import Random

import pytest

from handoff_actors.core.cluster.relays import (
    MOST_KEPT_NBYTES,
    BeginRelay,
    EndRelay,
    RefusePiece,
    RelayEffect,
    Relays,
    SendPiece,
    TellOfRelay,
)
from handoff_actors.core.cluster.transfers import CHUNK_NBYTES
from handoff_actors.ids import RunId
from handoff_actors.wire.messages.values import Fetch

RUN = RunId(7)
VALUE = (RUN, 3, 0)
SIZE = 2 * CHUNK_NBYTES + 10


def fetch(chunk: int, request: int = 1, index: int = 3, run: RunId = RUN) -> Fetch:
    return Fetch(request, run, index, chunk * CHUNK_NBYTES, CHUNK_NBYTES)


def asked(relays: Relays, node: str, *chunks: int, request: int = 1) -> list[RelayEffect]:
    return [effect for chunk in chunks for effect in relays.wanted(node, fetch(chunk, request))]


def sent(effects: list[RelayEffect]) -> list[tuple[str, int]]:
    """The pieces that were sent: to which node, and the number of the chunk."""
    return [
        (effect.node, effect.wanted.offset // CHUNK_NBYTES)
        for effect in effects
        if isinstance(effect, SendPiece)
    ]


def relayed(relays: Relays, index: int, nbytes: int) -> list[RelayEffect]:
    """A value of this size comes and goes to "b"."""
    effects = relays.wanted("b", Fetch(index, RUN, index, 0, CHUNK_NBYTES))
    effects += relays.received((RUN, index, 0), nbytes, nbytes)
    effects += relays.completed((RUN, index, 0))
    last = nbytes - CHUNK_NBYTES
    return effects + relays.wanted("b", Fetch(index, RUN, index, last, CHUNK_NBYTES))


def test_pieces_are_passed_on_as_soon_as_they_are_here() -> None:
    relays = Relays()

    begun = asked(relays, "b", 0, 1, 2)
    first = relays.received(VALUE, CHUNK_NBYTES, SIZE)
    second = relays.received(VALUE, 2 * CHUNK_NBYTES, SIZE)
    third = relays.received(VALUE, SIZE, SIZE)

    assert begun == [BeginRelay(VALUE)]
    assert first == [TellOfRelay("b", VALUE), SendPiece("b", VALUE, fetch(0), SIZE)]
    assert second == [SendPiece("b", VALUE, fetch(1), SIZE)]
    assert third == [SendPiece("b", VALUE, fetch(2), SIZE)]
    relays.check()


def test_nodes_that_ask_for_the_same_value_share_one_transfer() -> None:
    relays = Relays()
    begun = asked(relays, "b", 0, 1, 2)
    relays.received(VALUE, CHUNK_NBYTES, SIZE)

    joined = asked(relays, "c", 0, 1, 2, request=9)
    rest = relays.received(VALUE, SIZE, SIZE) + relays.completed(VALUE)
    late = asked(relays, "d", 0, 1, 2)

    assert begun == [BeginRelay(VALUE)]
    assert joined == [TellOfRelay("c", VALUE), SendPiece("c", VALUE, fetch(0, 9), SIZE)]
    assert sent(rest) == [("b", 1), ("b", 2), ("c", 1), ("c", 2)]
    assert late[0] == TellOfRelay("d", VALUE)
    assert sent(late) == [("d", 0), ("d", 1), ("d", 2)]
    relays.check()


def test_empty_value_is_passed_on_too() -> None:
    relays = Relays()
    asked(relays, "b", 0)

    assert relays.received(VALUE, 0, 0) == [TellOfRelay("b", VALUE), SendPiece("b", VALUE, fetch(0), 0)]


def test_run_is_told_once_of_each_node() -> None:
    relays = Relays()
    asked(relays, "b", 0, 1, 2)
    relays.received(VALUE, SIZE, SIZE)
    relays.completed(VALUE)

    again = asked(relays, "b", 0, 1, 2, request=2)

    assert not any(isinstance(effect, TellOfRelay) for effect in again)
    assert sent(again) == [("b", 0), ("b", 1), ("b", 2)]


@pytest.mark.parametrize(
    ("kind", "reason"), [("input", ""), ("unreachable", "refused"), ("store", "refused")]
)
def test_nodes_hear_whether_a_value_is_gone_or_only_can_not_be_had(kind: str, reason: str) -> None:
    relays = Relays()
    asked(relays, "b", 0, 1)
    asked(relays, "c", 0, request=5)

    assert relays.failed(VALUE, kind, "refused") == [  # type: ignore[arg-type]
        RefusePiece("b", 1, reason),
        RefusePiece("c", 5, reason),
    ]
    assert asked(relays, "c", 0, request=6) == [BeginRelay(VALUE)]


def test_value_from_another_holder_is_for_those_who_have_had_nothing_of_the_first() -> None:
    relays = Relays()
    asked(relays, "b", 0, 1)
    relays.received(VALUE, CHUNK_NBYTES, SIZE)
    relays.wanted("c", fetch(1, 5))
    asked(relays, "d", 0, 1, request=7)
    relays.restarted(VALUE)
    asked(relays, "e", 0, request=8)

    later = asked(relays, "b", 2)
    comes = relays.received(VALUE, CHUNK_NBYTES, 4 * CHUNK_NBYTES)

    assert [effect for effect in later if isinstance(effect, RefusePiece)] == later != []
    assert sent(comes) == [("e", 0)]
    relays.check()


def test_those_who_wait_are_told_when_it_begins_anew() -> None:
    relays = Relays()
    asked(relays, "b", 0, 1, 2)
    relays.received(VALUE, CHUNK_NBYTES, SIZE)
    asked(relays, "c", 0, request=5)
    relays.restarted(VALUE)
    asked(relays, "c", 0, 1, request=6)

    refused = relays.restarted(VALUE)

    assert refused == []
    assert sent(relays.received(VALUE, SIZE, SIZE)) == [("c", 0), ("c", 1)]


def test_piece_of_a_value_that_is_not_kept_is_refused() -> None:
    relays = Relays()

    (refused,) = asked(relays, "b", 1)

    assert isinstance(refused, RefusePiece)
    assert refused.reason


def test_nothing_is_fetched_for_nodes_that_are_gone() -> None:
    relays = Relays()
    asked(relays, "b", 0)
    asked(relays, "c", 0, request=2)

    first, second = relays.node_gone("b"), relays.node_gone("c")

    assert first == []
    assert second == [EndRelay(VALUE)]
    assert relays.received(VALUE, SIZE, SIZE) == []
    assert relays.restarted(VALUE) == relays.completed(VALUE) == relays.failed(VALUE, "input", "") == []


def test_values_are_dropped_with_their_run() -> None:
    relays = Relays()
    asked(relays, "b", 0)
    relays.wanted("b", fetch(0, 2, run=RunId(8)))

    assert relays.forget(RUN) == [EndRelay(VALUE)]
    assert relays.forget(RUN) == []


def test_values_of_a_run_that_has_ended_are_kept_no_longer_than_they_are_being_served() -> None:
    relays = Relays()
    relayed(relays, 1, SIZE)
    asked(relays, "b", 0)

    ended = relays.run_ended(RUN)
    served = relays.received(VALUE, SIZE, SIZE) + relays.completed(VALUE) + asked(relays, "b", 1, 2)

    assert ended == [EndRelay((RUN, 1, 0))]
    assert served[-1] == EndRelay(VALUE)
    assert relays.forget(RUN) == []


def test_values_that_nobody_is_served_with_make_room_for_others_in_the_order_of_their_last_use() -> None:
    relays = Relays()
    large = MOST_KEPT_NBYTES * 2 // 5
    kept = [effect for index in (0, 1) for effect in relayed(relays, index, large)]
    relays.wanted("c", Fetch(1, RUN, 0, 0, CHUNK_NBYTES))
    relays.wanted("c", Fetch(1, RUN, 0, large - 1, CHUNK_NBYTES))

    third = relayed(relays, 2, large)

    assert not any(isinstance(effect, EndRelay) for effect in kept)
    assert [effect for effect in third if isinstance(effect, EndRelay)] == [EndRelay((RUN, 1, 0))]


def test_value_that_is_being_served_stays_whatever_its_size_and_later_ones_go_to_disk() -> None:
    relays = Relays()
    relays.wanted("b", fetch(0))
    has_room = relays.has_room_in_memory(MOST_KEPT_NBYTES), relays.has_room_in_memory(MOST_KEPT_NBYTES + 1)

    effects = relays.received(VALUE, 2 * MOST_KEPT_NBYTES, 2 * MOST_KEPT_NBYTES) + relays.completed(VALUE)
    has_more = relays.has_room_in_memory(1)
    last = relays.wanted("b", Fetch(1, RUN, 3, 2 * MOST_KEPT_NBYTES - 1, CHUNK_NBYTES))

    assert has_room == (True, False)
    assert not has_more
    assert not any(isinstance(effect, EndRelay) for effect in effects)
    assert [type(effect) for effect in last] == [SendPiece, EndRelay]
    assert relays.has_room_in_memory(1)


class RandomWorld:
    """Six transfers of one value, which comes, begins anew and fails at any time."""

    def __init__(self, seed: int) -> None:
        self.relays = Relays()
        self._random = Random(seed)
        self._size = self._random.choice((0, 1, CHUNK_NBYTES, 5 * CHUNK_NBYTES + 3))
        chunks = max(1, -(-self._size // CHUNK_NBYTES))
        self._wants = {(node, request): list(range(chunks)) for node in "bcd" for request in (1, 2)}
        self.got: dict[tuple[str, int], list[int]] = {asker: [] for asker in self._wants}
        self._here = -1
        self._refused: set[tuple[str, int]] = set()

    def step(self) -> None:
        match self._random.randrange(40):
            case 0 if 0 <= self._here < self._size:
                self._here = 0
                self._perform(self.relays.restarted(VALUE))
            case 1 if 0 <= self._here < self._size:
                self._here = -1
                self._perform(self.relays.failed(VALUE, "unreachable", "refused"))
            case 2 | 3 | 4 | 5 | 6 | 7 if 0 <= self._here <= self._size:
                self._come()
            case _:
                self._ask()
        self.relays.check()

    def _come(self) -> None:
        self._here = min(self._size, self._here + CHUNK_NBYTES)
        self._perform(self.relays.received(VALUE, self._here, self._size))
        if self._here == self._size:
            self._here = self._size + 1
            self._perform(self.relays.completed(VALUE))

    def _ask(self) -> None:
        node, request = asker = self._random.choice(sorted(self._wants))
        if self._wants[asker] and asker not in self._refused:
            self._perform(self.relays.wanted(node, fetch(self._wants[asker].pop(0), request)))

    def _perform(self, effects: list[RelayEffect]) -> None:
        for effect in effects:
            match effect:
                case BeginRelay():
                    self._here = 0
                case SendPiece(node, _, wanted):
                    self.got[node, wanted.request].append(wanted.offset // CHUNK_NBYTES)
                case RefusePiece(node, number):
                    self._refused.add((node, number))
                case _:
                    pass


@pytest.mark.parametrize("seed", range(100))
def test_each_node_gets_the_pieces_in_order_and_each_once(seed: int) -> None:
    world = RandomWorld(seed)

    for _ in range(200):
        world.step()

    for asker, chunks in world.got.items():
        assert chunks == list(range(len(chunks))), asker
