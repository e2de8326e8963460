"""The command `handoff` of a node whose event loop stands still from SIGUSR1 on, while its other threads go on."""

import signal
import time

from handoff_actors.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda _number, _frame: time.sleep(600))
    main(prog_name="handoff")
