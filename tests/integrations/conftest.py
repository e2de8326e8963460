from collections.abc import Iterator

import pytest

import handoff_actors as handoff


@pytest.fixture
def executor() -> Iterator[handoff.Executor]:
    with handoff.Executor(2) as executor:
        yield executor
