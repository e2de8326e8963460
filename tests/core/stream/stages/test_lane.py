from handoff_actors.core.stream.events import ItemOutcome, LanePlace, SendToStage
from handoff_actors.core.stream.items.scope import Scope
from handoff_actors.core.stream.items.work import Work
from handoff_actors.core.stream.stages.lane import Lane
from handoff_actors.wire.messages.stage_rows import CloseStage
from tests.core.stream.builders import stored

PLACE = LanePlace("a", 10, 1)


def work(number: int, *, is_suspect: bool = False, credit: int = 0) -> Work:
    return Work(number, 1, (number,), [b"v"], Scope(), is_suspect=is_suspect, credit=credit)


def test_worker_takes_items_from_when_it_is_up_until_it_is_to_end() -> None:
    lane = Lane(0)

    assert not lane.is_usable
    lane.place = PLACE
    assert lane.is_usable
    lane.is_closing = True
    assert not lane.is_usable
    lane.is_closing, lane.is_stopping = False, True
    assert not lane.is_usable


def test_suspects_are_counted_while_the_worker_has_them() -> None:
    lane = Lane(0, PLACE)
    first, second = work(1, is_suspect=True), work(2, is_suspect=True)
    lane.hold(first)
    lane.hold(second)
    lane.hold(work(3))

    assert lane.suspects == 2
    assert lane.let_go(1) is first
    assert lane.let_go(1) is None
    assert lane.suspects == 1
    lane.clear(second)
    assert lane.suspects == 0
    assert not second.is_suspect


def test_worker_generates_while_a_generator_has_credit() -> None:
    lane = Lane(0, PLACE)
    lane.hold(work(1))

    assert not lane.is_generating
    lane.hold(work(2, credit=1))
    assert lane.is_generating


def test_lost_message_takes_back_what_was_sent_with_it_and_behind_it() -> None:
    lane = Lane(0, PLACE)
    works = [work(number) for number in range(3)]
    for each in works:
        lane.hold(each)
        lane.rows.append(CloseStage())
        lane.take_message()

    assert lane.take_back_from(1) == works[1:]
    assert lane.lose() == works[:1]


def test_message_names_the_stored_values_that_have_to_be_there() -> None:
    lane = Lane(0, PLACE)
    item = work(1)
    values: list[ItemOutcome] = [b"v", stored(5)]

    assert lane.value_rows(item, values) == [b"v", (5, 100)]
    lane.rows.append(CloseStage())
    assert lane.take_message() == SendToStage(PLACE, [CloseStage()], [stored(5)])
    assert list(item.needs) == [5]


def test_nothing_is_left_for_a_worker_that_is_lost() -> None:
    lane = Lane(0, PLACE, has_replaced_state=True, was_up=True, deadline=3.0)
    lane.hold(work(1, is_suspect=True))
    lane.value_rows(work(2), [stored(5)])

    lane.lose()

    assert (lane.place, lane.suspects, lane.deadline, lane.rows, lane.needs) == (None, 0, None, [], [])
    assert not lane.has_replaced_state
    assert not lane.was_up
