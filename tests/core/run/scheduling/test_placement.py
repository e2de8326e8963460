import pytest

from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.placement import POLICIES, Need, spare_share
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.core.run.scheduling.scheduler import Scheduler
from handoff_actors.core.run.scheduling.session_load import SessionLoad
from handoff_actors.graph import Function
from handoff_actors.ids import Index, Resources, RunId
from handoff_actors.wire.messages.jobs import Done
from tests.core import builders
from tests.core.builders import code, node_up, program_of


def node_state(name: str, capabilities: Resources, *, workers: int = 2, busy: int = 0) -> NodeState:
    node = builders.node_state(node_up(name, capabilities, workers=workers))
    node.add(range(busy), RequirementClass(0, {"cpu": 1.0}, is_async=False))
    return node


SMALL, LARGE = {"cpu": 2.0}, {"cpu": 8.0}


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [("most_spare", "large"), ("first_available", "busy"), ("load_balanced", "large"), ("locality", "near")],
)
def test_policy_chooses_as_its_name_says(policy: str, chosen: str) -> None:
    nodes = [node_state("busy", LARGE, busy=7), node_state("large", LARGE), node_state("near", SMALL)]
    need = Need("x", {"cpu": 1.0}, 1000, {"near": 1000})

    node = POLICIES[policy].choose(need, nodes)

    assert node is not None
    assert node.name == chosen


def test_bytes_that_would_have_to_move_count_against_spare_room() -> None:
    nodes = [node_state("far", LARGE), node_state("near", SMALL)]

    node = POLICIES["most_spare"].choose(Need("x", {"cpu": 1.0}, 10**8, {"near": 10**8}), nodes)

    assert node is nodes[1]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_policy_chooses_none_without_nodes(policy: str) -> None:
    assert POLICIES[policy].choose(Need("x", {}, 0, {}), []) is None


def test_share_is_below_zero_where_functions_wait() -> None:
    assert spare_share(node_state("a", SMALL, busy=3), {"cpu": 1.0}) == -1.0
    assert spare_share(node_state("a", SMALL, busy=3), {"cpu": 1.0}, is_claimed=True) == -0.5
    assert spare_share(node_state("a", SMALL, workers=2, busy=3), {}) == -1.0


def test_share_without_a_claim_is_that_of_workers() -> None:
    assert spare_share(node_state("a", SMALL, workers=4, busy=1), {}) == 0.5
    assert spare_share(node_state("a", {}), {"cpu": 0.0}) == 0.0


def test_need_learns_how_long_functions_take() -> None:
    program = program_of(Function("x", [], code))
    state = RunState(program.plan)
    scheduler = Scheduler(RunId(1), program, state, POLICIES["most_spare"], SessionLoad())
    (need,) = scheduler.needs.classes

    ahead = [need.ahead(0.0)]
    for seconds in (1.0, 0.0, 0.0):
        scheduler.learn([Done(Index(0), 1, b"", 1, seconds)])
        ahead.append(need.ahead(0.0))

    assert ahead == [1, 1, 1, 1]
    assert need.seconds == pytest.approx(0.49)


def test_claims_of_others_are_what_is_claimed_beyond_our_own() -> None:
    node = node_state("a", {"cpu": 4.0}, busy=1)

    node.load.update(node_up("a", {"cpu": 4.0}, spare={"cpu": 2.5}))

    assert node.others == {"cpu": 0.5}
    assert node.spare == {"cpu": 2.5}
