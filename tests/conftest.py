from collections.abc import Iterator

import pytest

from daemons import Daemons


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    """Starts daemons, which end with the test."""
    made = Daemons()
    yield made
    made.close()
