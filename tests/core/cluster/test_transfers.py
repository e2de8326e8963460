from collections import Counter, deque
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from handoff_actors.core.cluster.transfers import (
    CHUNK_NBYTES,
    MAX_TRANSFERS,
    MAX_VALUE_NBYTES,
    TURN_CHUNKS,
    WINDOW_CHUNKS,
    FetchEffect,
    RequestChunk,
    TransferCompleted,
    TransferFailed,
    TransferRestarted,
    Transfers,
)
from handoff_actors.ids import RunId
from handoff_actors.wire.messages.values import Fetch

RUN = RunId(7)
INDEX = 3


def ask(holder: str, request: int, *chunks: int) -> list[FetchEffect]:
    """Chunks by their number."""
    fetches = (Fetch(request, RUN, INDEX, chunk * CHUNK_NBYTES, CHUNK_NBYTES) for chunk in chunks)
    return [RequestChunk(holder, fetch) for fetch in fetches]


def start_transfer(transfers: Transfers, request: int, nbytes: int, *holders: str) -> list[FetchEffect]:
    return transfers.start(request, RUN, INDEX, nbytes, holders)


def busy_fetching(*waiting: int) -> Transfers:
    """The largest number of active transfers from `a`, numbered from 1, and the given ones, which wait."""
    transfers = Transfers()
    for request in [*range(1, MAX_TRANSFERS + 1), *waiting]:
        start_transfer(transfers, request, 10, "a", "b")
    return transfers


RELAY = "app:1"


def relayed_transfer(*holders: str, cut_off: Sequence[str] = ()) -> tuple[Transfers, list[FetchEffect]]:
    transfers = Transfers()
    return transfers, transfers.start(1, RUN, INDEX, 10, holders, relay=RELAY, cut_off=cut_off)


# --- One transfer ---------------------------------------------------------------------------------------------


def test_value_of_one_chunk_is_asked_for_once_and_lands() -> None:
    transfers = Transfers()

    asked = start_transfer(transfers, 1, 10, "a")
    landed = transfers.chunk_received(1, 10, 10)

    assert asked == ask("a", 1, 0)
    assert landed == [TransferCompleted(1)]
    assert transfers.current_holder(1) is None
    transfers.check()


def test_window_of_chunks_is_asked_for_and_moves_with_what_arrives() -> None:
    transfers = Transfers()
    total = (WINDOW_CHUNKS + 1) * CHUNK_NBYTES + 1

    asked = start_transfer(transfers, 1, total, "a")
    after_each = [transfers.chunk_received(1, CHUNK_NBYTES, total) for _ in range(WINDOW_CHUNKS + 1)]
    landed = transfers.chunk_received(1, 1, total)

    assert asked == ask("a", 1, *range(WINDOW_CHUNKS))
    assert after_each == [ask("a", 1, WINDOW_CHUNKS), ask("a", 1, WINDOW_CHUNKS + 1), [], [], []]
    assert landed == [TransferCompleted(1)]


def test_empty_value_lands_with_its_only_chunk() -> None:
    transfers = Transfers()

    asked = start_transfer(transfers, 1, 0, "a")

    assert asked == ask("a", 1, 0)
    assert transfers.is_expected(1, 0, 0, 0)
    assert transfers.chunk_received(1, 0, 0) == [TransferCompleted(1)]


def test_value_that_is_larger_than_was_said_is_asked_for_to_its_end() -> None:
    transfers = Transfers()
    start_transfer(transfers, 1, 10, "a")

    assert transfers.is_expected(1, 0, CHUNK_NBYTES, CHUNK_NBYTES + 5)
    assert transfers.chunk_received(1, CHUNK_NBYTES, CHUNK_NBYTES + 5) == ask("a", 1, 1)
    assert transfers.chunk_received(1, 5, CHUNK_NBYTES + 5) == [TransferCompleted(1)]


def test_value_that_is_smaller_than_was_said_lands_with_its_last_chunk() -> None:
    transfers = Transfers()
    start_transfer(transfers, 1, 3 * CHUNK_NBYTES, "a")

    assert transfers.is_expected(1, 0, 5, 5)
    assert transfers.chunk_received(1, 5, 5) == [TransferCompleted(1)]
    assert transfers.chunk_received(1, 0, 5) == []


