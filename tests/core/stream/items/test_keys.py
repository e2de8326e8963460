from handoff_actors.core.stream.items.keys import position_after, position_of_closing


def test_closing_comes_behind_the_results_that_it_counts() -> None:
    assert position_of_closing((4,), 2, 2) == (4, 2)
    assert position_of_closing((4,), 0, 3) == (4, 0, 0)


def test_next_item_follows_a_plain_item() -> None:
    assert position_after((4,), 1) == (5,)


def test_next_result_follows_a_result() -> None:
    assert position_after((4, 1), 2) == (4, 2)


def test_first_result_of_the_next_item_follows_a_closing() -> None:
    assert position_after((4,), 3) == (5, 0, 0)
