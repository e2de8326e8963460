import os
from collections.abc import Iterator

import pytest

from daemons import Daemons

# Before anything of ours is imported: every machine asserts its invariants after each event.
os.environ["HANDOFF_CHECK"] = "1"


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    """Starts daemons, which end with the test."""
    made = Daemons()
    yield made
    made.close()
