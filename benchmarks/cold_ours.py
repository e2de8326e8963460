"""A whole program: import, embedded node, first DAG, exit."""

import asyncio

import handoff_actors as handoff
from benchmarks.workloads import branching


async def main() -> None:
    await handoff.register_local_node({"cpu": 2}, workers=2)
    dag = handoff.DAG()
    for key, code, takes in branching().steps:
        dag.add_function(handoff.Function(key, takes, code, cost={"cpu": 1}))
    run = await handoff.execute_distributed(dag)
    assert run.results["join"] == branching().expected["join"]
    await handoff.shutdown()


asyncio.run(main())
