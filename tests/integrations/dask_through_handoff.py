"""A pytest plugin: Dask's own tests, with our scheduler in the place of those that compute in this machine's processes.

`python -m pytest -p dask_through_handoff --pyargs dask.bag`, with this folder on PYTHONPATH.
"""

import dask.base
import dask.config
import pytest

from handoff_actors.integrations.dask import get

dask.base.named_schedulers.update(dict.fromkeys(dask.base.named_schedulers, get))
dask.config.set(scheduler=get)
