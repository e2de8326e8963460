"""A pytest plugin: joblib's own tests, with our backend under its name and in the place of loky, the default.

`python -m pytest -p joblib_through_handoff --pyargs joblib.test.test_parallel`, with this folder on PYTHONPATH.
"""

from joblib.parallel import register_parallel_backend

from handoff_actors.integrations.joblib import HandoffBackend, register

register()
register_parallel_backend("loky", HandoffBackend, make_default=True)
