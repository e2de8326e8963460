"""Two small daemons that know each other."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.daemons import Daemon, Daemons


@contextmanager
def pair() -> Iterator[list[Daemon]]:
    daemons = Daemons()
    try:
        first = start(daemons, "n1")
        yield [first, start(daemons, "n2", "--join", first.address)]
    finally:
        daemons.close()


def start(daemons: Daemons, name: str, *options: str) -> Daemon:
    """Start a daemon with one core and 1,000 MB, whose workers can import the tests."""
    variables = {"PYTHONPATH": os.pathsep.join(sys.path), "HANDOFF_CHECK": "1"}
    return daemons.start("--name", name, "--cpu", "1", "--memory", "1000", *options, variables=variables)
