import pytest

from tests.simulation.nested_worlds import LEASE_S, LEVELS, World

#: Far beyond the time that any of these worlds takes.
NEVER = 1e6


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_nested_runs_end_with_an_error_exactly_where_they_would_wait_for_ever(first: int) -> None:
    for seed in range(first, first + 20):
        patient, impatient = World(seed, NEVER), World(seed, 2.0)

        patient.play()
        impatient.play()

        assert impatient.is_over, f"world {seed} hangs"
        assert bool(impatient.deadlocks) == (not patient.is_over), f"world {seed}"


def test_both_kinds_of_worlds_are_among_them() -> None:
    ended = []
    for seed in range(40):
        world = World(seed, NEVER)
        world.play()
        ended.append(world.is_over)

    assert 5 < sum(ended) < 35


@pytest.mark.parametrize("first", [0, 10])
def test_whatever_dies_while_functions_lend_no_run_hangs_and_nothing_is_left(first: int) -> None:
    most_lent = 0
    for seed in range(first, first + 10):
        world = World(seed, 2.0, has_faults=True)

        world.play()
        # What ran on the other node, level by level.
        world.pass_time(LEVELS * (LEASE_S + 1.0))

        assert world.is_over, f"world {seed} hangs"
        most_lent = max(most_lent, world.most_lent)
        for node in world.live_nodes():
            scheduler = node.machine._scheduler
            assert node.machine.is_idle, f"world {seed}: something is left on {node.name}"
            assert node.machine.ledger.spare() == node.machine.capabilities, f"world {seed}: {node.name}"
            assert scheduler.roster.lent == 0, f"world {seed}: {node.name}"
            assert scheduler.roster.size == scheduler.roster.usual, f"world {seed}: {node.name}"
    assert most_lent > 1


def test_cancelled_run_ends_the_runs_of_its_functions_at_once() -> None:
    for seed in range(20):
        world = World(seed, NEVER)
        world.after(0.5, world.cancel)

        world.play()
        # Sessions of functions that were killed are silent, and their leases go on.
        world.pass_time(0.1)

        assert world.is_over
        assert world.nodes["n0"].machine.is_idle, f"world {seed}"
