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

#: Where each contender is; only the one that is measured may be imported.
CONTENDERS = {
    "ours": "benchmarks.ours:CONTENDER",
    "dask": "benchmarks.with_dask:CONTENDER",
    "pool": "benchmarks.floor:POOL",
    "local": "benchmarks.floor:LOCAL",
}


async def measure(workload: str, contender: Contender) -> Figures:
    return await MEASURES[workload](contender)


def main(contender: str, workload: str) -> None:
    measured = cast("Contender", pkgutil.resolve_name(CONTENDERS[contender]))
    print(json.dumps(asyncio.run(measure(workload, measured))))


if __name__ == "__main__":
    main(*sys.argv[1:])
