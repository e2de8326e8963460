"""Run one seed again and print all that happens: python -m tests.simulation.replay SEED."""

import sys
import traceback

from tests.simulation.worlds import run_world


def main() -> int:
    trace: list[str] = []
    try:
        run_world(int(sys.argv[1]), trace)
    except AssertionError:
        print("\n".join(trace), traceback.format_exc(), sep="\n")
        return 1
    print("\n".join(trace))
    return 0


if __name__ == "__main__":
    sys.exit(main())
