"""A pytest plugin: Dask's own tests, with our scheduler in the place of those that compute in this machine's processes.

`python -m pytest -p tests.integrations.dask_through_handoff --pyargs dask.bag`, with the root of the repository on PYTHONPATH.
"""

import dask.base
import dask.config
import pytest

from handoff_actors.integrations.dask import get
from tests.integrations.not_applicable import DASK, skip

for name in dask.base.named_schedulers:
    dask.base.named_schedulers[name] = get  # type: ignore[assignment]  # Dask's own type is narrower than its use
dask.config.set(scheduler=get)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Pytest's hook."""
    skip(items, DASK)
