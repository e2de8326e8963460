"""joblib's parallel loops, and so scikit-learn's, run on our workers."""

import multiprocessing
import os
import time
from concurrent.futures import BrokenExecutor
from typing import Any

import joblib
import numpy as np
import psutil
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from handoff_actors.integrations.joblib import register
from integrations.functions import die, increment

pytestmark = pytest.mark.processes


@pytest.fixture(autouse=True)
def _through_handoff() -> Any:
    register()
    with parallel_config("handoff"):
        yield


def test_results_come_in_order() -> None:
    assert Parallel(n_jobs=2)(delayed(increment)(n) for n in range(500)) == list(range(1, 501))


def test_work_is_done_in_other_processes() -> None:
    assert os.getpid() not in Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(4))


def test_all_cores_are_those_of_the_cluster() -> None:
    assert joblib.effective_n_jobs(-1) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_generators_yield_what_is_done(return_as: str) -> None:
    results = Parallel(n_jobs=2, return_as=return_as)(delayed(increment)(n) for n in range(20))

    assert sorted(results) == list(range(1, 21))


def test_an_exception_ends_the_loop_and_the_next_one_works() -> None:
    with pytest.raises(ZeroDivisionError):
        Parallel(n_jobs=2)(delayed(divmod)(1, n) for n in (2, 1, 0, 1))

    assert Parallel(n_jobs=2)(delayed(increment)(n) for n in range(3)) == [1, 2, 3]


def test_a_time_limit_ends_what_runs() -> None:
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(n_jobs=2, timeout=0.5)(delayed(time.sleep)(60) for _ in range(2))

    assert Parallel(n_jobs=2)(delayed(increment)(n) for n in range(3)) == [1, 2, 3]


def test_a_call_that_kills_its_workers_breaks_the_loop() -> None:
    with pytest.raises(BrokenExecutor):
        Parallel(n_jobs=2)(delayed(die)() for _ in range(2))


def nested_backend() -> str:
    return type(Parallel(n_jobs=2)._backend).__name__


def test_nested_loops_use_threads_in_the_worker() -> None:
    assert Parallel(n_jobs=2)(delayed(nested_backend)() for _ in range(2)) == ["ThreadingBackend"] * 2


def threads() -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def test_libraries_in_a_worker_get_the_threads_asked_for() -> None:
    with parallel_config("handoff", inner_max_num_threads=3):
        assert Parallel(n_jobs=2)(delayed(threads)() for _ in range(2)) == ["3", "3"]


def private_nbytes(_: object) -> int:
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def test_workers_do_not_keep_what_they_were_given() -> None:
    numbers = Parallel(n_jobs=2)(delayed(private_nbytes)(bytes(10_000_000)) for _ in range(24))

    assert max(numbers[12:]) < max(numbers[:12]) + 3 * 10_000_000


def test_scikit_learn_searches_and_grows_forests() -> None:
    samples, labels = load_iris(return_X_y=True)

    search = GridSearchCV(SVC(), {"C": [0.01, 1.0]}, n_jobs=2, cv=3).fit(samples, labels)
    forest = RandomForestClassifier(8, n_jobs=2, random_state=1).fit(samples, labels)
    alone = RandomForestClassifier(8, n_jobs=1, random_state=1).fit(samples, labels)

    assert search.best_params_ == {"C": 1.0}
    assert np.array_equal(forest.predict(samples), alone.predict(samples))
