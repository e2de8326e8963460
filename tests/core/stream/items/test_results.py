from handoff_actors.core.stream.events import ResultsReady, StreamResult
from handoff_actors.core.stream.items.results import ItemResults
from handoff_actors.core.stream.items.scope import Scope

A, B = StreamResult(0, {1: b"a"}), StreamResult(1, {1: b"b"})


def as_it_is(result: StreamResult) -> StreamResult:
    return result


def test_results_wait_for_those_of_earlier_items_of_their_owner() -> None:
    results = ItemResults(1, ordered=True)
    items = [results.add(number, 7) for number in range(2)]

    results.came((1,), None, B, items[1])
    assert not results.has_changed
    results.came((0,), None, A, items[0])
    assert results.hand_out(as_it_is) == ([ResultsReady(7, [A, B])], [])
    assert results.taken(7, 1) == [(A, items[0])]


def test_results_of_a_generator_are_in_order_within_their_item() -> None:
    results = ItemResults(2, ordered=True)
    item = results.add(0, 7)
    scope = Scope(item)

    results.came((0, 1), None, B, scope)
    assert results.hand_out(as_it_is) == ([], [])
    results.came((0, 0), None, A, scope)
    assert results.hand_out(as_it_is) == ([ResultsReady(7, [A, B])], [])
    assert not item.is_whole
    results.came((0,), 2, None, scope)
    assert item.is_whole


def test_result_that_is_being_made_again_is_asked_for_each_time() -> None:
    results = ItemResults(1, ordered=False)
    results.came((0,), None, A, results.add(0, 7))

    assert results.hand_out(lambda result: None) == ([], [])
    assert results.has_changed
    assert results.hand_out(as_it_is) == ([ResultsReady(7, [A])], [])
    assert not results.has_changed


def test_oldest_item_is_the_first_of_those_that_are_in_flight() -> None:
    results = ItemResults(1, ordered=True)
    items = [results.add(number, 0) for number in range(4)]

    results.forget(items[1])
    assert results.oldest == 0
    results.forget(items[0])
    assert results.oldest == 2


def test_nothing_is_left_of_owners_without_items() -> None:
    results = ItemResults(1, ordered=True)
    for number in range(100):
        results.forget(results.add(number, number))

    assert not results.items
    assert not results._owners
