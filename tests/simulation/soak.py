"""Run seed after seed until stopped, and print those that fail: python -m tests.simulation.soak [--start N]."""

import argparse
from itertools import count

from tests.simulation.worlds import run_world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=int, default=100_000)
    for seed in count(parser.parse_args().start):
        try:
            run_world(seed)
        except Exception as error:  # noqa: BLE001 - a KeyError is a finding, too
            print(f"seed {seed}: {error!r}", flush=True)
        if seed % 1000 == 0:
            print(f"at seed {seed}", flush=True)


if __name__ == "__main__":
    main()
