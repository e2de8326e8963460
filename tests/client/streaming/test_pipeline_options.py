"""Options of streams are checked before anything runs."""

from typing import Any

import pytest

import handoff_actors as handoff
from tests.client.streaming import stages
from tests.client.streaming.test_pipelines import chain


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"in_flight": 0}, ValueError),
        ({"in_flight": 1.5}, ValueError),
        ({"in_flight": True}, ValueError),
        ({"in_flight_mb": 0}, ValueError),
        ({"in_flight_mb": "many"}, ValueError),
        ({"ordered": "yes"}, TypeError),
        ({"join_timeout": 0}, ValueError),
        ({"errors": "ignore"}, ValueError),
        ({"max_retries": -1}, ValueError),
        ({"allocation_timeout": -1}, ValueError),
        ({"allocation_strategy": 3}, TypeError),
        ({"output": "loud"}, ValueError),
        ({"env_vars": {"A": 1}}, ValueError),
        ({"working_dir": 3}, ValueError),
        ({"modules_by_value": "os"}, TypeError),
        ({"in_fligth": 3}, TypeError),
    ],
)
async def test_options_that_are_not_allowed_are_named(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(options))):
        handoff.Session().stream(chain(stages.increment), **options)


async def test_graph_that_can_not_be_a_stream_is_refused() -> None:
    dag = handoff.DAG()
    dag.call(stages.start_counting)
    with pytest.raises(handoff.DagError):
        handoff.stream(dag)
    with pytest.raises(TypeError, match="DAG"):
        handoff.stream(stages.increment)  # type: ignore[arg-type]
