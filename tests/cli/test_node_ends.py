"""Nodes that end by themselves: once they are idle, or when their time is over."""

import time

import pytest

import handoff_actors as handoff
from tests.cli.command import handoff as command
from tests.daemons import Daemons

pytestmark = pytest.mark.processes


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


async def test_an_idle_node_ends_even_while_apps_are_connected(daemons: Daemons) -> None:
    node = daemons.start("--idle", "3")
    dag = handoff.new()
    dag.call(sleep, 0.1, id="f")

    async with handoff.Session([node.address]) as session:
        run = await session.execute_distributed(dag)
        # A session without a run does not keep it.
        assert node.wait() == 0

    assert run.results["f"] == "slept"
    assert "it has served no run for 3 s" in node.log()
    assert node.leftovers() == []


async def test_a_node_drains_so_early_that_it_has_left_when_its_lifetime_is_over(daemons: Daemons) -> None:
    began = time.monotonic()
    node = daemons.start("--lifetime", "6", "--drain", "3")
    dag = handoff.new()
    dag.call(sleep, 0.5, id="f")

    async with handoff.Session([node.address]) as session:
        run = await session.execute_distributed(dag)

    assert run.results["f"] == "slept"
    assert node.wait() == 0
    assert time.monotonic() - began < 6.5
    assert "its lifetime is over" in node.log()


@pytest.mark.parametrize("span", ["soon", "-1", "nan", "inf", "5 m m", ""])
def test_what_is_no_time_span_is_refused_with_an_example(span: str) -> None:
    refused = command("node", "--idle", span)

    assert refused.returncode == 2
    assert "is no time span; one looks like 90, 90s, 5m, 1.5h or 2d" in refused.stderr
