"""Churn for hours, on one fresh cluster after the other: python -m tests.faults.soak [--hours N] [--seed N]."""

import argparse
import asyncio
import os
import time
from itertools import count

# Before anything of ours is imported, as in the tests.
os.environ["HANDOFF_CHECK"] = "1"

from tests.daemons import Daemons
from tests.faults.churn import Churn

ROUND_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    ends_at = time.monotonic() + chosen.hours * 3600
    for seed in count(chosen.seed):
        if time.monotonic() >= ends_at:
            return
        daemons = Daemons()
        try:
            churn = Churn(daemons, seed)
            asyncio.run(churn.go_on_for(ROUND_S))
        finally:
            daemons.close()
        print(f"seed {seed}: {churn.tally}", flush=True)
        assert not churn.tally.complaints
        assert not churn.tally.runs["wrong"]


if __name__ == "__main__":
    main()