@pytest.mark.parametrize(
    ("offset", "nbytes", "total"),
    [
        (0, CHUNK_NBYTES, 3 * CHUNK_NBYTES),  # came before
        (2 * CHUNK_NBYTES, CHUNK_NBYTES, 3 * CHUNK_NBYTES),  # leaves one out
        (CHUNK_NBYTES, CHUNK_NBYTES, 4 * CHUNK_NBYTES),  # of another size than at first
        (CHUNK_NBYTES, CHUNK_NBYTES - 1, 3 * CHUNK_NBYTES),  # leaves a gap
        (CHUNK_NBYTES, 0, 3 * CHUNK_NBYTES),
        (CHUNK_NBYTES, CHUNK_NBYTES + 1, 3 * CHUNK_NBYTES),  # more than was asked for
    ],
)
def test_chunk_that_does_not_follow_is_not_expected(offset: int, nbytes: int, total: int) -> None:
    transfers = Transfers()
    start_transfer(transfers, 1, 3 * CHUNK_NBYTES, "a")
    transfers.chunk_received(1, CHUNK_NBYTES, 3 * CHUNK_NBYTES)

    assert transfers.is_expected(1, CHUNK_NBYTES, CHUNK_NBYTES, 3 * CHUNK_NBYTES)
    assert not transfers.is_expected(1, offset, nbytes, total)


def test_first_chunk_of_a_value_that_no_machine_has_room_for_is_not_expected() -> None:
    transfers = Transfers()
    start_transfer(transfers, 1, 10, "a")

    assert transfers.is_expected(1, 0, CHUNK_NBYTES, MAX_VALUE_NBYTES)
    assert not transfers.is_expected(1, 0, CHUNK_NBYTES, MAX_VALUE_NBYTES + 1)


def test_unrequested_chunk_is_not_expected() -> None:
    transfers = busy_fetching(8)

    assert transfers.current_holder(8) == "a"
    assert not transfers.is_expected(8, 0, 10, 10)


# --- Several holders ------------------------------------------------------------------------------------------


def test_value_without_holders_is_lost() -> None:
    transfers = Transfers()

    assert start_transfer(transfers, 1, 10) == [TransferFailed(1, "no holder is known")]
    assert transfers.current_holder(1) is None
    transfers.check()


def test_next_holder_is_asked_from_the_start_and_may_have_another_size() -> None:
    transfers = Transfers()
    start_transfer(transfers, 1, 2 * CHUNK_NBYTES, "a", "b", "a")
    transfers.chunk_received(1, CHUNK_NBYTES, 2 * CHUNK_NBYTES)

    restarted = transfers.value_gone(1)

    assert restarted == [TransferRestarted(1), *ask("b", 1, 0, 1)]
    assert transfers.current_holder(1) == "b"
    assert transfers.is_expected(1, 0, 9, 9)
    assert transfers.chunk_received(1, 9, 9) == [TransferCompleted(1)]


def test_value_is_lost_once_no_holder_has_it_any_more() -> None:
    transfers = Transfers()
    start_transfer(transfers, 1, 10, "a", "b", "a")

    assert transfers.value_gone(1) == [TransferRestarted(1), *ask("b", 1, 0)]
    assert transfers.value_gone(1) == [
        TransferFailed(1, "a doesn't have it any more; b doesn't have it any more")
    ]
    assert transfers.value_gone(1) == []
    transfers.check()


def test_all_transfers_leave_a_lost_holder_and_request_nothing_from_it() -> None:
    transfers = busy_fetching(8, 9)

    effects = transfers.holder_lost("a", "refused")

    asked = [
        effect
        for request in range(1, MAX_TRANSFERS + 1)
        for effect in (TransferRestarted(request), *ask("b", request, 0))
    ]
    assert effects == [*asked, TransferRestarted(8), TransferRestarted(9)]
    assert transfers.chunk_received(1, 10, 10) == [TransferCompleted(1), *ask("b", 8, 0)]
    transfers.check()


def test_reason_names_the_holder_that_was_lost() -> None:
    transfers = Transfers()
    start_transfer(transfers, 1, 10, "a")
    start_transfer(transfers, 2, 10, "")

    assert transfers.holder_lost("a", "refused") == [
        TransferFailed(1, "a can't be reached: refused", "unreachable")
    ]
    assert transfers.holder_lost("", "closed") == [
        TransferFailed(2, "the app can't be reached: closed", "unreachable")
    ]


def test_holder_without_requests_can_be_lost() -> None:
    transfers = busy_fetching()

    assert transfers.holder_lost("b", "refused") == []


# --- Many transfers -------------------------------------------------------------------------------------------


class OneHolder:
    """A holder that supplies chunks in the order of the requests."""

    def __init__(self, *totals: int) -> None:
        self.transfers = Transfers()
        self.totals = dict(enumerate(totals, start=1))
        self.arrived = dict.fromkeys(self.totals, 0)
        #: (request, bytes) that have been requested and not supplied.
        self.asked: deque[tuple[int, int]] = deque()
        for request, total in self.totals.items():
            self._note(start_transfer(self.transfers, request, total, "a"))

    def give(self) -> None:
        request, nbytes = self.asked.popleft()
        self.arrived[request] += nbytes
        self._note(self.transfers.chunk_received(request, nbytes, self.totals[request]))
        self.transfers.check()

    def is_done(self, request: int) -> bool:
        return self.arrived[request] == self.totals[request]

    def _note(self, effects: list[FetchEffect]) -> None:
        for effect in effects:
            if isinstance(effect, RequestChunk):
                request, offset = effect.message.request, effect.message.offset
                self.asked.append((request, min(CHUNK_NBYTES, self.totals[request] - offset)))


