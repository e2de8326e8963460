"""A node drains no longer than whoever runs it waits before it kills."""

import pytest

from handoff_actors.actors.node.host.containers import usual_drain_s

KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.mark.parametrize(
    ("variables", "files", "pids", "seconds"),
    [
        ({}, set(), (1, 0), 30.0),
        ({}, {"/.dockerenv"}, (1, 0), 8.0),
        ({}, {"/run/.containerenv"}, (7, 1), 8.0),
        ({}, {"/.dockerenv"}, (71, 70), 30.0),
        (KUBERNETES, set(), (1, 0), 25.0),
        (KUBERNETES, {"/.dockerenv"}, (71, 70), 25.0),
    ],
)
def test_drain_fits_the_time_that_a_container_has_to_stop(
    variables: dict[str, str], files: set[str], pids: tuple[int, int], seconds: float
) -> None:
    assert usual_drain_s(variables, files.__contains__, pids) == seconds
