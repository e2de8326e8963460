from collections.abc import Iterator

import pytest

from tests.slurm import SlurmCluster, why_not


@pytest.fixture
def slurm() -> Iterator[SlurmCluster]:
    """A Slurm cluster of the machines n1 and n2, with four cores and 4,000 MB each."""
    if reason := why_not():
        pytest.skip(reason)
    with SlurmCluster() as cluster:
        yield cluster
