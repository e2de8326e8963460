"""Run seed after seed until stopped, and print those that fail: python -m tests.simulation.soak [--start N] [--streams].

With --streams the worlds are those of `tests.simulation.streams`. A seed that has failed once belongs into `stream_seeds.txt`,
or `seeds.txt` for runs, which the suite runs again.
"""

import argparse
from itertools import count

from tests.simulation.streams import run_stream_world
from tests.simulation.worlds import run_world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=int, default=100_000)
    parser.add_argument("--streams", action="store_true", help="run worlds of streams, not of runs")
    options = parser.parse_args()
    run = run_stream_world if options.streams else run_world
    for seed in count(options.start):
        try:
            run(seed)
        except Exception as error:  # noqa: BLE001 - a KeyError is a finding, too
            print(f"seed {seed}: {error!r}", flush=True)
        if seed % 1000 == 0:
            print(f"at seed {seed}", flush=True)


if __name__ == "__main__":
    main()
