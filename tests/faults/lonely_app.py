"""An app for a test to kill: python -m tests.faults.lonely_app SEED STARTED GATE."""

import asyncio
import sys

import handoff_actors as handoff
from tests.faults import functions


async def main(seed: str, started: str, gate: str) -> None:
    dag = handoff.DAG().add_function(handoff.Function("made", [], functions.make))
    dag.add_function(
        handoff.Function(
            "running", ["made"], functions.wait_for_with, extra_args=[started, gate], cost={"cpu": 1}
        )
    )
    async with handoff.Session(seeds=[seed]) as session:
        await session.execute_distributed(dag)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
