"""An app on a host of its own: python -m tests.faults.distant_app SEED NODES SECONDS.

Runs one function on each node that takes so long, and one that takes all their results. The last line of its output is
what has become of them, in JSON; a line before says that all functions have been sent.
"""

import asyncio
import json
import sys

import handoff_actors as handoff
from tests.faults import functions
from tests.faults.observing import Observer, until
from tests.faults.watchdog import Watchdog


async def main(seed: str, nodes: int, seconds: float) -> None:
    async with handoff.Session(seeds=[seed]) as session, asyncio.TaskGroup() as tasks:
        watchdog = Watchdog(session)
        await until(session, lambda: len(session._hub._connections.ups()) == nodes)
        seen = Observer()
        running = tasks.create_task(
            session.execute_distributed(
                work_for(nodes, seconds), allocation_strategy="load_balanced", on_event=seen
            )
        )
        for number in range(nodes):
            await seen.until("assigned", number)
        print("sent", flush=True)
        run = await running
        kinds = seen.kinds()
        await run.release()
        await until(session, lambda: is_as_before(session, nodes))
        watchdog.close()
        print(
            json.dumps(
                {
                    "length": run.results["length"],
                    "kinds": kinds,
                    "lost": sorted(event.node for event in seen.events if event.kind == "lost"),
                    "complaints": watchdog.complaints,
                }
            )
        )


def work_for(nodes: int, seconds: float) -> handoff.DAG:
    dag = handoff.DAG().add_functions(
        handoff.Function(number, [], functions.hold, extra_args=[seconds, number], cost={"cpu": 1})
        for number in range(nodes)
    )
    return dag.add_function(handoff.Function("length", list(range(nodes)), functions.measure))


def is_as_before(session: handoff.Session, nodes: int) -> bool:
    """True if all nodes are there, and none has anything left of a run."""
    adverts = session._hub._connections.adverts()
    return len(adverts) == nodes and all(
        advert.spare == advert.capabilities and advert.stored == 0 for advert in adverts
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
