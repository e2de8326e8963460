from handoff_actors.core.stream.items.scope import Scope


def test_scope_is_over_when_nothing_of_it_is_alive() -> None:
    scope = Scope(alive=2)

    assert scope.end() == []
    assert scope.end() == [scope]


def test_scope_that_is_over_counts_no_more_in_the_one_that_it_is_part_of() -> None:
    whole = Scope(alive=1)
    part = whole.part()
    part.alive += 3
    whole.end()

    assert part.end(2) == []
    assert part.end() == [part, whole]


def test_scope_goes_on_while_another_part_of_it_does() -> None:
    whole = Scope()
    part, _other = whole.part(), whole.part()
    part.alive += 1

    assert part.end() == [part]
    assert whole.alive == 1