def test_small_value_waits_for_a_turn_of_large_ones_only() -> None:
    holder = OneHolder(*[100 * TURN_CHUNKS * CHUNK_NBYTES] * MAX_TRANSFERS, 10)

    given = 0
    while not holder.is_done(MAX_TRANSFERS + 1):
        holder.give()
        given += 1

    assert given <= MAX_TRANSFERS * (TURN_CHUNKS + WINDOW_CHUNKS)


def test_many_values_share_a_holder_fairly() -> None:
    holder = OneHolder(*[10 * TURN_CHUNKS * CHUNK_NBYTES + 1] * (2 * MAX_TRANSFERS - 1))
    widest = 0

    while holder.asked:
        holder.give()
        assert len(holder.asked) <= MAX_TRANSFERS * WINDOW_CHUNKS
        widest = max(widest, max(holder.arrived.values()) - min(holder.arrived.values()))

    assert all(map(holder.is_done, holder.totals))
    assert widest <= 2 * TURN_CHUNKS * CHUNK_NBYTES


def test_transfer_keeps_its_window_full_while_no_other_waits() -> None:
    holder = OneHolder(3 * TURN_CHUNKS * CHUNK_NBYTES)

    for _ in range(3 * TURN_CHUNKS - WINDOW_CHUNKS):
        assert len(holder.asked) == WINDOW_CHUNKS
        holder.give()


def test_transfers_beyond_the_limit_wait_for_their_turn() -> None:
    transfers = busy_fetching()

    assert start_transfer(transfers, 8, 10, "a") == []
    assert start_transfer(transfers, 9, 10, "a") == []
    assert transfers.chunk_received(2, 10, 10) == [TransferCompleted(2), *ask("a", 8, 0)]
    assert transfers.chunk_received(8, 10, 10) == [TransferCompleted(8), *ask("a", 9, 0)]
    transfers.check()


def test_value_that_is_gone_makes_room_for_a_waiting_transfer() -> None:
    transfers = busy_fetching(8)

    assert transfers.value_gone(1) == [*ask("a", 8, 0), TransferRestarted(1), *ask("b", 1, 0)]
    transfers.check()


def test_value_of_a_waiting_transfer_can_be_gone() -> None:
    transfers = busy_fetching(8)

    assert transfers.value_gone(8) == [TransferRestarted(8), *ask("b", 8, 0)]
    transfers.check()


def test_cancelled_transfer_makes_room_and_its_chunks_change_nothing() -> None:
    transfers = busy_fetching(8)

    assert transfers.cancel(1) == ask("a", 8, 0)
    assert transfers.current_holder(1) is None
    assert transfers.chunk_received(1, 10, 10) == []
    assert transfers.value_gone(1) == []
    assert transfers.cancel(1) == []
    transfers.check()


def test_no_cancelled_transfer_is_started_in_the_place_of_another() -> None:
    transfers = busy_fetching(8, 9, 10)

    assert transfers.cancel(1, 2, 8, 9) == ask("a", 10, 0)
    transfers.check()


# --- Properties -----------------------------------------------------------------------------------------------

HOLDERS = ("a", "b", "c", "")
SIZES = st.sampled_from([0, 1, CHUNK_NBYTES, CHUNK_NBYTES + 1, 3 * CHUNK_NBYTES, 9 * CHUNK_NBYTES - 1])


