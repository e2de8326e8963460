"""The command `handoff` on a machine whose clock is an hour slow."""

import time

real_time_ns = time.time_ns
# Before anything else reads it.
time.time_ns = lambda: real_time_ns() - 3600 * 10**9

from handoff_actors.cli import main  # noqa: E402

if __name__ == "__main__":
    main(prog_name="handoff")
