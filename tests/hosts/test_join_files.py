"""Hosts that share a directory, and neither names for one another nor a way to the rest of the world."""

from pathlib import Path

import pytest

from tests.daemons import Daemons
from tests.hosts.network import KEY, Host

pytestmark = [pytest.mark.processes, pytest.mark.hosts]

APP = """
import asyncio, json, sys, time
import handoff_actors as handoff

async def main():
    async with handoff.Session(join_file=sys.argv[1], join_wait=30) as session:
        while len(await session.discover_nodes()) < 3:
            await asyncio.sleep(0.05)
        dag = handoff.new()
        for _ in range(6):
            dag.call(time.sleep, 0.3, cost={"cpu": 1})
        run = await session.execute_distributed(dag)
        print(json.dumps(sorted(set(run.allocations.values()))))

asyncio.run(main())
"""


def test_members_know_one_another_by_address_where_names_lead_nowhere(
    hosts: list[Host], daemons: Daemons, tmp_path: Path
) -> None:
    directory = str(tmp_path / "join")
    nodes = [
        # As on a compute node: the login node does not know its name.
        daemons.start(
            "--name", f"h{number}", "--cpu", "1", "--join-file", directory, "--listen", "tcp://*:0",
            variables=KEY, prefix=(*host.prefix, "unshare", "--uts", "sh", "-c", f'hostname h{number}.unknown && exec "$@"', "sh"),
        )
        for number, host in enumerate(hosts[:3], start=1)
    ]  # fmt: skip

    used = hosts[3].run_script(APP, directory)

    assert used == ["h1", "h2", "h3"]
    assert [node.address.rpartition(":")[0] for node in nodes] == [
        f"tcp://{host.address}" for host in hosts[:3]
    ]
