"""A pytest plugin: joblib's own tests, with our backend under its name and in the place of loky, the default.

`python -m pytest -p tests.integrations.joblib_through_handoff --pyargs joblib.test.test_parallel`, with the root of the repository on PYTHONPATH.
"""

import pytest
from joblib.parallel import register_parallel_backend

from handoff_actors.integrations.joblib import HandoffBackend, register
from tests.integrations.not_applicable import JOBLIB, skip

register()
register_parallel_backend("loky", HandoffBackend, make_default=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Pytest's hook."""
    skip(items, JOBLIB)
