"""A joblib backend: `with joblib.parallel_config("handoff"):`, once this module has been imported.

The backend behaves as joblib's own backend of processes, loky: the same batching, the same nesting (threads within a
worker, then one after the other), the same limits of the threads of numerical libraries. Only the place of the work
differs.
"""

import multiprocessing
import os
import warnings
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from handoff_actors.integrations.background import BackgroundSession, shared
from handoff_actors.integrations.executor import Executor

try:
    from joblib._parallel_backends import AutoBatchingMixin, FallbackToBackend
    from joblib.parallel import (
        EXTERNAL_BACKENDS,
        ParallelBackendBase,
        SequentialBackend,
        register_parallel_backend,
    )
except ImportError as missing:
    from handoff_actors.extras import how_to_install

    raise ImportError(
        f"handoff_actors.integrations.joblib needs joblib 1.4 or later: {how_to_install('joblib')}"
    ) from missing

T = TypeVar("T")

try:
    from handoff_actors.integrations.arrays import ArrayBatch, SharedArrays
except ImportError:  # without numpy there are no arrays
    SharedArrays = None  # type: ignore[assignment,misc]

NAME = "handoff"


class HandoffBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """The backend "handoff". Options may be given to `parallel_config`.

    `session` is, by default, this process's shared one, which uses the cluster of HANDOFF_SEEDS or starts a node. Each
    batch of calls claims `cost`, and runs on one of `nodes`, if given.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        session: BackgroundSession | None = None,
        cost: Mapping[str, float] | None = None,
        nodes: Collection[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **options)
        self._session = session
        self._cost = cost
        self._nodes = nodes
        self._workers: Executor | None = None
        self._arrays: SharedArrays | None = None

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        max_nbytes: int | None = None,
        mmap_mode: str | None = None,
        **_options: Any,
    ) -> int:
        """See ParallelBackendBase."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        background = self._session or shared()
        self._workers = Executor(
            n_jobs,
            session=background,
            initializer=prepare_worker,
            initargs=(self._prepare_worker_env(n_jobs),),
            cost=self._cost,
            nodes=self._nodes,
        )
        is_shared = SharedArrays is not None and not background.has_cluster
        if is_shared and max_nbytes is not None and mmap_mode is not None:
            self._arrays = SharedArrays(max_nbytes, mmap_mode)
        self.parallel = parallel
        return n_jobs

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return the number of jobs asked for; a negative number counts down from the cluster's cores.

        Below threads the number is 1, as with loky.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        # Below threads there would be a pool for each; a daemonic process cannot have children.
        if not (self.in_main_thread() or self.nesting_level == 0) or multiprocessing.current_process().daemon:
            if n_jobs != 1:
                warnings.warn(
                    "Handoff-backed parallel loops cannot be nested here, setting n_jobs=1", stacklevel=3
                )
            return 1
        return n_jobs if n_jobs > 0 else max(self._cores() + 1 + n_jobs, 1)

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Future[Any]:
        """See ParallelBackendBase."""
        assert self._workers is not None
        calls = func if self._arrays is None else ArrayBatch(func, self._arrays)
        # The calls are an argument, as workers keep code for a while.
        future = self._workers.submit(run_batch, calls)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """See ParallelBackendBase."""
        return out.result()

    def stop_call(self) -> None:
        """See ParallelBackendBase."""
        if self._arrays is not None:
            self._arrays.clear()

    def terminate(self) -> None:
        """See ParallelBackendBase. The session and its workers stay for the next call."""
        if self._workers is not None:
            self._workers.shutdown(wait=False)
            self._workers = None
        self.stop_call()
        self._arrays = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """See ParallelBackendBase."""
        if self._workers is not None:
            self._workers.terminate_workers()
            self._workers = None
        if ensure_ready:
            options = self.parallel._backend_kwargs  # noqa: SLF001 - as it has configured this backend
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel, **options)

    def _cores(self) -> int:
        offers = (self._session or shared()).run(lambda session: session.discover_nodes())
        usable = (offer for name, offer in offers.items() if not self._nodes or name in self._nodes)
        return int(sum(offer.get("cpu", 0.0) for offer in usable))


def run_batch(calls: Callable[[], T]) -> T:
    """Run in a worker: make the calls of a batch."""
    return calls()


def prepare_worker(variables: Mapping[str, str]) -> None:
    """Run in a worker: limit the threads of numerical libraries, loaded already or not yet."""
    os.environ.update(variables)
    try:
        from threadpoolctl import threadpool_limits  # noqa: PLC0415 - few programs have it
    except ImportError:
        return
    threadpool_limits(int(variables["OMP_NUM_THREADS"]))


def register() -> None:
    """Make the backend known to joblib under its name."""
    register_parallel_backend(NAME, HandoffBackend)


EXTERNAL_BACKENDS[NAME] = register
register()
