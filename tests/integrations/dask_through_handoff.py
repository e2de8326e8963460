"""A pytest plugin: Dask's own tests, with our scheduler in the place of those that compute in this machine's processes.

`python -m pytest -p dask_through_handoff --pyargs dask.bag`, with this folder on PYTHONPATH.
"""

import dask.base
import dask.config

from handoff_actors.integrations.dask import get

for name in dask.base.named_schedulers:
    dask.base.named_schedulers[name] = get  # type: ignore[assignment]  # Dask's own type is narrower than its use
dask.config.set(scheduler=get)
