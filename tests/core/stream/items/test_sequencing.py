from handoff_actors.core.stream.items.sequencing import Sequencer


def test_entries_in_order_pass_at_once() -> None:
    sequencer: Sequencer[str] = Sequencer(1)

    assert [sequencer.add((number,), None, f"{number}") for number in range(3)] == [["0"], ["1"], ["2"]]


def test_entries_that_come_too_early_wait_for_those_before() -> None:
    sequencer: Sequencer[str] = Sequencer(1)

    assert sequencer.add((2,), None, "2") == []
    assert sequencer.add((1,), None, "1") == []
    assert len(sequencer) == 2
    assert sequencer.add((0,), None, "0") == ["0", "1", "2"]
    assert len(sequencer) == 0


def test_item_that_comes_elsewhere_is_passed_over() -> None:
    sequencer: Sequencer[str] = Sequencer(1)

    assert sequencer.add((0,), None, None) == []
    assert sequencer.add((2,), None, "2") == []
    assert sequencer.add((1,), None, None) == ["2"]


def test_results_of_an_item_come_before_those_of_the_next() -> None:
    sequencer: Sequencer[str] = Sequencer(2)

    assert sequencer.add((1, 0), None, "1, 0") == []
    assert sequencer.add((0, 0), None, "0, 0") == ["0, 0"]
    assert sequencer.add((0,), 1, "end of 0") == ["end of 0", "1, 0"]


def test_order_may_be_that_of_the_results_of_one_item_alone() -> None:
    sequencer: Sequencer[str] = Sequencer(2, (7, 0))

    assert sequencer.add((7, 1), None, "7, 1") == []
    assert sequencer.add((7, 0), None, "7, 0") == ["7, 0", "7, 1"]
