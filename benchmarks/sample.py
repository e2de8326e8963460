"""One sample: measure one workload with one contender in this fresh process; print the figures as JSON.

`python -m benchmarks.sample ours fanout`
"""

import asyncio
import json
import pkgutil
import sys
from typing import cast

from benchmarks.contender import Contender
from benchmarks.measures import MEASURES, Figures
from benchmarks.peers import OURS, PEERS


async def measure(workload: str, contender: Contender) -> Figures:
    return await MEASURES[workload](contender)


def main(contender: str, workload: str) -> None:
    place = "benchmarks.ours:CONTENDER" if contender == OURS else PEERS[contender].contender
    measured = cast("Contender", pkgutil.resolve_name(place))
    print(json.dumps(asyncio.run(measure(workload, measured))))


if __name__ == "__main__":
    main(*sys.argv[1:])
