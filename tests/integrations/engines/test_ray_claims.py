"""Claims on Ray nodes: all that is free, or what was asked for."""

import pytest
from msgspec.structs import replace

from handoff_actors.ids import Resources
from handoff_actors.integrations.engines.ray_claims import RayClaim, RayLack, RayNode, claim_on

GB = 1_000_000_000
HEAD = {"node:10.0.0.1": 1.0, "object_store_memory": 5.0 * GB}


def ray_node(total: dict[str, float], free: dict[str, float] | None = None) -> RayNode:
    return RayNode("0" * 56, "10.0.0.1", "10.0.0.1", HEAD | total, HEAD | (total if free is None else free))


def test_all_of_an_idle_node_is_claimed() -> None:
    node = ray_node({"CPU": 8.0, "GPU": 2.0, "memory": 16.0 * GB, "licence": 3.0})

    assert claim_on(node, {}) == RayClaim(
        {"cpu": 8.0, "gpu": 2.0, "memory": 16_000.0}, {"CPU": 8.0, "GPU": 2.0, "memory": 16 * GB}
    )


def test_of_a_busy_node_whole_cores_and_devices_that_are_free_and_their_share_of_memory_are_claimed() -> None:
    node = ray_node(
        {"CPU": 8.0, "GPU": 2.0, "memory": 16.0 * GB}, {"CPU": 4.5, "GPU": 1.5, "memory": 16.0 * GB}
    )

    claim = claim_on(node, {})

    assert claim == RayClaim(
        {"cpu": 4.0, "gpu": 1.0, "memory": 8_000.0}, {"CPU": 4.0, "GPU": 1.0, "memory": 8 * GB}
    )


def test_no_more_memory_is_claimed_than_is_free() -> None:
    node = ray_node({"CPU": 4.0, "memory": 16.0 * GB}, {"CPU": 4.0, "memory": 3.0 * GB})

    assert claim_on(node, {}) == RayClaim({"cpu": 4.0, "memory": 3_000.0}, {"CPU": 4.0, "memory": 3 * GB})


@pytest.mark.parametrize(
    ("asked", "claimed"),
    [
        ({"cpu": 2.0, "gpu": 0.0}, {"cpu": 2.0, "gpu": 0.0, "memory": 4_000.0}),
        ({"cpu": 0.5, "memory": 100.0}, {"cpu": 0.5, "gpu": 2.0, "memory": 100.0}),
        ({"gpu": 1.0}, {"cpu": 8.0, "gpu": 1.0, "memory": 16_000.0}),
        ({"cpu": 1.0, "licence": 2.0}, {"cpu": 1.0, "gpu": 2.0, "licence": 2.0, "memory": 2_000.0}),
    ],
)
def test_what_is_asked_for_is_claimed_and_offered_and_memory_in_proportion(
    asked: Resources, claimed: Resources
) -> None:
    node = ray_node({"CPU": 8.0, "GPU": 2.0, "memory": 16.0 * GB, "licence": 3.0})

    claim = claim_on(node, asked)

    assert isinstance(claim, RayClaim)
    assert claim.capabilities == claimed


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({}, "it has 0 CPU in all, and 1 CPU are claimed"),
        ({"gpu": 1.0}, "it has 0 CPU in all, and 1 CPU are claimed"),
        ({"cpu": 2.0}, "it has 0 CPU in all, and 2 CPU are claimed"),
        (
            {"cpu": 0.0, "memory": 5_000.0},
            "it has 4000 MB of memory in all, and 5000 MB of memory are claimed",
        ),
    ],
)
def test_a_head_without_cores_never_suffices(asked: Resources, reason: str) -> None:
    assert claim_on(ray_node({"memory": 4.0 * GB}), asked) == RayLack(reason, is_for_good=True)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({}, "0.5 CPU of 4 CPU are free, and 1 CPU are claimed"),
        ({"cpu": 2.0}, "0.5 CPU of 4 CPU are free, and 2 CPU are claimed"),
        (
            {"cpu": 0.5, "memory": 3_000.0},
            "2000 MB of memory of 4000 MB of memory are free, and 3000 MB of memory are claimed",
        ),
    ],
)
def test_a_busy_node_may_suffice_later(asked: Resources, reason: str) -> None:
    node = ray_node({"CPU": 4.0, "memory": 4.0 * GB}, {"CPU": 0.5, "memory": 2.0 * GB})

    assert claim_on(node, asked) == RayLack(
        f"other work of Ray has its resources: {reason}", is_for_good=False
    )


def test_a_node_that_is_going_to_be_removed_is_not_claimed() -> None:
    node = replace(ray_node({"CPU": 4.0, "memory": 4.0 * GB}), is_draining=True)

    assert claim_on(node, {}) == RayLack("Ray is going to remove it", is_for_good=True)
