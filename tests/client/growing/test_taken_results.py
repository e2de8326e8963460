"""Results that functions take which are not with an open run yet: the run must not let go of them before."""

from handoff_actors.client.growing.taken_results import TakenResults
from handoff_actors.graph.function import Function


class CountedId(str):
    """An id that counts how often it is looked up."""

    __slots__ = ()
    hashed = 0

    def __hash__(self) -> int:
        CountedId.hashed += 1
        return super().__hash__()


def taking(*producers: str) -> Function:
    return Function("taking", producers, sum)


def test_result_is_let_go_of_when_nothing_takes_it() -> None:
    taken = TakenResults()
    taken.count(taking("a"), 1)

    assert taken.let_go(["a", "b"]) == ["b"]
    assert taken.let_go([]) == []
    assert not taken.has_free
    taken.count(taking("a"), -1)
    assert taken.has_free
    assert taken.let_go([]) == ["a"]
    assert not taken.has_free
    assert taken.let_go([]) == []


def test_result_is_kept_for_the_last_of_those_that_take_it() -> None:
    taken = TakenResults()
    for _ in range(2):
        taken.count(taking("a", "a"), 1)

    assert taken.let_go(["a"]) == []
    taken.count(taking("a", "a"), -1)
    assert taken.let_go([]) == []
    taken.count(taking("a", "a"), -1)
    assert taken.let_go([]) == ["a"]


def test_result_that_is_taken_anew_by_its_id_is_kept() -> None:
    taken = TakenResults()
    taken.count(taking("a"), 1)
    assert taken.let_go(["a"]) == []
    taken.count(taking("a"), -1)
    taken.count(taking("a"), 1)

    assert taken.let_go([]) == []
    taken.count(taking("a"), -1)
    assert taken.let_go([]) == ["a"]


def test_results_that_are_kept_cost_nothing_while_others_are_let_go_of() -> None:
    taken = TakenResults()
    kept = [CountedId(number) for number in range(100)]
    taken.count(taking(*kept), 1)
    assert taken.let_go(kept) == []

    before = CountedId.hashed
    assert taken.let_go(["b"]) == ["b"]
    assert CountedId.hashed == before