class Exchange:
    """Holders that answer in order, vanish, or lose a value; their copies may differ in size."""

    def __init__(self, random: Random) -> None:
        self.transfers = Transfers()
        self.ends: Counter[int] = Counter()
        self.open: set[int] = set()
        self._random = random
        self._asked: dict[str, deque[Fetch]] = {holder: deque() for holder in HOLDERS}
        self._sizes: dict[tuple[str, int], int] = {}
        #: Bytes of each value received so far.
        self._written: Counter[int] = Counter()
        self._totals: dict[int, int] = {}

    def start(self, request: int, nbytes: int, holders: list[str]) -> None:
        self.open.add(request)
        for holder in holders:
            self._sizes[holder, request] = self._random.choice(
                [nbytes, nbytes, nbytes + CHUNK_NBYTES, nbytes // 2]
            )
        self._perform(self.transfers.start(request, RUN, INDEX, nbytes, holders))

    def step(self) -> None:
        """Let a holder answer one request, or vanish; or let the receiver cancel a transfer."""
        busy = [holder for holder in HOLDERS if self._asked[holder]]
        holder = self._random.choice(busy)
        match self._random.randrange(40):
            case 0:
                self._asked[holder].clear()
                self._perform(self.transfers.holder_lost(holder, "vanished"))
            case 1 if self.open:
                cancelled = self._random.sample(sorted(self.open), self._random.randint(1, len(self.open)))
                self.open.difference_update(cancelled)
                self._perform(self.transfers.cancel(*cancelled))
            case kind:
                self._answer(holder, self._asked[holder].popleft(), has_it=kind > 3)

    @property
    def is_over(self) -> bool:
        return not any(self._asked.values())

    def _answer(self, holder: str, fetch: Fetch, *, has_it: bool) -> None:
        if self.transfers.current_holder(fetch.request) != holder:
            return
        total = self._sizes[holder, fetch.request]
        nbytes = max(0, min(fetch.length, total - fetch.offset))
        if not has_it or not self.transfers.is_expected(fetch.request, fetch.offset, nbytes, total):
            self._perform(self.transfers.value_gone(fetch.request))
            return
        assert fetch.offset == self._written[fetch.request]
        self._written[fetch.request] += nbytes
        self._totals[fetch.request] = total
        self._perform(self.transfers.chunk_received(fetch.request, nbytes, total))

    def _perform(self, effects: list[FetchEffect]) -> None:
        for effect in effects:
            match effect:
                case RequestChunk(holder, fetch):
                    self._asked[holder].append(fetch)
                case TransferRestarted(request):
                    self._written[request] = 0
                case TransferCompleted(request):
                    assert self._written[request] == self._totals[request]
                    self._end(request)
                case TransferFailed(request):
                    self._end(request)
        self.transfers.check()
        for holder, fetches in self._asked.items():
            counted = [fetch for fetch in fetches if self.transfers.current_holder(fetch.request) == holder]
            assert len(counted) <= MAX_TRANSFERS * WINDOW_CHUNKS

    def _end(self, request: int) -> None:
        self.open.remove(request)
        self.ends[request] += 1


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(SIZES, st.lists(st.sampled_from(HOLDERS), unique=True)), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_each_transfer_lands_whole_or_is_lost_just_once_and_no_holder_is_flooded(
    values: list[tuple[int, list[str]]], random: Random
) -> None:
    exchange = Exchange(random)
    for request, (nbytes, holders) in enumerate(values):
        exchange.start(request, nbytes, holders)
    while not exchange.is_over:
        exchange.step()

    assert exchange.open == set()
    assert set(exchange.ends.values()) <= {1}


# --- Relays ---------------------------------------------------------------------------------------------------


def test_relay_is_asked_once_no_holder_can_be_reached() -> None:
    transfers, _ = relayed_transfer("a", "b")

    second = transfers.holder_lost("a", "refused")
    third = transfers.holder_lost("b", "refused")

    assert second == [TransferRestarted(1), *ask("b", 1, 0)]
    assert third == [TransferRestarted(1), *ask(RELAY, 1, 0)]
    assert transfers.chunk_received(1, 10, 10) == [TransferCompleted(1)]
    transfers.check()


def test_relay_is_asked_at_once_in_place_of_holders_that_are_cut_off() -> None:
    _, asked = relayed_transfer(cut_off=["a"])
    other, first = relayed_transfer("b", cut_off=["a"])

    assert asked == ask(RELAY, 1, 0)
    assert first == ask("b", 1, 0)
    assert other.value_gone(1) == [TransferRestarted(1), *ask(RELAY, 1, 0)]


def test_relay_is_not_asked_for_a_value_that_its_holders_do_not_have() -> None:
    transfers, _ = relayed_transfer("a")

    assert transfers.value_gone(1) == [TransferFailed(1, "a doesn't have it any more")]


def test_value_that_the_relay_finds_nowhere_is_gone() -> None:
    transfers, _ = relayed_transfer(cut_off=["a"])

    assert transfers.value_gone(1) == [
        TransferFailed(1, "a can't be reached; the app doesn't have it any more")
    ]


def test_value_that_the_relay_can_not_get_either_is_not_gone() -> None:
    transfers, _ = relayed_transfer("a")
    transfers.holder_lost("a", "refused")

    assert transfers.value_gone(1, "nor by the app") == [
        TransferFailed(1, "a can't be reached: refused; nor by the app", "unreachable")
    ]


def test_value_is_not_gone_because_the_relay_is() -> None:
    transfers, _ = relayed_transfer(cut_off=["a"])

    assert transfers.holder_lost(RELAY, "closed") == [
        TransferFailed(1, "a can't be reached; the app can't be reached: closed", "unreachable")
    ]
